"""Models: what do we run, and how risky is it? The inventory, a model, a version's card, two versions side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from app import (
    comparison_view,
    controls,
    desk,
    explanations,
    exports,
    formats,
    markup,
    model_facts,
    model_reads,
    orders,
    promotion_facts,
    session,
    shell,
)
from app.markup import Html
from app.session import Home
from pipeline.comparison import store
from pipeline.errors import NotFound
from pipeline.governance import access
from pipeline.governance.access import Actor
from pipeline.governance.validation import export
from pipeline.governance.validation.facts import ValidationFacts


def page() -> None:
    actor = session.actor()
    access.require(actor, "model.read")
    home = session.open_home()
    desk.say()
    query = st.query_params
    model = query.get("model")
    if not model:
        _inventory(home)
        return
    if model not in {spec.name for spec in home.portfolio.models}:
        there = ", ".join(spec.name for spec in home.portfolio.models)
        raise NotFound(f"the portfolio has no model {model!r}", f"its models are: {there}")
    if "version" not in query:
        _model(home, model)
        return
    number = _number(query["version"], model)
    if "against" in query:
        _side_by_side(home, actor, model, _number(query["against"], model), number)
    else:
        _card(home, actor, model, number)


def _number(text: str, model: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise NotFound(f"{text!r} is no version of {model}", "choose one of the model's page")
    return int(text)


# ── the inventory and one model ──────────────────────────────────────────────────────────────────────────────


def _inventory(home: Home) -> None:
    book = desk.approvals(home).book()
    keys = model_facts.inventory_orders(book)
    order = controls.order(keys, "-materiality")
    listed = orders.arranged(model_reads.inventory(home), order, keys)
    today = datetime.now(home.zone).date()
    st.html(markup.block(markup.title("Models", "what do we run, and how risky is it")))
    note = f"{len(listed)} of {home.portfolio.title}; a name opens the model"
    links = [(found.name, session.address(model=found.name)) for found in listed]
    table = model_facts.inventory_table(listed, book, home.zone, today, order)
    shell.linked_table("inventory", markup.heading("Inventory", note), table, shell.MODELS, links)
    shell.csv_button("models", lambda: exports.as_csv(model_facts.inventory_rows(listed, book)))
    for found in listed:
        for owed in found.owed:
            title = f"{found.name}: trigger “{owed.trigger}” fired; {owed.owner or 'somebody'} owes a response"
            told = f"{owed.response} Due {formats.day(owed.due)}. {formats.sentence(owed.why)}"
            level = "stop" if owed.due < today else "watch"
            st.html(markup.block(markup.GAP, markup.alarm(level, title, told)))


def _model(home: Home, model: str) -> None:
    found = next(f for f in model_reads.inventory(home) if f.name == model)
    at, now = desk.approvals(home), datetime.now(UTC)
    book, gone = at.book(), at.disabled()
    today = now.astimezone(home.zone).date()
    _title(Html(f"<h1>{markup.html(model)}</h1>"), [("‹ all models", session.address())])
    versions = model_reads.versions(home, model)
    if versions:
        links = [(f"v{v.version}", session.address(model=model, version=str(v.version))) for v in versions]
        head = markup.heading("Versions", "newest first; a number opens the card")
        table = model_facts.version_table(versions, book, home.zone, now, gone)
        shell.linked_table("versions", head, table, shell.MODELS, links)
    else:
        following = f"Next: `scoretrace retrain --model {model} --as-of DATE` trains and registers one."
        st.html(markup.block(markup.alarm("none", "no version is registered", following)))
    with st.container(key="pair"):
        left, right = st.columns([1, 1], gap="medium")
        left.html(markup.block(markup.heading("Inventory entry"), model_facts.entry(found, home.zone, today)))
        with right:
            fires = (
                model_facts.trigger_table(found, today)
                if found.entry.triggers or found.owed
                else markup.quiet("None is declared.")
            )
            st.html(
                markup.block(
                    markup.heading("Monitoring triggers", f"{formats.plural(len(found.owed), 'response')} owed"), fires
                )
            )
            open_ = model_facts.open_findings(book, model)
            shown = (
                promotion_facts.finding_table([f for _, f in open_], home.zone, today)
                if open_
                else markup.quiet("None is open.")
            )
            st.html(markup.block(markup.GAP, markup.heading("Open findings", str(len(open_))), shown))
    asked = list(reversed(book.of_model(model)))
    if asked:
        table = promotion_facts.promotion_table(book, asked, home.zone, now, gone, "Promotions of this model")
        links = [(p.id, session.address(promotion=p.id)) for p in asked]
        shell.linked_table("promotions", markup.heading("Promotions", "newest first"), table, shell.PROMOTIONS, links)


def _title(title: Html, links: list[tuple[str, dict[str, str]]]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(markup.block(title), width="content")
        with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small", width="content"):
            for label, query in links:
                st.page_link(shell.MODELS, label=label, query_params=query, icon="")


# ── a version's card ─────────────────────────────────────────────────────────────────────────────────────────


def _card(home: Home, actor: Actor, model: str, number: int) -> None:
    f = model_reads.version(home, model, number)
    at, now = desk.approvals(home), datetime.now(UTC)
    standing = (
        promotion_facts.standing(at.book(), f.promotions[-1], now, at.disabled())
        if f.promotions
        else markup.status("none", "not requested")
    )
    title = Html(f"<h1>{markup.html(model)} version {number} <span class='answer'>{standing}</span></h1>")
    _title(title, [(f"‹ {model}".replace("_", r"\_"), session.address(model=model))])
    for fault in f.faults:
        st.html(markup.block(markup.alarm("stop", "the records are not whole", fault)))
    st.html(markup.block(model_facts.card_figures(f, home.zone), markup.GAP))
    with st.container(key="tools", horizontal=True, vertical_alignment="bottom", gap="small"):
        _compare_with(home, model, number)
        _report(home, actor, f)
    with st.container(key="pair"):
        left, right = st.columns([15, 8], gap="medium")
        effect = {d.feature: d.mean_effect for d in f.comparison.drivers} if f.comparison else {}
        with left:
            _features(home, f, effect)
        right.html(
            markup.block(
                markup.heading("Performance"),
                model_facts.metric_table(f),
                markup.GAP,
                markup.heading("Gate"),
                promotion_facts.gate_table(f.training["checks"]),
            )
        )
    _against_champion(home, actor, f)
    with st.container(key="made"):
        left, right = st.columns([1, 1], gap="medium")
        left.html(markup.block(markup.heading("Training data"), model_facts.data_table(f)))
        with right:
            st.html(markup.block(markup.heading("To make it again"), model_facts.origin(f, home.zone)))
            if access.may(actor, "run.read"):
                query = session.address(run=f.training["run_id"])
                st.page_link(shell.RUNS, label="the training run ▸", query_params=query, icon="")
    if f.plots:
        with st.expander("Plots that were registered with it"):
            columns = st.columns(2)
            for i, (name, content) in enumerate(f.plots.items()):
                columns[i % 2].image(content, alt=f"{name.removesuffix('.png')} of {model} version {number}")
    asked = list(reversed(f.promotions))
    if asked:
        table = promotion_facts.promotion_table(at.book(), asked, home.zone, now, at.disabled(), "Its promotions")
        links = [(p.id, session.address(promotion=p.id)) for p in asked]
        shell.linked_table("promotions", markup.heading("Promotions"), table, shell.PROMOTIONS, links)


def _against_champion(home: Home, actor: Actor, f: ValidationFacts) -> None:
    """The comparison that its training run made, if it made one."""
    c = f.comparison
    head = markup.heading("Champion against challenger", "when it was trained, on the same held-out rows")
    if c is None:
        st.html(markup.block(head, markup.quiet("The training run made no comparison.")))
        return
    comparison_view.found(head, c)
    kept = store.of_training(home.engine, str(f.training["run_id"]), f.version.digest)
    if kept:
        comparison_view.movers(home, actor, kept, c)


def _features(home: Home, f: ValidationFacts, effect: Mapping[str, float]) -> None:
    """The version's features, a page at a time, in the order that their heads choose; a name opens its lineage."""
    if not f.features:
        st.html(markup.block(markup.heading("Features"), markup.quiet("What its features weigh is not on record.")))
        return
    keys = model_facts.feature_orders(effect)
    order = controls.order(keys, "-gain")
    place = controls.pages(len(f.features), model_facts.SHOWN_FEATURES)
    shown = orders.arranged(f.features, order, keys)[place.start : place.stop]
    note = f"{place.start + 1} to {place.stop} of {len(f.features)}"
    table = model_facts.feature_table(shown, effect, order)
    of = f"features.{home.portfolio.model(f.version.name).subject}_features"
    links = [(x.name, session.address(column=f"{of}.{x.name}")) for x in shown]
    if not _in_lineage(home, [f"{of}.{x.name}" for x in shown]):
        links = []
    shell.linked_table("features", markup.heading("Features", note), table, shell.MODELS, links, to=shell.LINEAGE)
    rows, name = model_facts.feature_rows(f.features, effect), f"features-{f.version.name}-v{f.version.version}"
    shell.list_foot(len(rows), model_facts.SHOWN_FEATURES, name, lambda: exports.as_csv(rows))


