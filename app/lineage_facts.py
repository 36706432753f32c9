"""Lineage as fragments of a page: what a column is, what feeds it, what it feeds, what changed. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.landed_reads import Load
from app.markup import Cell, Column, Html, Table
from app.night_facts import VERDICT
from lineage.columns import ROWS, ColumnGraph, Transformation
from lineage.documentation import UNDOCUMENTED, TableDoc
from lineage.graph import Difference, Impact, Reached
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.land import ACCEPTED, LANDED, SUPERSEDED
from pipeline.ledger import DbtResult, GateVerdict

_FEATURES = "features."
_STATE = {ACCEPTED: "ok", LANDED: "none", SUPERSEDED: "none"}
# A schema's tables → the pages whose figures are made of them.
_PAGES = {"features": ("Drift", "Scores"), "scores": ("Tonight", "Scores", "Outcomes", "Drift")}


def description(node: str, doc: TableDoc) -> str:
    """What the project, or the contract of a landed table, says a column is."""
    table, _, column = node.rpartition(".")
    if column == ROWS:
        return f"The rows of {table}, as they are counted. {doc.description}"
    said = doc.column(column).description
    if not said and table.startswith("raw.") and (contract := CONTRACTS.get(table.removeprefix("raw."))):
        said = next((c.description for c in (*contract.columns, *LANDING_COLUMNS) if c.name == column), "")
    return said


def column_facts(
    node: str,
    sql_type: str,
    model: str | None,
    doc: TableDoc,
    rows: tuple[int, bool] | None,
    fresh: GateVerdict | None,
    currency: str,
) -> Html:
    """A chosen column: its type, unit, owner, the rows of its table and how fresh they were.

    rows: how many, and whether they are the night's alone. fresh: the night's verdict on the age of a landed table.
    """
    table, _, column = node.rpartition(".")
    declared = doc.column(column).declared
    unit = str(declared.get("unit") or _landed_unit(table, column) or formats.MISSING).replace("currency", currency)
    owner = str(declared.get("owner") or doc.owner or formats.MISSING)
    held: tuple[str, str] = ("view", "computed when read") if doc.view else (formats.MISSING, "not in the lake")
    if rows is not None:
        held = formats.count(rows[0]), "of the night" if rows[1] else "as that night saw it"
    items: list[tuple[str, Cell, Cell]] = [
        ("Type", sql_type or formats.MISSING, ""),
        ("Unit", unit, ""),
        ("Owner", owner, ""),
        ("Made by", model or "landed", table),
        ("Rows", *held),
        ("Freshness", *_freshness(model, fresh)),
    ]
    words = [description(node, doc), str(declared.get("rationale") or "")]
    null_policy = declared.get("null_policy")
    more = f"<p class='quiet'>Null: {markup.html(str(null_policy))}</p>" if null_policy else ""
    said = " ".join(markup.html(w) for w in words if w) or markup.quiet("The project says nothing of it.").text
    return Html(f"<p>{said}</p>{more}{markup.GAP}{markup.facts(items)}")


def _landed_unit(table: str, column: str) -> str:
    """The unit that the contract of a landed table gives a column; empty where it has none."""
    contract = CONTRACTS.get(table.removeprefix("raw.")) if table.startswith("raw.") else None
    found = next((c for c in contract.columns if c.name == column), None) if contract else None
    return found.measured_in if found else ""


def load_table(loads: Sequence[Load], zone: ZoneInfo) -> Table:
    """Loads of one raw table; the first column holds their ids."""
    columns = [Column("load"), Column("of"), Column("state"), Column("rows", "number"), Column("landed"),
               Column("files, and why it is not used", "fill clip")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            x.load_id,
            formats.day(x.load_date),
            markup.status(_STATE.get(x.state, "stop"), x.state),
            formats.count(x.rows),
            markup.at(x.landed_at, zone, seconds=True),
            _files(x),
        ]
        for x in loads
    ]
    return markup.table(columns, rows, "Loads, newest first")


def load_facts(load: Load, zone: ZoneInfo) -> Html:
    """One load's figures side by side, and its files with their SHA-256."""
    facts = markup.facts(
        [
            ("State", markup.status(_STATE.get(load.state, "stop"), load.state), load.reason),
            ("Rows", formats.count(load.rows), "up to the night"),
            ("Of", formats.day(load.load_date), ""),
            ("Landed", markup.at(load.landed_at, zone, with_day=False, seconds=True), formats.day(
                load.landed_at.astimezone(zone).date())),
        ]
    )  # fmt: skip
    files = "".join(f"<p>{markup.html(file)} {markup.digest(sha256)}</p>" for file, sha256 in load.files)
    return Html(f"{facts}{markup.GAP}{files}{markup.GAP}")


