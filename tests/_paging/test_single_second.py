"""One second, fuller than a page, while calls come and go in it: whole, or given up with an error."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import Motion, Row, Server, at, examples

from iovox_async._paging import MAX_PAGE_ROWS, SECOND, PageRequest, PageResult, ServerPageLimit
from iovox_async._paging.single_second import MAX_PASS_PAGES, MAX_ROUNDS, SingleSecondReader
from iovox_async._paging.types import fill_missing_starts
from iovox_async.errors import PagingError


@dataclass
class SecondRead:
    """What came of reading one second."""

    rows: list[Row] = field(default_factory=list)
    requests_sent: list[PageRequest] = field(default_factory=list)


def read(
    server: Server, *, limit: int = 10, largest_page: int = 0, before_request: object = None
) -> SecondRead:
    """Reads the second 0 as the window plan does, with `before_request(request number)` before each request."""
    server_limit = ServerPageLimit(largest_page=largest_page)
    found = SecondRead()
    request = PageRequest(at(0), at(1), "call_start_ASC", limit, largest_page=largest_page)
    second: SingleSecondReader | None = None
    while True:
        if callable(before_request):
            before_request(len(found.requests_sent))
        found.requests_sent.append(request)
        assert request.start == at(0)
        assert request.stop == at(1)
        answer = server.serve(request)
        starts = fill_missing_starts(answer.starts, request)
        server_limit.record(len(starts), request.limit)
        if second is None:
            # What the window plan sees for itself.
            own = [row for row in answer.body if row.start < at(1)]
            if request.is_last_page(len(starts)) or len(own) < len(starts):
                found.rows = own
                return found
            second = SingleSecondReader(request, answer, server_limit)
        else:
            done = second.accept(request, answer, starts)
            if done is not None:
                found.rows = [body[row] for body, rows in done for row in rows]
                return found
        request = second.next_request()


def server_of(rows: int, **options: object) -> Server:
    server = Server(random.Random(5), 1, **options)  # type: ignore[arg-type]
    server.fill([at(0)] * rows)
    return server


def steps(reading: SecondRead) -> list[tuple[str, int, int]]:
    return [(request.order, request.limit, request.page) for request in reading.requests_sent]


ASC, ID = "call_start_ASC", "id_ASC"


# The steps, each only when the one before proved nothing.


def test_an_empty_page_2_and_page_1_again_prove_a_second():
    """A page that the second just fills: nothing behind it, and the same calls before and after."""
    reading = read(server_of(4), limit=4)
    assert steps(reading) == [(ASC, 4, 1), (ASC, 4, 2), (ASC, 4, 1)]
    assert len(reading.rows) == 4


def test_page_2_begins_right_behind_page_1_however_short_that_was():
    """Its limit is what page 1 held, so that both readings of a page number mean the same place."""
    reading = read(server_of(3), limit=10)
    assert steps(reading) == [(ASC, 10, 1), (ASC, 3, 2), (ASC, 10, 1)]


def test_a_fuller_second_is_asked_for_with_the_largest_page():
    """Page 2 held something: one snapshot may still hold all."""
    reading = read(server_of(25), limit=10)
    assert steps(reading)[:3] == [(ASC, 10, 1), (ASC, 10, 2), (ASC, MAX_PAGE_ROWS, 1)]
    assert steps(reading)[3:] == [(ASC, 25, 2), (ASC, MAX_PAGE_ROWS, 1)]
    assert len(reading.rows) == 25


def test_the_largest_page_may_prove_itself():
    """Shorter than an answer that was known before: no more requests."""
    reading = read(server_of(25), limit=10, largest_page=100)
    assert steps(reading) == [(ASC, 10, 1), (ASC, 10, 2), (ASC, MAX_PAGE_ROWS, 1)]


def test_a_call_of_the_next_second_in_the_largest_page_proves_it():
    """What is ordered behind it shows that the second came to its end, and is dropped."""
    server = server_of(25)
    server.fill([at(1)] * 3)
    reading = read(server, limit=10)
    assert steps(reading) == [(ASC, 10, 1), (ASC, 10, 2), (ASC, MAX_PAGE_ROWS, 1)]
    assert len(reading.rows) == 25


@pytest.mark.parametrize("offset", ["limit", "cap"])
@pytest.mark.parametrize(("rows", "pages"), [(25, 3), (20, 3), (21, 3), (19, 2)])
def test_a_second_fuller_than_the_largest_page_is_read_by_id_until_two_passes_agree(
    offset: str, rows: int, pages: int
):
    """Page by page in an order without ties; a full last page is followed by an empty one."""
    reading = read(server_of(rows, cap=10, offset=offset), limit=10)
    assert steps(reading)[:4] == [(ASC, 10, 1), (ASC, 10, 2), (ASC, MAX_PAGE_ROWS, 1), (ASC, 10, 2)]
    assert steps(reading)[4:] == [(ID, 10, page) for page in range(1, pages + 1)] * 2
    assert (
        sorted(row.id for row in reading.rows)
        == [row.id for row in reading.rows]
        == [1000 + n for n in range(rows)]
    )


def test_the_next_second_is_left_out_of_a_pass():
    """A server that reads the end as inclusive mixes it in."""
    server = server_of(15, cap=10)
    server.fill([at(1)] * 15)
    reading = read(server, limit=10)
    assert len(reading.rows) == 15
    assert {row.start for row in reading.rows} == {at(0)}


# Attacks.


def test_a_call_that_moves_up_behind_an_empty_page_2_is_not_lost():
    """Page 1, then one of it vanishes, then page 2 is empty although a call of the second was never seen."""
    server = server_of(4)
    stable = server.live[3]

    def before_request(number: int) -> None:
        if number == 0:
            server.rng.shuffle = lambda rows: None  # type: ignore[method-assign]
        if number == 1:
            server._remove(server.live[0])

    reading = read(server, limit=3, before_request=before_request)
    assert stable in reading.rows


def test_calls_that_vanish_from_the_next_second_cannot_hide_one_of_this():
    """In each pass a call of the next second goes, and one of this moves from page 2 to page 1 unseen."""
    server = server_of(0, cap=2, motion=Motion(growing=False))
    stable = [Row(at(0), number) for number in (11, 12, 13, 14, 15, 16)]
    # Before each of the six comes one of the next second, to be taken away at the right moment.
    others = [Row(at(1), number) for number in (1, 2, 3, 4, 5, 6, 7, 8)]
    server.live = sorted(stable + others, key=lambda row: row.start)
    server.ever = set(server.live)

    def before_request(number: int) -> None:
        # Late in each pass, what an earlier page held of the next second goes.
        if server.served and server.served[-1].order == ID and server.served[-1].page % 5 == 4 and others:
            server._remove(others.pop())

    try:
        found = read(server, limit=2, before_request=before_request)
    except PagingError:
        return
    assert set(stable) <= set(found.rows)


@pytest.mark.parametrize("step", range(8))
def test_a_call_that_vanishes_before_any_request_hides_no_other(step: int):
    """Whenever one goes, the others come."""
    for size, cap in ((3, None), (3, 3), (2, 3)):
        for seed in range(20):
            server = server_of(7, cap=cap)
            server.rng.seed(seed)
            victim = server.rng.choice(server.live)

            def before_request(number: int, server=server, victim=victim) -> None:
                if number == step and victim in server.live:
                    server._remove(victim)

            found = read(server, limit=size, before_request=before_request)
            assert {row.id for row in server.live} <= {row.id for row in found.rows}
            assert len({row.id for row in found.rows}) == len(found.rows)


@pytest.mark.fault(31)
@examples(1200)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(0, 30),
    behind=st.integers(0, 12),
    limit=st.integers(1, 12),
    cap=st.none() | st.integers(1, 12),
    cap_moves=st.booleans(),
    offset=st.sampled_from(("limit", "cap")),
    end=st.sampled_from(("inclusive", "exclusive", "second")),
    inserts=st.integers(0, 2),
    deletes=st.integers(0, 2),
    growing=st.booleans(),
    left=st.integers(0, 40),
)
def test_a_second_is_whole_or_given_up(
    seed, rows, behind, limit, cap, cap_moves, offset, end, inserts, deletes, growing, left
):
    """Every call that stays comes once, however others come and go in this second and the next."""
    motion = Motion(inserts, deletes, near=False, growing=growing, left=left)
    server = Server(
        random.Random(seed), 2, end=end, cap=cap, cap_moves=cap_moves, offset=offset, motion=motion
    )
    server.fill([at(0)] * rows + [at(1)] * behind)
    server.rng.shuffle(server.live)
    server.live.sort(key=lambda row: row.start)
    before = server.within(at(0), at(1))
    try:
        reading = read(server, limit=limit)
    except PagingError:
        assert deletes or (inserts and not growing), "nothing changed that could have kept it from being read"
        return
    assert len({row.id for row in reading.rows}) == len(reading.rows)
    assert before & server.within(at(0), at(1)) <= set(reading.rows)
    assert all(at(0) <= row.start < at(1) for row in reading.rows)


# Giving up.


def test_a_second_that_changes_between_all_requests_is_given_up():
    """Not read wrongly, and not for ever."""
    server = server_of(20, cap=5)

    def before_request(number: int) -> None:
        server._remove(server.live[0])
        server.fill([at(0)])

    with pytest.raises(PagingError, match="change faster than they can be read") as caught:
        read(server, limit=5, before_request=before_request)
    assert str(at(0)) in str(caught.value)
    assert len(server.served) <= 4 + 2 * MAX_ROUNDS * 6


def test_a_second_into_which_low_ids_come_is_not_taken_for_a_server_without_pages():
    """Each pass ends at page 2, where a call came again, but never the whole page."""
    server = server_of(20, cap=5)

    def before_request(number: int) -> None:
        row = Row(at(0), -number)
        server.live.append(row)
        server.ever.add(row)

    with pytest.raises(PagingError, match="change faster"):
        read(server, limit=5, before_request=before_request)
    assert max(request.page for request in server.served) == 2


def test_a_second_into_which_calls_pour_is_given_up():
    """A pass that never comes to its end is ended."""
    server = server_of(4, cap=1)
    with pytest.raises(PagingError, match="change faster"):
        read(server, limit=1, before_request=lambda number: server.fill([at(0)]))
    assert len(server.served) <= MAX_PASS_PAGES + 10


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_a_server_that_ignores_page_is_named(rows: int):
    """The same page under any number proves nothing."""
    with pytest.raises(PagingError, match="ignores the page number"):
        read(server_of(rows, cap=5, ignores=frozenset({"page"})), limit=5)


def test_a_page_2_that_is_never_the_same_twice_ends_in_passes():
    """Where page 1 is another one each time, reading by id comes to the rescue."""
    server = server_of(3)

    def before_request(number: int) -> None:
        if number < 2 * MAX_ROUNDS + 3 and number % 2 == 0:
            # Always three calls, and never the same three.
            server._remove(server.live[0])
            server.fill([at(0)])

    reading = read(server, limit=3, before_request=before_request)
    assert {row.id for row in server.live} <= {row.id for row in reading.rows}
    assert (ID, 3, 1) in steps(reading)


# Rows that cannot be told apart.


def test_a_call_that_is_listed_twice_in_one_page_is_no_proof_of_less():
    """Twins count as two, so that page 2 still begins behind page 1."""
    rows = [Row(at(0), 1), Row(at(0), 1), Row(at(0), 2)]
    server_limit = ServerPageLimit()
    request = PageRequest(at(0), at(0) + SECOND, ASC, 3)
    page = PageResult([at(0)] * 3, rows, lambda: [1, 1, 2])
    second = SingleSecondReader(request, page, server_limit)
    assert second.next_request().page == 2
    assert (
        second.accept(PageRequest(request.start, request.stop, ASC, 3, page=2), PageResult([], [], list), [])
        is None
    )
    other = PageResult([at(0)] * 3, rows, lambda: [1, 2, 2])
    assert second.accept(second.next_request(), other, [at(0)] * 3) is None, (
        "one of the twins has gone: no proof"
    )
    assert second.accept(second.next_request(), PageResult([], [], list), []) is None
    assert second.accept(second.next_request(), other, [at(0)] * 3) == [(rows, [0, 1, 2])]
