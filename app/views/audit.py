"""Audit: who did what, when; is the record whole; take it out of the house."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import streamlit as st

from app import audit_facts, controls, desk, formats, markup, session, shell
from app.markup import Html
from app.session import Home
from pipeline.errors import NotFound
from pipeline.governance import access, audit, guard, verification
from pipeline.governance import export as exports
from pipeline.governance.access import Actor

PAGE_SIZE = 50
_PARTS = ("who", "what", "about", "since", "until")
# Kind of what a record is about → its page, the part of the query that names it, and the link's words.
_PAGES = {
    "run": (shell.RUNS, "run", "the run"),
    "alert": (shell.ALERTS, "alert", "the alert"),
    "account": (shell.SCORES, "account", "the account"),
    "application": (shell.SCORES, "application", "the application"),
    "night": (shell.TONIGHT, session.AS_OF, "the night"),
}
_SUBJECT = re.compile(r"(?P<kind>[a-z_]+):(?P<name>.+)")


def page() -> None:
    actor = session.actor()
    access.require(actor, "audit.read")
    home = session.open_home()
    desk.say()
    if (asked := st.query_params.get("record")) is not None:
        _record(home, asked)
    else:
        _search(home, actor)


# ── search ───────────────────────────────────────────────────────────────────────────────────────────────────


def _search(home: Home, actor: Actor) -> None:
    st.html(markup.block(markup.title("Audit log", "who did what, and is the record whole")))
    order = controls.order(audit.ORDERS, "-record")
    wanted = _filters(home)
    count = audit.count(home.engine, **wanted)
    with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small"):
        _verify_button(home, actor)
        _export(home, actor, wanted, count)
        if not wanted["action"]:
            query = controls.from_first_page(controls.PAGE, what="!user.sign_in")
            st.page_link(shell.AUDIT, label="leave out sign-ins", query_params=query, icon="")
    _verdict(home)
    if not count:
        whole = not any(st.query_params.get(part) for part in _PARTS)
        title = "nothing is on record yet" if whole else "no record fits"
        following = "Next: `scoretrace init` writes the first." if whole else "Next: widen the dates, or clear a field."
        st.html(markup.block(markup.alarm("none", title, following)))
        return
    shell.remember_list(shell.AUDIT)
    shown = controls.pages(count, PAGE_SIZE)
    found = audit.records(home.engine, **wanted, limit=PAGE_SIZE, skip=shown.start, order=order)
    note = f"{formats.plural(count, 'record')}; a number opens the record"
    links = [(str(r.seq), session.address(record=str(r.seq))) for r in found]
    table = audit_facts.record_table(found, home.zone, "Records", order)
    shell.linked_table("audit", markup.heading("Records", note), table, shell.AUDIT, links)
    controls.pager(count, PAGE_SIZE)


def _filters(home: Home) -> dict[str, Any]:
    """What the URL asks for, as ``audit.records`` takes it; each field writes its own part of the URL."""
    query = st.query_params
    with st.container(key="filters", horizontal=True, vertical_alignment="bottom", gap="small"):
        _field("Who", "who", "a name", 170)
        _field("What", "what", "promotion, run.failed, !user", 220)
        _field("About", "about", "model:pd_default/3, run:ID", 260)
        since, until = _day("Since", "since"), _day("Until", "until")
    return {
        "actor": query.get("who") or None,
        "action": query.get("what") or None,
        "subject": query.get("about") or None,
        "since": datetime.combine(since, time.min, home.zone) if since else None,
        "until": datetime.combine(until, time.max, home.zone) if until else None,
    }


def _field(label: str, part: str, placeholder: str, width: int) -> None:
    key = f"audit {part}@{st.query_params.get(part, '')}"
    st.text_input(
        label, value=st.query_params.get(part, ""), key=key, placeholder=placeholder, width=width, max_chars=300,
        on_change=lambda: controls.new_list(**{part: st.session_state[key].strip()}),
    )  # fmt: skip


def _day(label: str, part: str) -> date | None:
    """A day of the portfolio's zone. Raises NotFound for what is none."""
    value = controls.day(part) if st.query_params.get(part) else None
    key = f"audit {part}@{value}"

    def write() -> None:
        chosen = st.session_state[key]
        controls.new_list(**{part: chosen.isoformat() if chosen else ""})

    st.date_input(
        label, value=value, key=key, on_change=write, width=150, min_value=date(2000, 1, 1), max_value=date(2200, 1, 1)
    )
    return value


# ── verify, export ───────────────────────────────────────────────────────────────────────────────────────────


def _verify_button(home: Home, actor: Actor) -> None:
    if access.may(actor, "audit.verify"):
        st.button("Verify the chain", key="verify", type="primary")


