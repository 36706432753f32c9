"""Runs: what ran, how long it took, what it judged and tested; and two runs side by side.

The URL says what is open: ``run=ID`` one run, ``with=ID`` another beside it, ``kind`` and ``page`` of the list, how
each table is ordered and at which page it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from app import (
    charts_runs,
    controls,
    explanations,
    exports,
    formats,
    markup,
    night_facts,
    orders,
    run_facts,
    session,
    shell,
)
from app.markup import Html
from app.run_facts import Told
from app.session import Home
from lineage.event_transport import EventStore
from pipeline import archive, ledger, run_log
from pipeline.errors import NotFound
from pipeline.governance import access
from pipeline.ledger import DbtResult, GateVerdict, Run

RUN, WITH, KIND = "run", "with", "kind"
GATES_BY, GATES_PAGE = f"gates_{controls.BY}", f"gates_{controls.PAGE}"
TESTS_BY, TESTS_PAGE = f"tests_{controls.BY}", f"tests_{controls.PAGE}"
PAGE_SIZE = 40
_LISTED = 12  # gates, and data tests, of one page of theirs
_OFFERED = 400  # newest runs of a kind to compare with: a year of nights and then some
_STILL = {"displayModeBar": False}


def page() -> None:
    access.require(session.actor(), "run.read")
    home = session.open_home()
    if run_id := st.query_params.get(RUN):
        _run(home, ledger.run(home.engine, run_id))
    else:
        _list(home)


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────


def _list(home: Home) -> None:
    kinds = ledger.run_kinds(home.engine)
    if not kinds:
        told = f"{home.portfolio.title} has a home, but nothing has run in it yet."
        following = "Next: `scoretrace land`, then `scoretrace retrain` and `scoretrace nightly --as-of YYYY-MM-DD`."
        st.html(markup.block(markup.alarm("none", "no run is on record", told, following)))
        return
    kind = controls.one_of(KIND, dict.fromkeys(("", *kinds), ""), "kind of run")
    order = controls.order(ledger.RUN_ORDERS, "-started")
    count = ledger.count_runs(home.engine, [kind] if kind else [])
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        st.html(markup.block(markup.title("Runs", "what ran, and how did it end")), width="content")
        key = f"kind@{kind}"
        st.segmented_control(
            "Kind", ["", *kinds], default=kind, key=key, required=True, label_visibility="collapsed",
            format_func=lambda k: k or "all",
            on_change=lambda: controls.new_list(**{KIND: st.session_state[key]}),
        )  # fmt: skip
    shown = controls.pages(count, PAGE_SIZE)
    runs = ledger.runs(home.engine, kinds=[kind] if kind else [], order=order, limit=PAGE_SIZE, offset=shown.start)
    note = f"{formats.count(shown.start + 1)} to {formats.count(shown.stop)} of {formats.count(count)}"
    published = ledger.publishing_runs(home.engine, [r.run_id for r in runs])
    table = run_facts.run_table(runs, published, home.zone, "Runs", order)
    links = [(r.run_id, session.address(run=r.run_id)) for r in runs]
    shell.linked_table("runs", markup.heading("On record", note), table, shell.RUNS, links)
    shell.remember_list(shell.RUNS)
    chosen = [kind] if kind else []
    shell.list_foot(
        count, PAGE_SIZE, "runs", lambda: exports.as_csv(map(vars, ledger.runs(home.engine, kinds=chosen, order=order)))
    )


# ── one run ──────────────────────────────────────────────────────────────────────────────────────────────────


def _run(home: Home, run: Run) -> None:
    published = run.run_id in ledger.publishing_runs(home.engine, [run.run_id])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(markup.block(Html(f"<h1>Run {markup.html(run.run_id)}</h1>")), width="content")
        with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small", width="content"):
            shell.list_link(shell.RUNS, "runs")
            if published:
                night = {session.AS_OF: run.as_of.isoformat()}
                st.page_link(shell.TONIGHT, label="its night", query_params=night, icon="")
                st.page_link(shell.LINEAGE, label="its lineage", query_params=night, icon="")
    st.html(markup.block(run_facts.figures(run, published, home.zone)))
    if run.failed:
        following = f"Next: {run.next_step}." if run.next_step else ""
        st.html(markup.block(markup.alarm("stop", f"the run {run.status}", run.message, following)))
    results = ledger.dbt_results(home.engine, run.run_id)
    gates = ledger.gate_verdicts(home.engine, run.run_id)
    tests = [r for r in results if r.resource_type == "test"]
    _tasks(home, run)
    words = ""
    if gates or tests:
        words = controls.words(
            "Find gates and tests", "words of a gate, a test, a table", pages=(GATES_PAGE, TESTS_PAGE)
        )
    _gates(run, gates, words)
    _tests(run, tests, words)
    _models(home, [r for r in results if r.resource_type == "model"])
    _log(home, run)
    _events(home, run)
    if run.environment:
        head = markup.heading("Environment", "as it was when the run began")
        with st.expander("Environment"):
            st.html(markup.block(head, run_facts.environment_table(run.environment)))
    _compare(home, run)


def _tasks(home: Home, run: Run) -> None:
    """The tasks on a time line, and every attempt as a table."""
    attempts = ledger.task_attempts(home.engine, run.run_id)
    tasks = len({a.task for a in attempts})
    note = f"{formats.plural(tasks, 'task')}, {formats.plural(len(attempts), 'attempt')}" if tasks else "none ran"
    st.html(markup.block(markup.heading("Tasks", note)))
    if not attempts:
        return
    st.plotly_chart(
        charts_runs.timeline(run.started_at, attempts), key="timeline", alt=charts_runs.timeline_words(attempts),
        config=_STILL,
    )  # fmt: skip
    with st.expander("Attempts with rows and snapshots"):
        st.html(markup.block(run_facts.attempt_table(attempts, home.zone)))
        shell.csv_button(f"attempts-{run.run_id}", lambda: exports.as_csv(map(asdict, attempts)))


def _gates(run: Run, gates: Sequence[GateVerdict], words: str) -> None:
    """Its gate verdicts that have the words, a page at a time, in the order that the heads choose."""
    if not gates:
        return
    passed, every = sum(g.verdict == "pass" for g in gates), len(gates)
    gates = orders.having(gates, words, night_facts.gate_words)
    order = controls.order(night_facts.GATE_ORDERS, "-verdict", GATES_BY)
    place = controls.pages(len(gates), _LISTED, GATES_PAGE)
    shown = orders.arranged(gates, order, night_facts.GATE_ORDERS)[place.start : place.stop]
    head = markup.heading("Gates", f"{passed} of {every} passed{_standing(order, '-verdict', len(gates), words)}")
    table = night_facts.gate_table(shown, "Gate verdicts", order)
    shell.linked_table("gates", head, table, shell.RUNS, by=GATES_BY, pages=(GATES_PAGE,))
    name = f"gates-{run.run_id}"
    shell.list_foot(len(gates), _LISTED, name, lambda: exports.as_csv(map(asdict, gates)), GATES_PAGE)


def _tests(run: Run, tests: list[DbtResult], words: str) -> None:
    """Its data tests that have the words, a page at a time, in the order that the heads choose: failed ones first."""
    if not tests:
        return
    passed, every = sum(t.status in ("pass", "success") for t in tests), len(tests)
    tests = orders.having(tests, words, night_facts.test_words)
    order = controls.order(night_facts.TEST_ORDERS, "-result", TESTS_BY)
    place = controls.pages(len(tests), _LISTED, TESTS_PAGE)
    named = sorted(tests, key=lambda t: (-t.seconds, t.unique_id))
    shown = orders.arranged(named, order, night_facts.TEST_ORDERS)[place.start : place.stop]
    counts = f"{formats.count(passed)} of {formats.count(every)} passed"
    head = markup.heading("Data tests", f"{counts}{_standing(order, '-result', len(tests), words)}")
    table = night_facts.test_table(shown, "Data tests", order)
    shell.linked_table("tests", head, table, shell.RUNS, by=TESTS_BY, pages=(TESTS_PAGE,))
    name = f"tests-{run.run_id}"
    shell.list_foot(len(tests), _LISTED, name, lambda: exports.as_csv(map(asdict, tests)), TESTS_PAGE)


def _standing(order: str, worst: str, found: int, words: str) -> str:
    told = [f"{formats.count(found)} with “{words}”"] if words else []
    return "".join(f", {part}" for part in [*told, *(["worst first"] if order == worst else [])])


def _models(home: Home, models: list[DbtResult]) -> None:
    """The models a run built; the SQL of one on demand, as it ran."""
    if not models:
        return
    with st.expander(f"{formats.plural(len(models), 'dbt model')}, with their SQL"):
        st.html(markup.block(run_facts.model_table(models)))
        shell.csv_button(f"models-{models[0].run_id}", lambda: exports.as_csv(map(asdict, models)))
        by_name = {m.model: m.definition_sha256 for m in models if m.definition_sha256}
        chosen = st.selectbox(
            "SQL of", sorted(by_name), index=None, placeholder="choose a model to read its SQL", key="sql of", width=380
        )
        if chosen and (sha256 := by_name[chosen]):
            try:
                st.code(archive.read_text(home.settings, sha256), language="sql")
            except NotFound as error:
                shell.sentence(error, "the SQL cannot be read")


def _log(home: Home, run: Run) -> None:
    """What the run said while it went; open where the run failed, for there it is what is looked for."""
    try:
        lines = run_log.read(home.settings, run.run_id)
    except NotFound:  # a run from before logs were kept
        return
    with st.expander(f"Log, {formats.plural(len(lines), 'line')}", expanded=run.failed):
        st.html(markup.block(run_facts.log_table(lines, home.zone)))
        st.download_button(
            "Download as text", lambda: run_log.path(home.settings, run.run_id).read_bytes(), f"{run.run_id}.log",
            "text/plain", on_click="ignore",
        )  # fmt: skip


def _events(home: Home, run: Run) -> None:
    """What was told of the run while it went, as OpenLineage events; the file itself to take along."""
    store = EventStore(home.settings)
    if not store.path(run.run_id).is_file():
        return
    # While it runs it says more and more; so does one that the receiver hears of later.
    events = _told(home.identity, run.run_id, store.path(run.run_id).stat().st_size, home)
    with st.expander(f"{formats.plural(len(events), 'event')}, as OpenLineage"):
        st.html(markup.block(run_facts.event_table(events, home.zone)))
        st.download_button(
            "Download as JSON lines", lambda: store.path(run.run_id).read_bytes(), f"{run.run_id}.jsonl",
            "application/jsonl", on_click="ignore",
        )  # fmt: skip


@st.cache_data(show_spinner=False, max_entries=32)
def _told(identity: str, run_id: str, size: int, _home: Home) -> tuple[Told, ...]:
    return tuple(run_facts.told(e) for e in EventStore(_home.settings).read(run_id))


# ── two runs ─────────────────────────────────────────────────────────────────────────────────────────────────


def _compare(home: Home, run: Run) -> None:
    """This run beside another one of its kind, once the URL names one; those of the nearest dates are offered first."""
    found = ledger.runs(home.engine, kinds=[run.kind], limit=_OFFERED)
    others = sorted((r for r in found if r.run_id != run.run_id), key=lambda r: abs(r.as_of - run.as_of))
    asked = st.query_params.get(WITH)
    by_id = {r.run_id: r for r in others}
    if asked and asked not in by_id:
        by_id[asked] = ledger.run(home.engine, asked)
    if not by_id:
        return
    key = f"with@{asked}"

    def choose() -> None:
        controls.to_url(**{WITH: st.session_state[key] or ""})

    with st.container(key="compare", horizontal=True, vertical_alignment="center", gap="medium"):
        st.html(markup.block(Html("<h2>Compare with</h2>")), width="content")
        st.selectbox(
            "Compare with the run", list(by_id), index=list(by_id).index(asked) if asked else None, key=key,
            on_change=choose, placeholder=f"choose another {run.kind} run", label_visibility="collapsed", width=380,
            format_func=lambda i: f"{i}, as of {formats.day(by_id[i].as_of)}",
        )  # fmt: skip
    if not asked:
        return
    then = by_id[asked]
    sides = (run, then)
    attempts = [ledger.task_attempts(home.engine, r.run_id) for r in sides]
    totals = [ledger.dbt_totals(home.engine, r.run_id) for r in sides]
    gates = [ledger.gate_verdicts(home.engine, r.run_id) for r in sides]
    sql = [_definitions(home, r) for r in sides]
    both = sql[0].keys() & sql[1].keys()
    changed = explanations.other_sql(home, *({n: f[n] for n in both} for f in sql))
    facts = [dict(run_facts.flat(r.environment)) for r in sides]
    st.html(markup.block(run_facts.compared(run, then, (attempts[0], attempts[1]), (totals[0], totals[1]))))
    if both:
        _changes("SQL of dbt models beyond its dates", *({n: f[n] for n in changed} for f in sql))
    alone = [(r.run_id, mine.keys() - both) for r, mine in zip(sides, sql, strict=True)]
    for run_id, names in alone:
        if names:
            said = f"{formats.plural(len(names), 'dbt model')} built by {run_id} alone: {', '.join(sorted(names))}"
            st.html(markup.block(markup.quiet(said)))
    if not both:
        st.html(markup.block(markup.quiet("No dbt model was built by both runs: there is no SQL to compare.")))
    _changes("Environment", *facts)
    if gates[0] or gates[1]:
        with st.expander("Gate figures of both runs"):
            st.html(markup.block(run_facts.gate_changes(gates[0], gates[1])))
            rows = [asdict(g) for found in gates for g in found]
            shell.csv_button(f"gates-{run.run_id}-{then.run_id}", lambda: exports.as_csv(rows))


def _changes(title: str, now: dict[str, str], then: dict[str, str]) -> None:
    if now == then:
        st.html(markup.block(Html(f"<p>{markup.html(title)}: {markup.status('ok', 'the same in both runs')}</p>")))
        return
    table = run_facts.fact_changes(now, then, f"{title} that is another")
    st.html(markup.block(markup.heading(title, "what is another"), table))


def _definitions(home: Home, run: Run) -> dict[str, str]:
    found = ledger.dbt_results(home.engine, run.run_id)
    return {r.model: r.definition_sha256 for r in found if r.resource_type == "model" and r.definition_sha256}


if __name__ == "__main__":
    page()
