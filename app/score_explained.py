"""A score's page below its figures: the proof, the contributions, one feature down to its rows, why it moved.

The URL says what is open: ``prove=1``, ``feature=NAME``, ``since=DATE``. Coming back finds the answers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import streamlit as st

from app import (
    charts_explain,
    charts_lineage,
    column_paths,
    connections,
    controls,
    explain_facts,
    explanations,
    exports,
    formats,
    markup,
    orders,
    session,
    shell,
)
from app.data import Score
from app.markup import Html
from app.session import Reader
from lineage.explained import Explained
from lineage.personal_data import TOGETHER, masked, record_read
from lineage.trace import Source, Trace, TracedFeature
from pipeline.contracts import CONTRACTS
from pipeline.errors import AccessDenied, NotFound, ScoretraceError
from pipeline.governance import access, guard
from pipeline.governance.access import Actor

PARTS = PROVE, FEATURE, SINCE = "prove", "feature", "since"
_CLEAR = "personal data shown of"
_STILL = {"displayModeBar": False}
_LOADS = 3  # whose links stand below a table of rows
OTHERS = 25  # features of one page of those that are not in the waterfall


def show(reader: Reader, subject: str, scores: Sequence[Score]) -> None:
    """Everything that explains the newest of ``scores`` (oldest first), to who may take a score apart."""
    actor, score, query = session.actor(), scores[-1], st.query_params
    if not access.may(actor, "trace.read"):
        if query.get(FEATURE) or query.get(PROVE) or query.get(SINCE):
            guard.require(reader.home.engine, actor, "trace.read", f"{subject}:{score.id}")
        _not_for(actor)
        return
    found: Trace | None = None
    if query.get(FEATURE) or query.get(PROVE):
        try:
            found = _proved(reader, subject, score, actor)
        except AccessDenied:
            raise
        except ScoretraceError as error:  # its lineage is gone: what is stored of it is shown all the same
            shell.sentence(error, "it cannot be proved")
    else:
        _offer(score, subject)
    feature = query.get(FEATURE)
    try:
        parts = explanations.explained(reader.home, subject, score, actor)
    except AccessDenied:
        raise
    except ScoretraceError as error:
        if found is None:
            shell.sentence(error, "the contributions cannot be told")
            return
        parts = None
    traced = found.feature(feature) if found and feature else None  # a name that is none is said before anything else
    source = found or parts
    assert source is not None
    why_first = len(scores) > 1 and bool(query.get(SINCE)) and not feature  # whoever asks it sees the answer first
    if why_first:
        _moved(reader, subject, scores, actor)
    _why(reader, subject, score, source, feature)
    if traced:
        _feature(reader, subject, score, traced)
    if rest := source.features[charts_explain.STRONGEST :]:
        asked = any(part in query for part in (controls.BY, controls.PAGE))
        with st.expander(f"{formats.count(len(rest))} other features", expanded=asked):
            _others(reader, subject, score, source.features, feature)
    if len(scores) > 1 and not why_first:
        _moved(reader, subject, scores, actor)


def evidence_button(reader: Reader, subject: str, score: Score) -> None:
    """Download the pack, for who may take one; personal data is in it only where they ask and may."""
    actor = session.actor()
    if not access.may(actor, "trace.read"):
        return  # said above
    if not access.may(actor, "evidence.export"):
        st.html(markup.block(markup.quiet(f"Evidence pack: for {shell.roles_of('evidence.export')}")), width="content")
        return
    if connections.has_ended(reader):
        told = "Evidence pack: none any more, since the night cannot be computed again"
        st.html(markup.block(markup.quiet(told)), width="content")
        return
    home, name = reader.home, f"evidence-{subject}-{score.id}-{score.as_of}"

    def made(personal_data: bool) -> Callable[[], bytes]:
        return lambda: explanations.pack(home, subject, score, actor, personal_data=personal_data)

    with st.popover("Evidence pack", type="tertiary"):
        st.caption(
            "One zip that answers for this score: report, facts, rows, SQL, model, and a verifier that runs anywhere. "
            "That you took it is put on record."
        )
        clear = False
        if access.may(actor, "personal_data.read"):
            clear = st.checkbox("with personal data in clear", key=f"clear pack {score.id} {score.as_of}")
        st.download_button(
            "Download", made(clear), f"{name}.zip", "application/zip", key=f"pack {clear} {name}", on_click="ignore"
        )


# ── the proof ────────────────────────────────────────────────────────────────────────────────────────────────


def _not_for(actor: Actor) -> None:
    roles = shell.roles_of("trace.read")
    told = f"Every contribution, source rows and the proof are for {roles}; {actor.name} holds none of these roles."
    st.html(markup.block(markup.alarm("none", "not for your roles", told)))


def here(score: Score, subject: str, **changes: str | None) -> dict[str, str]:
    """This subject's address with other parts open; None closes one."""
    kept = {k: v for k in (*PARTS, controls.BY, controls.PAGE) if (v := st.query_params.get(k))}
    parts = {**kept, **changes}
    return session.address(**{subject: str(score.id), **parts})


