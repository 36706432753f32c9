"""Explanations as fragments of a page: the verdict, features, their rows, why a score moved. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from lineage.changes import BASE, Part, Why
from lineage.personal_data import MASK, TOGETHER
from lineage.trace import Proof, Source, TracedFeature
from pipeline.contracts import CONTRACTS, ID, LANDING_COLUMNS, MONEY
from pipeline.contracts import Column as ContractColumn

ROWS_SHOWN = 50
_HEADS = {"load_date": "loaded", "source_file": "file", "source_row": "record"}
_PARTS = {
    "time": "the same rows asked on the later night: windows roll on, ages grow",
    "restated": "rows of which a newer version came",
    "went": "rows that are no longer there",
    "came": "rows that are new",
    "definition": "the SQL of a feature is another",
    "model": "another model version scored",
}


class Explanatory(Protocol):
    """A feature with its value and its contribution, traced or not."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def contribution(self) -> float | None: ...
    @property
    def description(self) -> str: ...
    @property
    def declared(self) -> Mapping[str, Any]: ...


def verdict(proof: Proof) -> Html:
    """Whether the rows shown give the stored score again, to the bit."""
    features = formats.count(proof.features)
    rows, seconds = formats.plural(proof.rows, "source row"), f"{proof.seconds:.2f}{formats.THIN}s"
    if proof.features_equal and proof.score_equal:
        told = f"{features} of {features} features and the score computed again from {rows}, equal bit for bit, in "
        title = markup.status("ok", "Proved:")
        return Html(f"<p>{title} {markup.html(told)}{seconds}</p>")
    wrong = len({d.name for d in proof.differences})
    failed = f"Not proved: {formats.plural(wrong, 'value')} computed again from {rows} differ from what is stored"
    columns = [Column("value"), Column("stored", "number"), Column("computed again", "number fill")]
    lines = [[d.name, value(d.stored), value(d.replayed)] for d in proof.differences]
    table = markup.table(columns, lines, "Values that do not come out as stored", fit=True)
    return Html(f"<p>{markup.status('stop', failed)}</p>{table}")


ORDERS: Mapping[str, Callable[[Explanatory], Any]] = {
    "feature": lambda f: f.name,
    "contribution": lambda f: f.contribution,
    "strength": lambda f: None if f.contribution is None else abs(f.contribution),
}


def feature_table(
    features: Sequence[Explanatory], chosen: str | None, caption: str, currency: str, order: str | None = None
) -> Table:
    """Features with value, unit, contribution and definition; the first column holds the names."""
    columns = [
        Column("feature", order="feature"),
        Column("value", "number"),
        Column("unit"),
        Column("log-odds", "number", order="-contribution"),
        Column("definition", "clip"),
    ]
    rows: list[list[Cell]] = [
        [
            Html(f"<span class='{'chosen' if f.name == chosen else ''}'>{markup.html(f.name)}</span>"),
            value(f.value, money=f.declared.get("unit") == "currency"),
            unit(f, currency) or formats.MISSING,
            contribution(f.contribution, f.value),
            markup.hint(f.description, f.description),
        ]
        for f in features
    ]
    return markup.table(columns, rows, caption, order=order)


def contribution(adds: float | None, of: Any) -> Html:
    """What a feature adds to the log-odds; or that it is withheld with its value, or the model does not read it."""
    if adds is None:
        return markup.quiet("withheld" if of == MASK else "not read")
    return Html(formats.signed(adds, 3))


def unit(feature: Explanatory, currency: str) -> str:
    """The unit that the project declares, with the lender's own currency in it."""
    return str(feature.declared.get("unit") or "").replace("currency", currency)