def _files(load: Load) -> Html:
    """A load's files, and of one that no night reads the reason; hovering gives their SHA-256."""
    told = ", ".join(file for file, _ in load.files)
    why = f": {load.reason}" if load.reason and load.state != ACCEPTED else ""
    return markup.hint(told + why, "; ".join(f"{file}, SHA-256 {sha}" for file, sha in load.files) + why)


def _freshness(model: str | None, fresh: GateVerdict | None) -> tuple[Cell, Cell]:
    """Of a landed table the age of its newest rows, as the night's gate judged it."""
    if model:
        return "that night", "built by the run"
    if fresh is None or fresh.observed is None:
        return formats.MISSING, "no verdict that night"
    age = f"{formats.count(round(fresh.observed))} {'day' if fresh.observed == 1 else 'days'} old"
    level, word = VERDICT.get(fresh.verdict, ("stop", fresh.verdict))
    return age, markup.join([markup.status(level, word), formats.sentence(fresh.expected)], " ")


def column_table(nodes: Sequence[str], graph: ColumnGraph, docs: Mapping[str, TableDoc], caption: str) -> Table:
    """Columns with their type, who makes them and what they are; the first column holds their names."""
    columns = [Column("column"), Column("type"), Column("made by"), Column("what it is", "fill clip")]
    facts = [(n, graph.columns.nodes[n]) for n in nodes]
    rows: list[list[Cell]] = [
        [n, f["type"] or formats.MISSING, f["model"] or "landed", _said(n, docs)] for n, f in facts
    ]
    return markup.table(columns, rows, caption)


def column_rows(nodes: Sequence[str], graph: ColumnGraph, docs: Mapping[str, TableDoc]) -> Iterator[dict[str, str]]:
    """The same as rows of a file."""
    for n in nodes:
        facts = graph.columns.nodes[n]
        yield {
            "column": n,
            "type": str(facts["type"] or ""),
            "made_by": str(facts["model"] or "landed"),
            "what_it_is": _meaning(n, docs),
        }


def neighbour_table(found: Sequence[Reached], docs: Mapping[str, TableDoc], caption: str) -> Table:
    """Columns next to the chosen one; the first column holds their names."""
    columns = [Column("column"), Column("how"), Column("kind"), Column("what it is", "fill clip")]
    rows: list[list[Cell]] = [
        [r.node, "value" if r.direct else "decides", kinds(r.transformations), _said(r.node, docs)] for r in found
    ]
    return markup.table(columns, rows, caption)


def neighbour_rows(found: Sequence[Reached], docs: Mapping[str, TableDoc]) -> list[dict[str, str]]:
    """The same as rows of a file."""
    return [
        {
            "column": r.node,
            "how": "value" if r.direct else "decides",
            "kind": kinds(r.transformations),
            "what_it_is": _meaning(r.node, docs),
        }
        for r in found
    ]


def _meaning(node: str, docs: Mapping[str, TableDoc]) -> str:
    return description(node, docs.get(node.rpartition(".")[0], UNDOCUMENTED))


def _said(node: str, docs: Mapping[str, TableDoc]) -> Html:
    """What a column is, cut where the table ends and whole on hover."""
    said = _meaning(node, docs)
    return markup.hint(said, said) if said else markup.quiet("not described")


def kinds(transformations: Sequence[Transformation]) -> str:
    """OpenLineage's kinds, in words: ``aggregation, filter``."""
    return ", ".join(sorted({t.subtype.lower().replace("_", " ") for t in transformations}))


def test_table(tests: Sequence[DbtResult]) -> Table:
    """The tests of one column that night, with how they ended."""
    columns = [Column("test"), Column("result"), Column("rows that failed", "number fill")]
    rows: list[list[Cell]] = [
        [
            markup.hint(r.unique_id.split(".")[2], r.unique_id),
            markup.status(*VERDICT.get(r.status, ("stop", r.status))),
            formats.count(r.failures),
        ]
        for r in tests
    ]
    return markup.table(columns, rows, "Tests of this column", fit=True)