def _offer(score: Score, subject: str) -> None:
    with st.container(key="prove", horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("Prove it", key=f"prove {score.id} {score.as_of}"):
            st.query_params.from_dict(here(score, subject, prove="1"))
            st.rerun()
        told = (
            "Computes every feature and the score again from the source rows, by the SQL and the model of that night."
        )
        st.html(markup.block(markup.quiet(told)), width="content")


def _proved(reader: Reader, subject: str, score: Score, actor: Actor) -> Trace:
    """The trace, with its verdict shown; personal data is masked unless this session was shown it just now."""
    home, place = reader.home, st.empty()
    with place.status("Proving: the rows behind every feature, the archived SQL over them alone, the model again …"):
        found = explanations.traced(home, subject, score, actor)
    notes = "".join(f"<p>{markup.status('watch', n)}</p>" for n in found.notes)
    place.html(markup.block(explain_facts.verdict(found.proof), Html(notes)))
    names = explanations.personal(home, subject, score, found)
    if not names:
        return found
    return found if _clear(reader, subject, score, actor, found, names) else masked(found)


def _clear(reader: Reader, subject: str, score: Score, actor: Actor, found: Trace, names: tuple[str, ...]) -> bool:
    """Whether personal data is shown in clear: only here, only to who asked for it in this session, and on record."""
    opened, this = st.session_state.get(_CLEAR), (actor.name, subject, score.id, score.as_of)
    if not access.may(actor, "personal_data.read"):
        return False
    with st.container(key="personal", horizontal=True, vertical_alignment="center", gap="small"):
        if opened == this:
            if st.button("Hide personal data", key="hide personal"):
                del st.session_state[_CLEAR]
                st.rerun()
            st.html(markup.block(markup.quiet(f"In clear: {', '.join(names)}. That is on record.")), width="content")
            return True
        if st.button("Show personal data", key="show personal"):
            record_read(reader.home.engine, actor, found, names)
            st.session_state[_CLEAR] = this
            st.rerun()
        told = f"Masked: {', '.join(names)}. Showing it is put on record."
        st.html(markup.block(markup.quiet(told)), width="content")
    return False


# ── contributions ────────────────────────────────────────────────────────────────────────────────────────────


def _why(reader: Reader, subject: str, score: Score, source: Explained | Trace, chosen: str | None) -> None:
    """The waterfall beside its table; each feature's name opens its rows."""
    features: Sequence[explain_facts.Explanatory] = source.features
    parts = [(f.name, f.contribution) for f in features if f.contribution is not None]
    if source.together is not None:
        parts.append((TOGETHER, source.together))
    bars = charts_explain.steps(sorted(parts, key=lambda part: -abs(part[1])))
    told = f"the base rate and {formats.count(len(parts))} contributions add up to {formats.signed(score.log_odds, 4)}"
    if nothing := sum(not adds for _, adds in parts):
        told += f"; {formats.count(nothing)} of them are 0"
    note = f"log-odds: {told}"
    with st.container(key="pair-why"):
        left, right = st.columns([5, 7], gap="medium")
    with left:
        st.html(markup.block(markup.heading("Why this score", note)))
        st.plotly_chart(
            charts_explain.waterfall(source.base, bars, score.log_odds),
            key="waterfall", alt=charts_explain.waterfall_words(source.base, bars, score.log_odds), config=_STILL,
        )  # fmt: skip
    with right:
        strongest = features[: charts_explain.STRONGEST]
        _features(reader, subject, score, strongest, chosen, "strongest", "Strongest features")
        if source.together is not None:
            sum_ = f"{TOGETHER}: {formats.signed(source.together, 3)}. One alone would narrow its value."
            st.html(markup.block(markup.quiet(sum_)))


def _others(
    reader: Reader, subject: str, score: Score, features: Sequence[explain_facts.Explanatory], chosen: str | None
) -> None:
    """The features that are not in the waterfall, a page at a time, as the heads order them, and all in a file."""
    strongest, rest = features[: charts_explain.STRONGEST], features[charts_explain.STRONGEST :]
    order = controls.order(explain_facts.ORDERS, "-strength")
    place = controls.pages(len(rest), OTHERS)
    shown = orders.arranged(rest, order, explain_facts.ORDERS)[place.start : place.stop]
    _features(reader, subject, score, shown, chosen, "other", "Other features", order)
    every, name = [*strongest, *rest], f"features-{subject}-{score.id}-{score.as_of}"
    shell.list_foot(len(rest), OTHERS, name, lambda: exports.as_csv(explain_facts.feature_rows(every)))


def _features(
    reader: Reader,
    subject: str,
    score: Score,
    shown: Sequence[explain_facts.Explanatory],
    chosen: str | None,
    key: str,
    title: str,
    order: str | None = None,
) -> None:
    head = markup.heading(title, "a name opens its path and its very rows")
    table = explain_facts.feature_table(shown, chosen, title, reader.home.portfolio.currency, order)
    links = [(f.name, here(score, subject, feature=f.name)) for f in shown]
    shell.linked_table(key, head, table, shell.SCORES, links)


# ── one feature ──────────────────────────────────────────────────────────────────────────────────────────────


def _feature(reader: Reader, subject: str, score: Score, feature: TracedFeature) -> None:
    """Where one feature came from: what it means, its path through the tables, its very rows."""
    node = f"features.{subject}_features.{feature.name}"
    with st.container(key="chosen"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.html(markup.block(Html(f"<h2>Where {markup.html(feature.name)} came from</h2>")), width="stretch")
            st.page_link(shell.LINEAGE, label="its lineage ▸", query_params=session.address(column=node), icon="")
        st.html(markup.block(explain_facts.feature_facts(feature, reader.home.portfolio.currency)))
        feeding = _path(reader, subject, score, node)
        for source in feature.sources:
            _rows(reader, source, feeding.get(source.table, ()))
        fed = {source.table for source in feature.sources}
        if feature.sources and (deciding := [f"raw.{t}" for t in feeding if t not in fed]):
            told = f"No row of {' or '.join(deciding)} fed it: on its path they decide which rows count."
            st.html(markup.block(markup.quiet(told)))
        if not feature.sources:
            st.html(markup.block(markup.alarm("none", "no source row is behind it", "Its value follows without any.")))


def _path(reader: Reader, subject: str, score: Score, node: str) -> dict[str, tuple[str, ...]]:
    """Draw the path; returns raw table → the columns of it that feed the feature."""
    try:
        graph = explanations.graph(reader.home, score.run_id)
        drawing = column_paths.behind(graph, node, [f"scores.{subject}_scores.log_odds"])
        reached = graph.upstream(node)
    except NotFound as error:
        shell.sentence(error, "the path cannot be drawn")
        return {}
    st.plotly_chart(
        charts_lineage.graph(drawing.boxes, drawing.lines), key=f"path {node}",
        alt=charts_lineage.graph_words(drawing.boxes, drawing.lines), config=_STILL,
    )  # fmt: skip
    st.html(
        markup.block(
            Html(
                "<p class='legend quiet'>left to right; solid: a value flows, dashed: it decides"
                "<span class='narrow'>; the rest is to the left</span></p>"
            )
        )
    )
    feeding: dict[str, list[str]] = {}
    for r in reached:
        if r.table.startswith("raw."):
            feeding.setdefault(r.table.removeprefix("raw."), []).append(r.column)
    return {table: tuple(columns) for table, columns in feeding.items()}


def _rows(reader: Reader, source: Source, feeding: Sequence[str]) -> None:
    count, part = len(source.rowids), f"{source.table}_{controls.PAGE}"
    place = controls.pages(count, explain_facts.ROWS_SHOWN, part)
    note = f"{formats.plural(count, 'row')} fed it, newest first"
    currency = reader.home.portfolio.currency
    head = markup.heading(f"raw.{source.table}", note)
    rows, caption = explain_facts.newest_first(source), f"Rows of raw.{source.table}"
    shown = rows[place.start : place.stop]
    st.html(markup.block(head, explain_facts.row_table(source.table, shown, currency, caption, feeding)))
    shell.list_foot(count, explain_facts.ROWS_SHOWN, f"rows-{source.table}", lambda: exports.as_csv(rows), part)
    if access.may(session.actor(), "run.read"):
        loads = list(dict.fromkeys(str(row["load_id"]) for row in shown))
        with st.container(key=f"actions-loads-{source.table}", horizontal=True, gap="medium"):
            for load in loads[:_LOADS]:
                column = f"raw.{source.table}.{next(iter(feeding), CONTRACTS[source.table].key[0])}"
                address = session.address(column=column, load=load)
                st.page_link(shell.LINEAGE, label=shell.plain(f"load {load} ▸"), query_params=address, icon="")
    with st.expander("Every column of these rows"):
        every = explain_facts.row_table(source.table, shown, currency, f"{caption} with every column")
        st.html(markup.block(every))


# ── why it moved ─────────────────────────────────────────────────────────────────────────────────────────────


def _moved(reader: Reader, subject: str, scores: Sequence[Score], actor: Actor) -> None:
    """The change since another night, in parts that add up and then by feature."""
    score, others = scores[-1], scores[-2::-1]
    asked = st.query_params.get(SINCE)
    nights = [s.as_of for s in others]
    chosen = next((d for d in nights if d.isoformat() == asked), None)
    key = f"since@{asked}"

    def choose() -> None:
        day: date | None = st.session_state[key]
        controls.to_url(**{SINCE: day.isoformat() if day else ""})

    with st.container(key="since", horizontal=True, vertical_alignment="center", gap="medium"):
        st.html(markup.block(Html("<h2>Why did it move since</h2>")), width="content")
        st.selectbox(
            "Since the night of", nights, index=nights.index(chosen) if chosen else None, key=key, on_change=choose,
            format_func=formats.day, placeholder="choose a night", label_visibility="collapsed", width=190,
        )  # fmt: skip
    if asked and chosen is None:
        raise NotFound(
            f"this {subject} has no published score of {asked!r} before {formats.day(score.as_of)}",
            f"choose one of its nights: {', '.join(str(d) for d in nights[:5])}{' …' if len(nights) > 5 else ''}",
        )
    if chosen is None:
        return
    place = st.empty()
    with place.status("Computing the score step by step: time, rows, definition, model …"):
        try:
            found = explanations.moved(reader.home, subject, str(score.id), chosen, score.as_of, actor)
        except AccessDenied:
            raise
        except ScoretraceError as error:  # the lineage of one of the nights is gone
            place.empty()
            shell.sentence(error, "why it moved cannot be told")
            return
    notes = Html("".join(f"<p>{markup.status('watch', n)}</p>" for n in found.notes))
    if not (found.by_feature or any(part.change or part.rows for part in found.parts)):
        told = f"It did not: log-odds {formats.signed(found.after.log_odds, 4)} on both nights, and no row that it read"
        place.html(markup.block(markup.status("ok", f"{told} came, went or was restated."), markup.GAP, notes))
        return
    place.html(markup.block(explain_facts.parts_table(found), markup.GAP, notes))
    if not found.by_feature:
        st.html(markup.block(markup.quiet("No feature's contribution is another: the score did not move.")))
        return
    of = f"features.{subject}_features"
    says, units = (tell(reader.home, score.run_id, of) for tell in (explanations.meanings, explanations.units))
    currency = reader.home.portfolio.currency
    moved = explain_facts.moved_table(found, charts_explain.STRONGEST, says, units, currency)
    strongest = explain_facts.moved_features(found)[: charts_explain.STRONGEST]
    links = [(name, here(score, subject, feature=name)) for name in strongest]
    head = markup.heading("By feature", "a name opens its path and its very rows")
    shell.linked_table("moved", head, moved, shell.SCORES, links)
    named = f"{subject}-{score.id}-moved-{chosen}-{score.as_of}"
    shell.csv_button(named, lambda: exports.as_csv(explain_facts.moved_rows(found)))
    changed = [(part.name, table, rows) for part in found.parts for table, rows in part.rows.items()]
    if changed:
        with st.expander("The rows that came, went or were restated"):
            for name, table, rows in changed:
                head = markup.heading(f"{name}: raw.{table}", formats.plural(len(rows), "row"))
                caption = f"Rows of raw.{table} that make the part {name}"
                st.html(markup.block(head, explain_facts.row_table(table, rows, currency, caption)))