def _in_lineage(home: Home, columns: list[str]) -> bool:
    """Whether the night that a link would open has all of these columns: before a model's first night it has none."""
    reader = session.reader(home)
    try:
        return reader is not None and {*columns} <= {*explanations.graph(home, reader.publication.run_id).columns}
    except NotFound:
        return False


def _compare_with(home: Home, model: str, number: int) -> None:
    others = [v.version for v in model_reads.versions(home, model) if v.version != number]
    if not others:
        return
    key = f"against {model} {number}"

    def go() -> None:
        if (chosen := st.session_state[key]) is not None:
            query = session.address(model=model, version=str(number), against=str(chosen))
            st.query_params.from_dict(query)

    st.selectbox(
        "Side by side with", others, index=None, key=key, on_change=go, width=190, placeholder="another version",
        format_func=lambda v: f"version {v}", label_visibility="collapsed",
    )  # fmt: skip


def _report(home: Home, actor: Actor, f: ValidationFacts) -> None:
    """The validation report as a file; that it was taken is on record."""
    rule = access.RULES["evidence.export"]
    if not access.may(actor, rule.action):
        people = " or ".join(role for role in rule.roles if role in access.PERSONAL_ROLES)
        st.html(markup.block(markup.quiet(f"The validation report is for {people} to take.")), width="content")
        return
    name = f"{f.version.name}-v{f.version.version}-validation.html"
    key = f"report {f.version.digest}"

    def prepare() -> None:
        def act(who: Actor) -> str:
            anew = model_reads.version(home, f.version.name, f.version.version)
            with tempfile.TemporaryDirectory() as folder:
                made = export.write(home.engine, anew, Path(folder) / name, who)
                st.session_state[key] = made.file.read_bytes(), datetime.now(UTC)
            return f"the report is ready; that it was taken is on record, with its SHA-256 {made.sha256}"

        desk.attempt(home, act, of_anybody=True)

    ready = st.session_state.get(key)
    if ready:  # what it tells of signatures and findings is of that moment
        content, at = ready
        label = f"Download the report of {formats.clock(at, home.zone)}"
        st.download_button(label, content, name, "text/html", key="download report", on_click="ignore")
    st.button("Make it anew" if ready else "Validation report", on_click=prepare, key="prepare report")