def feature_facts(feature: TracedFeature, currency: str) -> Html:
    """A chosen feature: figures, definition, and what stands for it."""
    passed = sum(t["status"] == "pass" for t in feature.tests)
    tests = markup.status("none", "none on this column")
    if feature.tests:
        level = "ok" if passed == len(feature.tests) else "stop"
        tests = markup.status(level, f"{passed} of {len(feature.tests)} passed that night")
    rows = sum(len(s.rowids) for s in feature.sources)
    proved = markup.status(*(("ok", "these rows give it again") if feature.proved else ("stop", "does not come out")))
    figures = markup.facts(
        [
            (
                "Value",
                value(feature.value, money=feature.declared.get("unit") == "currency"),
                unit(feature, currency),
            ),
            ("Log-odds", contribution(feature.contribution, feature.value), _effect(feature.contribution)),
            ("Source rows", formats.count(rows), ", ".join(f"raw.{s.table}" for s in feature.sources) or "none"),
        ]
    )
    made = markup.join(
        [Html(f"made by <b>{markup.html(feature.model.name)}</b>"),
         Html(f"SQL {markup.digest(feature.model.sha256)}"),
         f"owner {feature.declared.get('owner') or formats.MISSING}",
         Html(f"tests {tests}"), proved]
    )  # fmt: skip
    notes: list[str] = []
    if feature.value is None:
        notes.append(f"No value: {feature.declared.get('null_policy') or 'the definition gives none here'}.")
    if feature.population:
        notes.append("Rows of other subjects are behind it too.")
    said = "".join(f"<p class='quiet'>{markup.html(n)}</p>" for n in notes)
    rationale = markup.quiet(str(feature.declared.get("rationale") or ""))
    return Html(
        f"<p>{markup.html(feature.description)} {rationale}</p>{markup.GAP}{figures}{markup.GAP}<p>{made}</p>{said}"
    )


def _effect(adds: float | None) -> str:
    if adds is None:
        return ""
    if not round(adds, 3):  # as it is shown
        return "moves nothing"
    return "raises risk" if adds > 0 else "lowers risk"


def newest_first(source: Source) -> tuple[Mapping[str, Any], ...]:
    """A source's rows by the day they speak of; where that is no plain column, by the day they were loaded."""
    contract = CONTRACTS[source.table]
    names = {c.name for c in contract.columns}
    day = contract.event_date if contract.event_date in names else "load_date"
    return tuple(sorted(source.rows, key=lambda row: (row[day], row["source_row"]), reverse=True))


def row_table(
    table: str,
    rows: Sequence[Mapping[str, Any]],
    currency: str,
    caption: str,
    feeding: Sequence[str] | None = None,
    before: Mapping[tuple[str, int], Any] | None = None,
) -> Table:
    """Rows of one raw table, each with its load, file and record.

    feeding: show only these columns and the key; every column, with all that landing knows, when None. before: by file
    and record, what the last of these columns held in the row before.
    """
    contract = CONTRACTS[table]
    named = {*(feeding or ()), *contract.key, *contract.fixed}
    wanted = [c for c in contract.columns if feeding is None or c.name in named]
    landing = [c for c in LANDING_COLUMNS if feeding is None or c.name in _HEADS]
    columns = [_head(c, currency) for c in wanted]
    columns += [Column(_HEADS.get(c.name, c.name), _kind(c.type), c.description) for c in landing]
    lines = [[_raw(row.get(c.name), c.type) for c in (*wanted, *landing)] for row in rows]
    if before and feeding:
        of = contract.column(feeding[-1])
        at = wanted.index(of)
        columns.insert(at, Column("before", _kind(of.type), "in the row before it of the same account"))
        for line, row in zip(lines, rows, strict=True):
            line.insert(at, _raw(before.get((row["source_file"], row["source_row"])), of.type))
    return markup.table(columns, lines, caption, fit=True)


def _head(column: ContractColumn, currency: str) -> Column:
    unit = column.measured_in.replace("currency", currency)
    told = f", {unit}" if unit and unit not in column.name else ""  # term_months says so itself
    return Column(f"{column.name}{told}", _kind(column.type), column.description)


def _kind(sql_type: str) -> str:
    return "" if sql_type == ID or sql_type.startswith(("VARCHAR", "DATE")) else "number"


def parts_table(why: Why) -> Table:
    """The change of a score in parts that add up."""
    columns = [
        Column("part"), Column("log-odds", "number"), Column("rows", "number"), Column("what it is", "wrap fill")
    ]  # fmt: skip
    between = {part for parts in why.by_feature.values() for part in parts}  # a part may add up to nothing
    rows: list[list[Cell]] = [
        [
            part.name,
            formats.signed(part.change, 4) if part.told_alone else formats.MISSING,
            formats.count(sum(len(r) for r in part.rows.values())) if part.rows else formats.MISSING,
            _did(part, part.name in between),
        ]
        for part in (*why.parts[-1:], *why.parts[-2:-1], *why.parts[1:-2], why.parts[0])
    ]
    total = Html(f"<b>{formats.signed(why.change, 4)}</b>")
    told = f"{formats.signed(why.before.log_odds, 4)} to {formats.signed(why.after.log_odds, 4)}"
    rows.append([Html("<b>all</b>"), total, formats.MISSING, told])
    return markup.table(columns, rows, "Why the score moved, in parts that add up", fit=True)


