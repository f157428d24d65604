"""Any query is refused, or sent unchanged."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovox_async.errors import QueryError
from iovox_async.query import Field, Fields, Filters, InsightsQuery

#: Comma lists of free texts.
LISTS = [name for name in Filters.__annotations__ if name.endswith("_category_ids")]
#: Filters that are one text.
TEXTS = [
    name for name in Filters.__annotations__ if name not in {*LISTS, "ids", "tag_colour", "iovox_number"}
]

# Hypothesis: any text, the odd ones often.
ANY_TEXT = st.one_of(
    st.text(st.characters(), max_size=30),
    st.text("aé&=#%+,;:/? \n\r\t\x00\u2028\ud83d", max_size=12),
)


@pytest.mark.fault(64)
@given(
    st.dictionaries(
        st.sampled_from(list(Filters.__annotations__)),
        st.one_of(ANY_TEXT, st.lists(ANY_TEXT, max_size=3)),
        max_size=4,
    )
)
def test_any_text_is_refused_or_sent_unchanged(arguments):
    """Given any text, then it raises `QueryError`, or a server parses it out of the query string unchanged."""
    try:
        query = InsightsQuery(**arguments)
    except QueryError as error:
        assert error.parameter == "id" or error.parameter in arguments  # noqa: PT017 - either outcome is right
        return
    sent = query.to_query_string()
    assert sent.isascii()
    assert sent.isprintable()
    assert not set(sent) & set(' #"<>\\^`{|}')
    arrived = parse_qs(sent, strict_parsing=True, errors="strict")
    expected = {"page": ["1"]}
    for name, value in query.active_filters().items():
        items = ",".join(map(str, value)) if isinstance(value, tuple) else value
        expected["id" if name == "ids" else name] = [items]
    assert arrived == expected


PRINTABLE = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters=","), min_size=1, max_size=15
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXTS, PRINTABLE),
        **dict.fromkeys(LISTS, st.lists(PRINTABLE, min_size=1, max_size=4)),
        "ids": st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
        "iovox_number": st.from_regex(r"[0-9]{1,15}", fullmatch=True),
        "tag_colour": st.sets(st.sampled_from(["BLUE", "GREEN", "GOLD", "RED"]), min_size=1),
        "fields": st.lists(st.sampled_from(Field), min_size=1),
        "limit": st.integers(1, 20_000),
        "page": st.integers(1, 10_000),
        "order": st.sampled_from([f"{f}_{d}" for f in Fields.CALL for d in ("ASC", "DESC")]),
        "start_date": st.datetimes(datetime(1, 1, 1), datetime(2024, 1, 1)),
        "end_date": st.datetimes(datetime(2024, 1, 1), datetime(9998, 12, 31)),
    },
)


@given(QUERIES)
def test_a_valid_query_round_trips_through_its_query_string(arguments):
    """Given a valid query, then what a server parses out of its query string makes an equal query."""
    query = InsightsQuery(**arguments)
    arrived = {
        name: value[0] for name, value in parse_qs(query.to_query_string(), strict_parsing=True).items()
    }
    ours = {
        {"id": "ids", "response_fields": "fields"}.get(name, name): value for name, value in arrived.items()
    }
    numbers = {name: int(ours.pop(name)) for name in ("page", "limit") if name in ours}
    assert InsightsQuery(**ours, **numbers) == query
    assert InsightsQuery(**dict(reversed(arguments.items()))).fingerprint() == query.fingerprint()
    assert InsightsQuery.from_arguments(query=query) == query
