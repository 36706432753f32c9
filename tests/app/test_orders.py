"""Orders of lists and the heads of tables that ask for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import markup, orders, shell
from app.markup import Column

ITEMS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.integers()))
KEYS = {"key": lambda item: item[0]}


@given(ITEMS)
def test_what_has_no_value_stands_last_either_way_and_what_is_alike_stays(items: list[tuple[int | None, int]]) -> None:
    for order in ("key", "-key"):
        found = orders.arranged(items, order, KEYS)
        valued = [i for i in found if i[0] is not None]
        assert sorted(found, key=repr) == sorted(items, key=repr), "nothing is lost"
        assert found[len(valued) :] == [i for i in items if i[0] is None]
        assert [k for k, _ in valued] == sorted((k for k, _ in valued), reverse=order == "-key")  # type: ignore[type-var]
        for key in {k for k, _ in valued}:
            assert [i for i in valued if i[0] == key] == [i for i in items if i[0] == key]


@given(st.lists(st.text("abC ", max_size=6)), st.text("abC ", max_size=4))
def test_what_has_the_words_has_each_of_them_in_any_letters(items: list[str], words: str) -> None:
    found = orders.having(items, words, str)
    wanted = words.lower().split()
    assert found == [i for i in items if not [w for w in wanted if w not in i.lower()]]
    assert orders.having(items, "", str) == items


def test_a_head_turns_the_order_that_it_has_chosen_and_begins_where_its_column_says() -> None:
    columns = [Column("name", order="name"), Column("note"), Column("PSI", "number", order="-psi")]
    table = markup.table(columns, [["a", "b", "c"]], "Figures", order="-psi")
    assert table.heads == (("name", "name"), ("PSI", "psi"))
    assert "<th scope='col' class='number head2' aria-sort='descending'>PSI ↓</th>" in table.text
    assert "<th scope='col' class='head1'>name</th>" in table.text and table.text.count("aria-sort") == 1
    assert "aria-sort='ascending'>name ↑" in markup.table(columns, [], "Figures", order="name").text
    unchosen = markup.table(columns, [], "Figures", order="")
    assert "aria-sort" not in unchosen.text and unchosen.heads == (("name", "name"), ("PSI", "-psi"))
    still = markup.table(columns, [], "Figures")
    assert still.heads == () and "head1" not in still.text, "a table that is not ordered has no such heads"


def test_the_style_sheet_lays_as_many_heads_as_a_table_may_have() -> None:
    sheet = shell.STYLE_SHEET.read_text(encoding="utf-8")
    for number in range(1, markup.MOST_HEADS + 1):
        assert f".head{number} {{ anchor-name: --head{number}; }}" in sheet
        assert f"> :nth-child({number}) {{ position-anchor: --head{number}; }}" in sheet
    columns = [Column(str(n), order=str(n)) for n in range(markup.MOST_HEADS + 1)]
    with pytest.raises(ValueError, match="11 heads"):
        markup.table(columns, [], "Too many", order="")
