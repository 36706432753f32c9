"""Lineage: what does this column depend on, and who depends on it?

The URL says what is open: ``column=schema.table.column``, ``up`` and ``down`` hops, ``q`` a search, ``with`` another
night to compare with; of a landed column ``load``, a load whose rows are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial

import streamlit as st

from app import (
    charts_lineage,
    column_paths,
    controls,
    data,
    explanations,
    exports,
    formats,
    landed_view,
    lineage_facts,
    markup,
    orders,
    session,
    shell,
)
from app.column_paths import Drawing
from app.markup import Html
from app.session import Reader
from lineage.columns import ROWS, ColumnGraph
from lineage.documentation import UNDOCUMENTED
from lineage.graph import Reached
from pipeline import archive, ledger
from pipeline.errors import NotFound
from pipeline.governance import access

COLUMN, SEARCH, WITH, UP, DOWN = "column", "q", "with", "up", "down"
IMPACT_BY, IMPACT_PAGE = f"impact_{controls.BY}", f"impact_{controls.PAGE}"
CHANGES_PAGE = f"changes_{controls.PAGE}"
FEATURES = 10  # of one page of those downstream
MOST_HOPS = 20  # more than any path of a warehouse has; where nothing is further, no hop is offered
_LISTED = 60
_STILL = {"displayModeBar": False}
_LEGEND = "left to right; solid: its value flows, dashed: it decides (filter, join, order); a box opens it"


def page() -> None:
    access.require(session.actor(), "run.read")
    reader = session.reader(session.open_home())
    if reader is None:
        shell.nothing_published(session.open_home())
        return
    graph = explanations.graph(reader.home, reader.publication.run_id)
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        st.html(markup.block(Html(f"<h1>Lineage of {formats.day(reader.as_of)}</h1>")), width="content")
        asked = _search_box(graph)
    for note in graph.notes:
        st.html(markup.block(markup.status("watch", note)))
    if node := st.query_params.get(COLUMN):
        _column(reader, graph, node)
    elif asked:
        _found(reader, graph, asked)
    else:
        _start(reader, graph)
    _compare(reader, graph)


# ── search ───────────────────────────────────────────────────────────────────────────────────────────────────


def _search_box(graph: ColumnGraph) -> str:
    """What was asked for; words that name one column open it at once."""
    asked = st.query_params.get(SEARCH, "")
    key = f"search@{asked}@{st.query_params.get(COLUMN)}"

    def ask() -> None:
        words = st.session_state[key].strip()
        found = graph.search(words, 2)
        opened = words if words in graph.columns else found[0] if len(found) == 1 else ""
        st.query_params.from_dict(
            {**session.address(), **({COLUMN: opened} if opened else {SEARCH: words} if words else {})}
        )

    st.text_input(
        "Find a column", value=asked, key=key, on_change=ask, type="search", width=560, label_visibility="collapsed",
        placeholder="words of a column's name: utilization 3m, raw loan_servicing balance",
    )  # fmt: skip
    return asked


def _found(reader: Reader, graph: ColumnGraph, asked: str) -> None:
    found = graph.search(asked, len(graph.columns))
    if not found:
        raise NotFound(f"no column of this night has the words {asked!r} in its name", "search with fewer words")
    place = controls.pages(len(found), _LISTED)
    title, shown = f"Columns named {asked}", found[place.start : place.stop]
    docs = explanations.documented(reader.home, reader.publication.run_id)
    table = lineage_facts.column_table(shown, graph, docs, title)
    links = [(n, session.address(column=n)) for n in shown]
    note = f"{place.start + 1} to {place.stop} of {len(found)}"
    shell.linked_table("found", markup.heading(title, note), table, shell.LINEAGE, links)
    shell.list_foot(
        len(found), _LISTED, "columns", lambda: exports.as_csv(lineage_facts.column_rows(found, graph, docs))
    )


def _start(reader: Reader, graph: ColumnGraph) -> None:
    """Where to begin: what the night's models lean on most."""
    shares = {f"{table}.{name}": share for table, found in _importance(reader).items() for name, share in found.items()}
    nodes = [n for n in sorted(shares, key=lambda n: (-shares[n], n)) if n in graph.columns][:20]
    note = f"{formats.count(len(graph.columns))} columns of {formats.plural(len(graph.tables), 'table')} were recorded"
    st.html(markup.block(Html(f"<p>{note}. Search one above, or begin with what the models lean on most.</p>")))
    if nodes:
        lead, up, down = nodes[0], 2, 1
        st.html(markup.block(markup.heading(lead, f"what the models lean on most; {_LEGEND}")))
        _graph(reader, graph, column_paths.around(graph, lead, up, down), lead, up, down)
        models = {f"features.{m.subject}_features": f"{m.name} v{m.version}" for m in reader.publication.models}
        title = "Most important features"
        columns = [markup.Column("column"), markup.Column("importance", "number"), markup.Column("to", "fill")]
        rows = [[n, formats.share(shares[n]), models.get(n.rpartition(".")[0], formats.MISSING)] for n in nodes]
        links = [(n, session.address(column=n)) for n in nodes]
        table = markup.table(columns, rows, title, fit=True)
        shell.linked_table("start", markup.heading(title, "share of its model's gain"), table, shell.LINEAGE, links)