def _did(part: Part, between: bool) -> Html:
    """What a part of a change is. between: it moved features, though nothing in all."""
    if not part.told_alone:
        return markup.quiet("no score after it alone: told with the step after it")
    if part.change or part.rows:
        return Html(f"{markup.html(_PARTS[part.name])} {markup.quiet(_tables(part.rows))}")
    return markup.quiet("nothing in all: it moved from feature to feature" if between else "nothing of it")


def _tables(rows: Mapping[str, Sequence[Any]]) -> str:
    return ", ".join(f"{len(found)} of raw.{table}" for table, found in rows.items())


_NO_FEATURES = {TOGETHER: TOGETHER, BASE: "base rate"}


def moved_features(why: Why) -> list[str]:
    """The features that moved a score, the strongest first."""
    return [name for name in why.by_feature if name not in _NO_FEATURES]


def moved_table(why: Why, most: int, says: Mapping[str, str], units: Mapping[str, str], currency: str) -> Table:
    """The same change by feature, the ``most`` strongest first, the rest as one line, so that it adds up again. says:
    feature → what it is. units: feature → its unit as the project declares it."""
    columns = [
        Column("feature"),
        Column("unit"),
        *(Column(head, "number") for head in formats.heads((why.first.as_of, why.second.as_of))),
        Column("log-odds", "number"),
        Column("through", "fill"),
    ]
    moved = [(name, why.by_feature[name]) for name in moved_features(why)]
    rows: list[list[Cell]] = [
        [
            markup.named(name, says),
            units.get(name, "").replace("currency", currency),
            *(value(side.features.get(name), money=units.get(name) == "currency") for side in (why.before, why.after)),
            formats.signed(sum(parts.values()), 4),
            _through(parts),
        ]
        for name, parts in moved[:most]
    ]
    nothing: list[Cell] = ["", formats.MISSING, formats.MISSING]
    if rest := moved[most:]:
        adds = sum(sum(parts.values()) for _, parts in rest)
        rows.append([_sum(f"{len(rest)} others"), *nothing, formats.signed(adds, 4), ""])
    for name, words in _NO_FEATURES.items():
        if parts := why.by_feature.get(name):
            rows.append([_sum(words), *nothing, formats.signed(sum(parts.values()), 4), _through(parts)])
    total = Html(f"<b>{formats.signed(why.change, 4)}</b>")
    rows.append([_sum("all"), *nothing, total, ""])
    return markup.table(columns, rows, "Why the score moved, by feature", fit=True)


def _sum(words: str) -> Html:
    """The name of a line that opens nothing, in a table whose other lines do."""
    return Html(f"<b class='sum'>{markup.html(words)}</b>")


def _through(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {formats.signed(change, 4)}" for part, change in parts.items())


def moved_rows(why: Why) -> list[dict[str, Any]]:
    """The change by feature for a file: both values, and what each cause adds, to the last bit."""
    causes = list(dict.fromkeys(part for parts in why.by_feature.values() for part in parts))
    return [
        {
            "feature": name,
            "before": why.before.features.get(name),
            "after": why.after.features.get(name),
            "log_odds": sum(parts.values()),
            **{f"through_{cause}": parts.get(cause, 0.0) for cause in causes},
        }
        for name, parts in why.by_feature.items()
    ]


def feature_rows(features: Iterable[Explanatory]) -> list[dict[str, Any]]:
    """Features for a file: value, unit, contribution in log-odds, definition."""
    return [
        {
            "feature": f.name,
            "value": f.value,
            "unit": f.declared.get("unit"),
            "log_odds": f.contribution,
            "definition": f.description,
        }
        for f in features
    ]


def value(found: Any, *, money: bool = False) -> str:
    """A feature's value as a page writes it, money with its cents. Missing is a dash, a masked one stays masked."""
    if found is None:
        return formats.MISSING
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int):
        return formats.count(found)
    if isinstance(found, float | Decimal):
        return formats.decimal(float(found), 2 if money else 4)
    return formats.day(found) if isinstance(found, date) else str(found)


def _raw(found: Any, sql_type: str) -> str:
    """A raw row's value, exact: an id is no quantity, and a DECIMAL keeps its digits."""
    if found is None or found == MASK:
        return formats.MISSING if found is None else MASK
    if isinstance(found, Decimal):
        if sql_type != MONEY:
            found = found.normalize()
        return f"{found:,f}".replace(",", formats.THIN).replace("-", formats.MINUS)
    if isinstance(found, date) and not isinstance(found, datetime):
        return formats.day(found)
    if isinstance(found, int) and sql_type != ID and not isinstance(found, bool):
        return formats.count(found)
    return str(found)