def _verdict(home: Home) -> None:
    """Every record's hash and link, with progress, against the newest checkpoint in the home."""
    if not st.session_state.get("verify"):
        return
    guard.require(home.engine, session.actor(), "audit.verify", "audit:log")
    last = audit.head(home.engine).seq
    bar = st.progress(0.0, text="verifying the chain")

    def told(seq: int) -> None:
        bar.progress(min(seq / max(last, 1), 1.0), text=f"record {formats.count(seq)} of {formats.count(last)}")

    found = verification.verify(home.settings, home.engine, progress=told)
    bar.empty()
    st.html(markup.block(audit_facts.verified(found, home.zone)))


def _export(home: Home, actor: Actor, wanted: dict[str, Any], count: int) -> None:
    """The records that the search finds, as a file; that they were taken is a record too."""
    if not access.may(actor, "audit.export"):
        st.html(markup.block(markup.quiet(f"Exports are for {shell.roles_of('audit.export')}.")), width="content")
        return
    with st.popover("Export", disabled=not count):
        st.html(markup.block(markup.quiet(f"{formats.plural(count, 'record')} that this search finds.")))
        form = st.segmented_control("As", ("jsonl", "csv"), default="jsonl", required=True, key="export form")
        st.button("Prepare the file", key="prepare export", on_click=_prepare(home, wanted, str(form)))
        ready = st.session_state.get("export ready")
        if ready and ready[0] == (wanted, str(form)):  # of another search it would be another's answer
            _, name, content, facts = ready
            told = f"{formats.plural(facts['records'], 'record')}; the log ended at {facts['seq']}; SHA-256 "
            st.html(markup.block(markup.join([told, markup.digest(facts["file_sha256"])], "")))
            st.download_button("Download", content, name, key="download export", on_click="ignore")


def _prepare(home: Home, wanted: dict[str, Any], form: str) -> Callable[[], None]:
    def prepare() -> None:
        def act(who: Actor) -> str:
            name = f"audit-{datetime.now(UTC):%Y%m%d-%H%M%S}.{form}"
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / name
                facts = exports.export(home.engine, out, by=who, form=form, **wanted)
                st.session_state["export ready"] = ((wanted, form), name, out.read_bytes(), facts)
            return "the file is ready below Export; that it was taken is on record"

        desk.attempt(home, act, of_anybody=True)

    return prepare


# ── one record ───────────────────────────────────────────────────────────────────────────────────────────────


def _record(home: Home, asked: str) -> None:
    """A record with its neighbours' hashes. Another is never shown instead."""
    seq = int(asked) if asked.isdecimal() and len(asked) < 18 else 0
    found = {r.seq: r for r in audit.records(home.engine, after=max(seq - 2, 0), limit=3)} if seq else {}
    if seq not in found:
        raise NotFound(
            f"the audit log has no record {asked!r}", f"its last is {audit.head(home.engine).seq}; search for another"
        )
    r, before, after = found[seq], found.get(seq - 1), found.get(seq + 1)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(markup.block(Html(f"<h1>Record {seq}</h1>")), width="content")
        with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small", width="content"):
            shell.list_link(shell.AUDIT, "records")
            for sign, other in (("‹ before", before), ("after ›", after)):
                query = session.address(record=str(other.seq)) if other else None
                st.page_link(shell.AUDIT, label=sign, query_params=query, disabled=other is None, icon="")
            _about_link(r.subject, seq)
    st.html(markup.block(audit_facts.record(r, before, after, home.zone)))
    st.html(markup.block(markup.GAP, markup.heading("Detail", "canonical JSON, as it was hashed; one key a line here")))
    st.code(audit_facts.detail(r), language="json", wrap_lines=True)


def _about_link(subject: str, seq: int) -> None:
    """The page of what a record is about, where there is one; and everything else about it."""
    found = _SUBJECT.fullmatch(subject)
    if found and (page := _PAGES.get(found["kind"])):
        target, part, label = page
        st.page_link(target, label=label, query_params=session.address(**{part: found["name"]}), icon="")
    elif found and found["kind"] == "promotion":
        query = session.address(promotion=found["name"], record=str(seq))
        st.page_link(shell.PROMOTIONS, label="the promotion", query_params=query, icon="")
    elif found and found["kind"] == "model":
        model, _, version = found["name"].partition("/")
        query = session.address(model=model, version=version or None)
        st.page_link(shell.MODELS, label="the model", query_params=query, icon="")
    query = session.address(about=subject)
    st.page_link(shell.AUDIT, label="all about it", query_params=query, icon="")


if __name__ == "__main__":
    page()