# ── one column ───────────────────────────────────────────────────────────────────────────────────────────────


def _column(reader: Reader, graph: ColumnGraph, node: str) -> None:
    if node not in graph.columns:
        raise NotFound(f"no column {node!r} is in the lineage of {formats.day(reader.as_of)}", "search for it above")
    up, down = _hops(UP), _hops(DOWN)
    drawing = column_paths.around(graph, node, up, down)
    if load := st.query_params.get(landed_view.LOAD, "") if node.startswith("raw.") else "":
        try:
            landed_view.rows(reader, node, load)  # whoever asks for them sees them first
        except NotFound as error:
            shell.sentence(error, "not found")
    st.html(markup.block(markup.heading(node, _LEGEND)))
    _graph(reader, graph, drawing, node, up, down)
    with st.container(key="pair-column"):
        left, right = st.columns([6, 7], gap="medium")
    with left:
        _panel(reader, graph, node)
    with right:
        _impact(reader, graph, node)
    if node.startswith("raw."):
        landed_view.loads(reader, node)
    _neighbours(reader, graph, node)


def _graph(reader: Reader, graph: ColumnGraph, drawing: Drawing, node: str, up: int, down: int) -> None:
    key = f"graph {node} {up} {down}"

    def follow() -> None:
        points = st.session_state[key].selection.points
        if points and (target := points[0].get("customdata")):
            opened = target[0] if isinstance(target, list) else target
            st.query_params.from_dict(session.address(column=opened))

    docs = explanations.documented(reader.home, reader.publication.run_id)
    said = {
        b.id: lineage_facts.description(b.id, docs.get(b.id.rpartition(".")[0], UNDOCUMENTED)) for b in drawing.boxes
    }
    st.plotly_chart(
        charts_lineage.graph(drawing.boxes, drawing.lines, says=said), key=key, config=_STILL, on_select=follow,
        selection_mode="points", alt=charts_lineage.graph_words(drawing.boxes, drawing.lines),
    )  # fmt: skip
    with st.container(key="actions-hops", horizontal=True, vertical_alignment="center", gap="medium"):
        for forward, hops, part, side in ((False, up, UP, "upstream"), (True, down, DOWN, "downstream")):
            if hops < MOST_HOPS and column_paths.further(graph, drawing, forward):
                query = _with(node, up, down, part, hops + 1)
                st.page_link(shell.LINEAGE, label=f"one hop more {side}", query_params=query, icon="")
            if hops > 1:
                query = _with(node, up, down, part, hops - 1)
                st.page_link(shell.LINEAGE, label=f"one hop less {side}", query_params=query, icon="")
        if drawing.left_out:
            told = "; ".join(
                f"{n} more {abs(hop)} {'hop' if abs(hop) == 1 else 'hops'} {'downstream' if hop > 0 else 'upstream'}"
                for hop, n in sorted(drawing.left_out.items())
            )
            st.html(markup.block(markup.quiet(f"Not drawn: {told}.")), width="content")


