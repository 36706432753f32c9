"""A comparison of two versions: what it found, its figures beside the moves of grade, and its largest movers.

Whose scores the movers are is shown to who may see it, and that is on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from app import comparison_charts, comparison_facts, desk, explanations, exports, markup, session, shell, style
from app.markup import Html
from app.session import Home
from pipeline import ledger
from pipeline.comparison import access as comparison_access
from pipeline.comparison.facts import Comparison, Mover
from pipeline.comparison.store import Kept
from pipeline.governance import access
from pipeline.governance.access import Actor

SHOWN = 10
_STILL = {"displayModeBar": False}


def found(head: Html, c: Comparison) -> None:
    """What it found in sentences, then its figures beside the moves from grade to grade."""
    st.html(markup.block(head, comparison_facts.sentences(c), markup.GAP))
    with st.container(key="compared"):
        left, right = st.columns([13, 9], gap="medium")
        left.html(markup.block(comparison_facts.measures(c)))
        if c.migration:
            with right:
                st.html(markup.block(markup.heading("Grades", "champion down, challenger across, rows")))
                words = comparison_charts.migration_words(c.migration)
                figure = comparison_charts.migration(c.migration, style.ink(str(st.context.theme.type)))
                st.plotly_chart(figure, key="migration", alt=words, config=_STILL)
                with st.expander("The moves as a table"):
                    st.html(markup.block(comparison_facts.moves(c.migration)))
                    rows = tuple(comparison_facts.move_rows(c.migration))
                    shell.csv_button(f"grade-moves-v{c.challenger.version}", lambda: exports.as_csv(rows))


def movers(home: Home, actor: Actor, kept: Kept, c: Comparison) -> None:
    """The rows that the two models see most differently."""
    if not c.movers:
        return
    key = f"movers {kept.sha256}"
    head = markup.heading("Largest movers", f"{min(SHOWN, len(c.movers))} of the held-out rows that differ most")
    subject = home.portfolio.model(kept.model).subject
    newest = ledger.publication_for(home.engine, home.dates[0]) if home.dates else None
    says = explanations.meanings(home, newest.run_id, f"features.{subject}_features") if newest else {}
    named = bool(st.session_state.get(key)) and access.may(actor, "personal_data.read")
    if not named:
        shown = comparison_access.without_ids(c).movers[:SHOWN]
        st.html(markup.block(head, comparison_facts.movers(c, shown, says, with_ids=False)))
        _movers_file(kept, shown)
        _offer(home, actor, kept, c, key)
        return
    shown = c.movers[:SHOWN]
    links = [(m.subject, session.address(q=m.subject)) for m in shown]  # a search: its score may be of an earlier night
    table = comparison_facts.movers(c, shown, says, with_ids=True)
    shell.linked_table("movers", head, table, shell.SCORES, links)
    _movers_file(kept, shown)


def _movers_file(kept: Kept, shown: Sequence[Mover]) -> None:
    name = f"movers-{kept.model}-v{kept.challenger_version}"
    shell.csv_button(name, lambda: exports.as_csv(map(asdict, shown)))


def _offer(home: Home, actor: Actor, kept: Kept, c: Comparison, key: str) -> None:
    rule = access.RULES["personal_data.read"]
    if not access.may(actor, rule.action):
        people = [role for role in rule.roles if role in access.PERSONAL_ROLES]
        who = f"Whose scores these are is for {' or '.join(people)}."
        st.html(markup.block(Html("<p>"), markup.quiet(who), Html("</p>")))
        return

    def show() -> None:
        def read(somebody: Actor) -> str:
            comparison_access.with_ids(home.engine, somebody, kept, c)
            return "the ids of the largest movers are shown; that is on record"

        st.session_state[key] = desk.attempt(home, read, of_anybody=True)

    st.button("Show whose scores these are", on_click=show, type="tertiary", help="that you saw them is recorded")
