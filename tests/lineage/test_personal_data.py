"""Personal data in what is said of a score without its trace: why it moved, and a replay that differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineage.changes import BASE, Part, State, Why, why
from lineage.personal_data import MASK, TOGETHER, masked_change, masked_replay
from lineage.recording import Recording, recording
from lineage.replay import SubjectReplay
from lineage.rescore import Difference
from tests.conftest import FIRST, SECOND
from tests.lineage.conftest import Story
from tests.signing_off import at_the_home

PERSONAL = ("stated_income_yearly", "amount_to_income")


@pytest.fixture(scope="module")
def of_applications(story: Story) -> Recording:
    return recording(story.settings, story.engine, SECOND, "application")


def of_an_application(recorded: Recording) -> Why:
    """Two personal features and one other moved; a third personal one has no value on either night."""
    values = {PERSONAL[0]: 41234.5, PERSONAL[1]: 0.1875, "interest_to_income": None, "requested_amount": 7731.0}
    then = {BASE: -3.0, PERSONAL[0]: 0.25, PERSONAL[1]: -0.125, "requested_amount": 0.5}
    came = {PERSONAL[0]: 0.0625, PERSONAL[1]: 0.5, "requested_amount": -0.25, BASE: 0.0}
    before = State(sum(then.values()), then, values)
    after = State(
        before.log_odds + sum(came.values()),
        {name: value + came[name] for name, value in then.items()},
        values | {PERSONAL[0]: 41999.5},
    )
    rows = {"applications": ({"application_id": 7, "stated_income": 41234.5},)}
    part = Part("came", sum(came.values()), came, rows)
    return Why(recorded, recorded, 7, before, after, (part,), ())


def test_what_personal_features_did_to_a_move_is_one_sum(of_applications: Recording) -> None:
    clear = of_an_application(of_applications)
    found = masked_change(clear)
    told = str(found.as_dict())
    assert not any(value in told for value in ("41234.5", "41999.5", "0.1875", "0.0625"))
    assert found.by_feature == {TOGETHER: {"came": 0.5625}, "requested_amount": {"came": -0.25}}
    assert sum(sum(parts.values()) for parts in found.by_feature.values()) == found.change == clear.change
    assert sum(found.after.contributions.values()) == found.after.log_odds
    assert (found.before.features["requested_amount"], found.before.features["interest_to_income"]) == (7731.0, None)
    assert found.before.features[PERSONAL[0]] == found.after.features[TOGETHER] == MASK
    assert found.parts[0].rows["applications"][0] == {"application_id": 7, "stated_income": MASK}
    assert clear.before.features[PERSONAL[0]] == 41234.5, "masking leaves what was computed as it was"


def test_a_move_without_personal_data_is_told_as_it_is(story: Story) -> None:
    found = why(
        story.settings, story.engine, story.portfolio, str(story.restated), FIRST, SECOND, actor=at_the_home()
    )  # fmt: skip
    assert masked_change(found) == found


def test_a_replay_that_differs_shows_no_personal_value(of_applications: Recording) -> None:
    differing = (Difference(PERSONAL[0], 41234.5, 51234.5), Difference("requested_amount", 1.0, 2.0))
    replayed = SubjectReplay(of_applications, 7, 40, 3, differing, 0.1)
    assert masked_replay(replayed).differences == (replace(differing[0], stored=MASK, replayed=MASK), differing[1])
    equal = replace(replayed, differences=())
    assert masked_replay(equal) is equal