def _with(node: str, up: int, down: int, part: str, hops: int) -> dict[str, str]:
    return session.address(**{COLUMN: node, UP: str(up), DOWN: str(down), part: str(hops)})


def _panel(reader: Reader, graph: ColumnGraph, node: str) -> None:
    """Definition, owner, rows, tests and SQL of the chosen column."""
    home, run_id = reader.home, reader.publication.run_id
    table, _, column = node.rpartition(".")
    known = graph.tables.get(table)
    doc = explanations.documented(home, run_id).get(table, UNDOCUMENTED)
    sql_type = str(graph.columns.nodes[node]["type"])
    rows = None if doc.view else data.rows_of_night(reader, table)
    model = known.model if known else None
    raw = table.removeprefix("raw.")
    fresh = next((v for v in ledger.gate_verdicts(home.engine, run_id) if (v.gate, v.subject) == ("fresh", raw)), None)
    facts = lineage_facts.column_facts(node, sql_type, model, doc, rows, fresh, home.portfolio.currency)
    st.html(markup.block(markup.heading("What it is", doc.description), facts))
    tests = [
        r for r in ledger.dbt_results(home.engine, run_id)
        if r.resource_type == "test" and r.column == column and r.model == table.rpartition(".")[2]
    ]  # fmt: skip
    passed = sum(r.status == "pass" for r in tests)
    head = markup.heading("Tests of that night", f"{passed} of {len(tests)} passed" if tests else "none on this column")
    st.html(markup.block(head, lineage_facts.test_table(tests) if tests else ""))
    lost = [u for name, u in graph.untraceable if name == table and u.output in (column, ROWS)]
    for u in lost:
        st.html(markup.block(markup.alarm("watch", "not traceable", f"{u.expression}: {u.reason}")))
    if known and known.sql_sha256:
        with st.expander(f"SQL of {table}, as it ran"):
            st.html(markup.block(markup.digest(known.sql_sha256)))
            try:
                st.code(archive.read_text(home.settings, known.sql_sha256), language="sql")
            except NotFound as error:
                shell.sentence(error, "its SQL cannot be shown")


def _impact(reader: Reader, graph: ColumnGraph, node: str) -> None:
    """What a change of this column reaches: features with their importance, models, marts."""
    impact = graph.downstream(node)
    weights = _importance(reader)
    features = sorted(lineage_facts.features_in(impact), key=lambda r: r.node)
    counts = f"{formats.plural(len(impact.columns), 'column')}, {formats.plural(len(features), 'feature')}"
    head = markup.heading("Impact", counts if impact.columns else "nothing reads it")
    if not impact.columns:
        st.html(markup.block(head))
        return
    st.html(markup.block(head, lineage_facts.reached(impact)))
    if features:
        _features_downstream(reader, features, weights)


def _features_downstream(
    reader: Reader, features: Sequence[Reached], weights: Mapping[str, Mapping[str, float]]
) -> None:
    """The features that a column feeds, a page at a time, in the order that the heads choose."""
    keys = lineage_facts.impact_orders(weights)
    order = controls.order(keys, "-importance", IMPACT_BY)
    place = controls.pages(len(features), FEATURES, IMPACT_PAGE)
    shown = orders.arranged(features, order, keys)[place.start : place.stop]
    docs = explanations.documented(reader.home, reader.publication.run_id)
    head = markup.heading("Features downstream", "importance: share of the gain of the model that scored")
    table = lineage_facts.impact_table(shown, weights, docs, order)
    links = [(r.column, session.address(column=r.node)) for r in shown]
    shell.linked_table("impact", head, table, shell.LINEAGE, links, by=IMPACT_BY, pages=(IMPACT_PAGE,))
    shell.list_foot(
        len(features), FEATURES, "impact", lambda: exports.as_csv(lineage_facts.impact_rows(features, weights)),
        IMPACT_PAGE,
    )  # fmt: skip