def reached(impact: Impact) -> Html:
    """What a column's consequences are called: models that score by it, dbt models, marts, and pages of the portal."""
    scoring = [m for m in impact.models if " version " in m]
    schemas = dict.fromkeys(r.table.partition(".")[0] for r in impact.columns)
    lines = (
        ("Scores by", scoring),
        ("dbt models", [m for m in impact.models if m not in scoring]),
        ("Marts", impact.marts),
        ("Pages", sorted({page for schema in schemas for page in _PAGES.get(schema, ())})),
    )
    return Html("".join(f"<p><b>{name}</b> {markup.html(', '.join(found))}</p>" for name, found in lines if found))


def features_in(impact: Impact) -> tuple[Reached, ...]:
    """The features of the feature tables among what a column feeds."""
    return tuple(r for r in impact.columns if r.table in ("features.account_features", "features.application_features"))


def impact_orders(importance: Mapping[str, Mapping[str, float]]) -> Mapping[str, Callable[[Reached], Any]]:
    """What features downstream are ordered by; importance as ``impact_table``'s."""
    return {
        "feature": lambda r: r.column,
        "of": lambda r: r.table,
        "importance": lambda r: weight(r, importance),
        "how": lambda r: not r.direct,
    }


def impact_table(
    features: Sequence[Reached],
    importance: Mapping[str, Mapping[str, float]],
    docs: Mapping[str, TableDoc],
    order: str,
) -> Table:
    """Features downstream, in the order given. importance: feature table → feature → share of the gain."""
    columns = [Column("feature", order="feature"), Column("of", order="of"),
               Column("importance", "number", order="-importance"), Column("how", order="how"),
               Column("what it is", "fill clip")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            r.column,
            r.table.removeprefix(_FEATURES).removesuffix("_features"),
            formats.share(weight(r, importance)),
            markup.hint("value" if r.direct else "decides", kinds(r.transformations)),
            _said(r.node, docs),
        ]
        for r in features
    ]
    return markup.table(columns, rows, "Features downstream", order=order)


def impact_rows(
    features: Sequence[Reached], importance: Mapping[str, Mapping[str, float]]
) -> Iterator[dict[str, str | float | None]]:
    """The same as rows of a file."""
    for r in features:
        yield {
            "table": r.table,
            "feature": r.column,
            "importance": weight(r, importance),
            "how": "value" if r.direct else "decides",
            "kind": kinds(r.transformations),
            "hops": r.distance,
        }


def weight(found: Reached, importance: Mapping[str, Mapping[str, float]]) -> float | None:
    """A feature's share of its model's gain; None when no model of the night reads it."""
    return importance.get(found.table, {}).get(found.column)


def difference_table(now: ColumnGraph, then: ColumnGraph, difference: Difference) -> Table:
    """Tables whose SQL is another in the two runs, with both hashes."""
    columns = [Column("table"), Column("model"), Column("SQL then"), Column("SQL now", "fill")]
    rows: list[list[Cell]] = [
        [
            table,
            now.tables[table].model or formats.MISSING,
            markup.digest(then.tables[table].sql_sha256),
            markup.digest(now.tables[table].sql_sha256),
        ]
        for table in difference.models_changed
    ]
    return markup.table(columns, rows, "Tables whose SQL changed", fit=True)


def change_rows(difference: Difference) -> list[dict[str, str]]:
    """Columns and edges that came, went or changed their way, as rows of a file."""
    found = [("column added", c, "", "") for c in difference.columns_added]
    found += [("column removed", c, "", "") for c in difference.columns_removed]
    for word, steps in (("edge added", difference.edges_added), ("edge removed", difference.edges_removed)):
        found += [(word, s.source, s.target, kinds(s.transformations)) for s in steps]
    found += [
        ("way changed", s.source, s.target, f"{kinds(old.transformations)} → {kinds(s.transformations)}")
        for old, s in difference.changed
    ]
    return [dict(zip(("change", "from", "to", "way"), row, strict=True)) for row in found]


def change_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """``change_rows`` as a table, in the order given."""
    columns = [Column("change"), Column("from"), Column("to"), Column("way", "fill")]
    return markup.table(columns, [list(row.values()) for row in rows], "Columns and edges that changed", fit=True)


def counted(difference: Difference) -> str:
    """How many of each, in a sentence."""
    parts = (
        (len(difference.models_changed), "table with other SQL", "tables with other SQL"),
        (len(difference.columns_added), "column added", "columns added"),
        (len(difference.columns_removed), "column removed", "columns removed"),
        (len(difference.edges_added), "edge added", "edges added"),
        (len(difference.edges_removed), "edge removed", "edges removed"),
        (len(difference.changed), "way changed", "ways changed"),
    )
    return ", ".join(f"{formats.count(n)} {one if n == 1 else many}" for n, one, many in parts if n) or "no difference"
