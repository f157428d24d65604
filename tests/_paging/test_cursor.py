"""Cursors: their string form, and the check against the query."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.model_server import examples

from iovox_async._paging.cursor import Cursor
from iovox_async.errors import IovoxError, QueryError

START, END = datetime(2024, 1, 1), datetime(2024, 3, 31, 23, 59, 59)
CURSOR = Cursor(
    descending=False,
    start=START,
    end=END,
    second=datetime(2024, 2, 29, 12, 0, 1),
    id=30683207599876,
    fingerprint="0123456789",
)

seconds = st.datetimes().map(lambda value: value.replace(microsecond=0))


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    start, second, end = sorted(draw(st.tuples(seconds, seconds, seconds)))
    number = draw(st.none() | st.integers(-(2**63), 2**63 - 1))
    query = draw(st.text("0123456789abcdef", min_size=10, max_size=10))
    return Cursor(draw(st.booleans()), start, end, second, number, query)


@examples(300)
@given(position=cursors())
def test_a_cursor_survives_its_string_form(position: Cursor):
    """Given any cursor, when its string is parsed, then the same cursor is returned."""
    text = str(position)
    assert Cursor.parse(text) == position
    assert len(text) < 110
    assert text.isascii()
    assert " " not in text


def test_the_string_form_is_stable():
    """Given a cursor, when it is formatted, then the form is the documented one, because programs store it."""
    assert str(CURSOR) == "1a-20240101T000000-20240331T235959-20240229T120001-30683207599876-0123456789"
    assert str(replace(CURSOR, descending=True, id=None)).startswith("1d-")
    assert str(replace(CURSOR, id=None)).endswith("-20240229T120001--0123456789")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("2024-01-01", id="a date"),
        pytest.param(str(CURSOR)[:-1], id="cut"),
        pytest.param(str(CURSOR) + "0", id="too long"),
        pytest.param(str(CURSOR) + "\n", id="a newline"),
        pytest.param(" " + str(CURSOR), id="a space"),
        pytest.param(str(CURSOR).upper(), id="capitals"),
        pytest.param(str(CURSOR).replace("1a", "2a", 1), id="a later form"),
        pytest.param(str(CURSOR).replace("1a", "1b", 1), id="no direction"),
        pytest.param(str(CURSOR).replace("0229", "0230"), id="no such day"),
        pytest.param(str(CURSOR).replace("0229T12", "0229T24"), id="no such hour"),
        pytest.param(str(CURSOR).replace("20240229", "00000229"), id="the year 0"),
        pytest.param(str(CURSOR).replace("20240229", "20230228"), id="before its range"),
        pytest.param(str(CURSOR).replace("20240229", "20250228"), id="behind its range"),
        pytest.param(str(CURSOR).replace("20240101", "20260101"), id="a range from end to start"),
        pytest.param(str(CURSOR).replace("30683207599876", "-"), id="a sign and no number"),
        pytest.param(str(CURSOR).replace("30683207599876", "9" * 5000), id="an id of 5000 digits"),
        pytest.param(str(CURSOR).replace("30683207599876", "\uff11\uff12"), id="digits of another script"),
        pytest.param(str(CURSOR).replace("20240101", "\uff12\uff10240101"), id="a date in another script"),
        pytest.param(None, id="None"),
        pytest.param(7, id="a number"),
        pytest.param(str(CURSOR).encode(), id="bytes"),
    ],
)
def test_a_string_that_is_not_a_cursor_is_an_error(text: object):
    """Given something else, when it is parsed, then a QueryError about `resume` is raised."""
    with pytest.raises(QueryError, match="must be the position of an earlier run") as caught:
        Cursor.parse(text)  # type: ignore[arg-type]
    assert caught.value.parameter == "resume"


@examples(200)
@given(
    text=st.text(max_size=90)
    | st.from_regex(r"\A1[ad]-\d{8}T\d{6}-\d{8}T\d{6}-\d{8}T\d{6}--?\d*-[0-9a-f]{10}\Z")
    | st.builds(
        lambda place, other: str(CURSOR)[:place] + other + str(CURSOR)[place + 1 :],
        st.integers(0, 80),
        st.characters(),
    )
)
def test_any_string_is_a_cursor_or_an_error(text: str):
    """Given any string, when it is parsed, then it is a cursor or a QueryError is raised."""
    try:
        position = Cursor.parse(text)
    except QueryError:
        return
    assert Cursor.parse(str(position)) == position
    assert position.start <= position.second <= position.end


def test_a_cursor_is_accepted_by_its_own_query():
    """Given a cursor, when it is checked against its query with or without dates, then nothing is raised."""
    CURSOR.check(fingerprint="0123456789", descending=False, start=None, end=None)
    CURSOR.check(fingerprint="0123456789", descending=False, start=START, end=None)
    CURSOR.check(fingerprint="0123456789", descending=False, start=START, end=END)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        pytest.param({"fingerprint": "0123456788"}, "filters, order and fields", id="another query"),
        pytest.param({"descending": True}, "filters, order and fields", id="the other direction"),
        pytest.param(
            {"start": START + timedelta(days=1)},
            "start 2024-01-01 00:00:00, not 2024-01-02",
            id="another start",
        ),
        pytest.param(
            {"end": END - timedelta(days=1)}, "end 2024-03-31 23:59:59, not 2024-03-30", id="another end"
        ),
    ],
)
def test_a_cursor_is_rejected_by_another_query(other: dict, says: str):
    """Given a cursor, when it is checked against another query or range, then the QueryError names the difference."""
    arguments = {"fingerprint": "0123456789", "descending": False, "start": None, "end": None} | other
    with pytest.raises(QueryError, match=says) as caught:
        CURSOR.check(**arguments)
    assert caught.value.parameter == "resume"
    assert isinstance(caught.value, IovoxError)