def _neighbours(reader: Reader, graph: ColumnGraph, node: str) -> None:
    """The graph as tables: everything next to the column, with the kind of each edge."""
    docs = explanations.documented(reader.home, reader.publication.run_id)
    for title, found in (
        ("Directly upstream", [r for r in graph.upstream(node) if r.distance == 1]),
        ("Directly downstream", [r for r in graph.downstream(node).columns if r.distance == 1]),
    ):
        if found:
            with st.expander(f"{title}: {formats.plural(len(found), 'column')}"):
                links = [(r.node, session.address(column=r.node)) for r in found]
                table = lineage_facts.neighbour_table(found, docs, title)
                shell.linked_table(title.split()[-1], markup.heading(title), table, shell.LINEAGE, links)
                rows = lineage_facts.neighbour_rows(found, docs)
                shell.csv_button(title.lower().replace(" ", "-"), partial(exports.as_csv, rows))


def _importance(reader: Reader) -> Mapping[str, Mapping[str, float]]:
    """Feature table → feature → its share of the gain of the model that scored that night."""
    found: dict[str, Mapping[str, float]] = {}
    for model in reader.publication.models:
        try:
            found[f"features.{model.subject}_features"] = explanations.importances(reader.home, model)
        except NotFound:
            continue  # the graph's notes say whose bytes are gone; their importance is then a dash
    return found


# ── two nights ───────────────────────────────────────────────────────────────────────────────────────────────


def _compare(reader: Reader, graph: ColumnGraph) -> None:
    """What is another in this run's lineage than in another night's."""
    asked = st.query_params.get(WITH)
    nights = [d for d in reader.home.dates if d != reader.as_of]
    if not nights:
        return
    chosen = next((d for d in nights if d.isoformat() == asked), None)
    key = f"with@{asked}"

    def choose() -> None:
        day: date | None = st.session_state[key]
        controls.to_url(**{WITH: day.isoformat() if day else ""})

    with st.container(key="compare", horizontal=True, vertical_alignment="center", gap="medium"):
        st.html(markup.block(Html("<h2>What changed since the run of</h2>")), width="content")
        st.selectbox(
            "Compare with the night of", nights, index=nights.index(chosen) if chosen else None, key=key,
            on_change=choose, format_func=formats.day, placeholder="choose a night", label_visibility="collapsed",
            width=190,
        )  # fmt: skip
    if asked and chosen is None:
        raise NotFound(f"no other night is published for {asked!r}", "choose one of the list")
    if chosen is None:
        return
    other = ledger.publication_for(reader.home.engine, chosen)
    assert other is not None
    then = explanations.graph(reader.home, other.run_id)
    difference = explanations.difference(reader.home, reader.publication.run_id, other.run_id)
    told = f"{lineage_facts.counted(difference)}; SQL that differs in the night's date alone is the same"
    st.html(markup.block(Html(f"<p>{markup.html(told)}</p>")))
    if difference.models_changed:
        st.html(markup.block(lineage_facts.difference_table(graph, then, difference)))
    if rows := lineage_facts.change_rows(difference):
        place = controls.pages(len(rows), _LISTED, CHANGES_PAGE)
        st.html(markup.block(lineage_facts.change_table(rows[place.start : place.stop])))
        name = f"lineage-{chosen}-{reader.as_of}"
        shell.list_foot(len(rows), _LISTED, name, lambda: exports.as_csv(rows), CHANGES_PAGE)


def _hops(part: str) -> int:
    value = st.query_params.get(part, "1")
    return min(max(int(value), 1), MOST_HOPS) if value.isascii() and value.isdigit() and len(value) < 3 else 1


if __name__ == "__main__":
    page()