# ── two versions side by side ────────────────────────────────────────────────────────────────────────────────


def _side_by_side(home: Home, actor: Actor, model: str, one: int, other: int) -> None:
    """Differences first; how ranks migrate, where a training run measured it."""
    if one == other:
        raise NotFound(f"version {one} of {model} is beside itself", "choose another version to compare it with")
    old, new = (model_reads.version(home, model, n) for n in sorted((one, other)))
    first, second = old.version.version, new.version.version
    links = [(f"‹ version {n}", session.address(model=model, version=str(n))) for n in (first, second)]
    _title(Html(f"<h1>{markup.html(model)}: version {first} beside version {second}</h1>"), links)
    with st.container(key="pair"):
        left, right = st.columns([1, 1], gap="medium")
        left.html(
            markup.block(
                markup.heading("Metrics", "each on its own held-out rows"), model_facts.metric_differences(old, new)
            )
        )
        right.html(
            markup.block(
                markup.heading("Made differently", "what is equal is left out"), model_facts.made_differently(old, new)
            )
        )
    _measured(home, actor, model, first, second)
    head = markup.heading("Features", "by change of their share of gain, the largest first")
    st.html(markup.block(head, model_facts.feature_differences(old, new)))


def _measured(home: Home, actor: Actor, model: str, first: int, second: int) -> None:
    head = markup.heading("On the same rows", "as the later one’s training run measured it")
    try:
        kept, c = store.between(home.settings, home.engine, model, first, second)
    except NotFound as none:
        st.html(markup.block(head, markup.quiet(f"{none.message[:1].upper()}{none.message[1:]}; {none.next_step}.")))
        return
    comparison_view.found(head, c)
    comparison_view.movers(home, actor, kept, c)


if __name__ == "__main__":
    page()
