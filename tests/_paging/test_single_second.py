"""Reading one second that is larger than a page while its calls change."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import Motion, Row, Server, at, examples

from iovox_async._paging import MAX_PAGE_ROWS, SECOND, PageRequest, PageResult, ServerPageLimit
from iovox_async._paging.order import DeliveryOrder
from iovox_async._paging.single_second import MAX_COPIES, MAX_PASS_PAGES, MAX_ROUNDS, SingleSecondReader
from iovox_async._paging.types import fill_missing_starts
from iovox_async.errors import PagingError


@dataclass
class SecondRead:
    """The rows of a second and the requests for it."""

    rows: list[Row] = field(default_factory=list)
    requests_sent: list[PageRequest] = field(default_factory=list)


def read(
    server: Server | FixedListServer, *, limit: int = 10, largest_page: int = 0, before_request: object = None
) -> SecondRead:
    """Reads the second 0 as the window plan does, with `before_request(request number)` before each request."""
    server_limit = ServerPageLimit(largest_page=largest_page)
    result = SecondRead()
    request = PageRequest(at(-1), at(1), "call_start_ASC", limit, largest_page=largest_page)
    second: SingleSecondReader | None = None
    while True:
        if callable(before_request):
            before_request(len(result.requests_sent))
        result.requests_sent.append(request)
        assert request.start == at(-1)
        assert request.stop in {at(1), at(2)}
        answer = server.serve(request)
        starts = fill_missing_starts(answer.starts, request, at(0))
        server_limit.record(len(starts), request.limit)
        if second is None:
            # What the window plan checks itself.
            own = [row for row in answer.body if row.start < at(1)]
            if request.is_last_page(len(starts)) or len(own) < len(starts):
                result.rows = own
                return result
            second = SingleSecondReader(request, answer, server_limit, owned=(at(0), at(1)))
        else:
            done = second.accept(request, answer, starts)
            if done is not None:
                # A call that is on two pages is left out once by the rule of delivery.
                slices = DeliveryOrder().slices_of_second(at(0), done)
                result.rows = [rows.body[row] for rows in slices for row in rows.rows]
                return result
        request = second.next_request()


def server_of(rows: int, **options: object) -> Server:
    server = Server(random.Random(5), 1, **options)  # type: ignore[arg-type]
    server.fill([at(0)] * rows)
    return server


def steps(reading: SecondRead) -> list[tuple[str, int, int]]:
    return [(request.order, request.limit, request.page) for request in reading.requests_sent]


ASC, ID = "call_start_ASC", "id_ASC"


# The steps; each is taken only if the one before proved nothing.


def test_a_page_2_of_one_row_and_an_unchanged_page_1_prove_a_second():
    """Given a second that just fills a page, when page 2 has only its last row and page 1 is unchanged, then it is complete."""
    reading = read(server_of(4), limit=4)
    assert steps(reading) == [(ASC, 4, 1), (ASC, 3, 2), (ASC, 4, 1), (ASC, 4, 2)]
    assert len(reading.rows) == 4


def test_page_2_starts_with_the_last_row_of_page_1():
    """Given a page 1 shorter than its limit, when page 2 is requested, then its limit is one less than the length of page 1."""
    reading = read(server_of(3), limit=10)
    assert steps(reading) == [(ASC, 10, 1), (ASC, 2, 2), (ASC, 10, 1)]


def test_a_fuller_second_is_requested_with_the_largest_limit():
    """Given rows in page 2, when the next request is made, then it has the largest limit."""
    reading = read(server_of(25), limit=10)
    assert steps(reading)[:3] == [(ASC, 10, 1), (ASC, 9, 2), (ASC, MAX_PAGE_ROWS, 1)]
    assert steps(reading)[3:] == [(ASC, 24, 2), (ASC, MAX_PAGE_ROWS, 1), (ASC, 25, 2)]
    assert len(reading.rows) == 25


#: What one response may contain instead of its rows.
WRONG_PAGES = {
    "errors": lambda _: [Row(None, None)],  # type: ignore[arg-type]
    "one row": lambda rows: rows[:1],
    "cut": lambda rows: rows[: len(rows) * 2 // 3],
    "empty": lambda _: [],
}


@pytest.mark.parametrize("kind", WRONG_PAGES)
@pytest.mark.parametrize(("limit", "cap"), [(10, 20), (100, 25), (10, None)])
def test_one_wrong_response_loses_no_call(kind: str, limit: int, cap: int | None):
    """Given one response that lists errors, or is cut or empty, while calls are deleted, when a second is read, then no call is lost."""
    wrong = WRONG_PAGES[kind]
    for number in range(2, 12):
        server = server_of(130, cap=cap, motion=Motion(deletes=1, near=True, left=6))
        server.faults = lambda request, rows, number=number: wrong(rows) if request == number else rows
        reading = read(server, limit=limit)
        assert {row.id for row in server.live} <= {row.id for row in reading.rows}, number
        assert len(reading.requests_sent) < 70, number


def test_a_row_of_the_next_second_proves_a_second():
    """Given a row of the next second in the largest page, when it is accepted, then the second is complete and that row is dropped."""
    server = server_of(25)
    server.fill([at(1)] * 3)
    reading = read(server, limit=10)
    assert steps(reading) == [(ASC, 10, 1), (ASC, 9, 2), (ASC, MAX_PAGE_ROWS, 1)]
    assert len(reading.rows) == 25


@pytest.mark.parametrize("offset", ["limit", "cap"])
@pytest.mark.parametrize(("rows", "pages"), [(25, 3), (20, 3), (21, 3), (19, 2)])
def test_a_second_larger_than_a_page_is_read_by_id_until_two_passes_agree(offset: str, rows: int, pages: int):
    """Given a second larger than any page, when it is read, then passes by id are made until two agree."""
    reading = read(server_of(rows, cap=10, offset=offset), limit=10)
    assert steps(reading)[:4] == [(ASC, 10, 1), (ASC, 9, 2), (ASC, MAX_PAGE_ROWS, 1), (ASC, 9, 2)]
    # The passes differ in their limit, so that a cache cannot answer the second.
    passes = [
        [limit for order, limit, page in steps(reading)[4:] if page == number]
        for number in range(1, pages + 1)
    ]
    assert all(sorted(limits) == [9, 10] for limits in passes)
    assert (
        sorted(row.id for row in reading.rows)
        == [row.id for row in reading.rows]
        == [1000 + n for n in range(rows)]
    )


def test_rows_of_the_next_second_are_left_out_of_a_pass():
    """Given a server with an inclusive end, when passes by id are made, then rows of the next second are dropped."""
    server = server_of(15, cap=10)
    server.fill([at(1)] * 15)
    reading = read(server, limit=10)
    assert len(reading.rows) == 15
    assert {row.start for row in reading.rows} == {at(0)}


# Changes at the worst moments.


def test_a_call_that_moves_up_before_page_2_is_not_lost():
    """Given a call deleted after page 1, when page 2 is empty because another moved up, then that one is delivered."""
    server = server_of(4)
    stable = server.live[3]

    def before_request(number: int) -> None:
        if number == 0:
            server.rng.shuffle = lambda rows: None  # type: ignore[method-assign]
        if number == 1:
            server._remove(server.live[0])

    reading = read(server, limit=3, before_request=before_request)
    assert stable in reading.rows


def test_deletes_in_the_next_second_do_not_lose_a_call():
    """Given calls of the next second deleted in each pass, when a call moves between pages, then it is delivered or an error is raised."""
    server = server_of(0, cap=2, motion=Motion(growing=False))
    stable = [Row(at(0), number) for number in (11, 12, 13, 14, 15, 16)]
    # Before each of the six comes one of the next second, to be taken away at the right moment.
    others = [Row(at(1), number) for number in (1, 2, 3, 4, 5, 6, 7, 8)]
    server.live = sorted(stable + others, key=lambda row: row.start)
    server.ever = set(server.live)

    def before_request(number: int) -> None:
        # Late in each pass, calls of the next second on earlier pages are deleted.
        if server.served and server.served[-1].order == ID and server.served[-1].page % 5 == 4 and others:
            server._remove(others.pop())

    try:
        result = read(server, limit=2, before_request=before_request)
    except PagingError:
        return
    assert set(stable) <= set(result.rows)


@pytest.mark.parametrize("cap", [1, 2])
def test_calls_that_are_gone_for_the_moment_of_page_2_hide_none(cap: int):
    """Given a page of one or two calls that are deleted before page 2 and back before page 1 again, then a later call is not lost."""
    server = server_of(cap, cap=cap)
    away = list(server.live)
    server.fill([at(0)])
    stable = server.live[-1]
    server.rng.shuffle = lambda rows: None  # type: ignore[method-assign]

    def before_request(number: int) -> None:
        if number == 1:
            server.live = [stable]
        elif number == 2:
            server.live = [*away, stable]

    reading = read(server, limit=cap, before_request=before_request)
    assert {*away, stable} <= set(reading.rows)


@pytest.mark.parametrize("step", range(8))
def test_a_delete_before_any_request_loses_no_other_call(step: int):
    """Given a call deleted before a request, when the second is read, then all others are delivered once."""
    for size, cap in ((3, None), (3, 3), (2, 3)):
        for seed in range(20):
            server = server_of(7, cap=cap)
            server.rng.seed(seed)
            victim = server.rng.choice(server.live)

            def before_request(number: int, server=server, victim=victim) -> None:
                if number == step and victim in server.live:
                    server._remove(victim)

            result = read(server, limit=size, before_request=before_request)
            assert {row.id for row in server.live} <= {row.id for row in result.rows}
            assert len({row.id for row in result.rows}) == len(result.rows)


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
def test_a_second_is_complete_or_an_error(
    seed, rows, behind, limit, cap, cap_moves, offset, end, inserts, deletes, growing, left
):
    """Given inserts and deletes, when a second is read, then each stable call is delivered once, or a PagingError is raised."""
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
        assert deletes or (inserts and not growing), "an error although nothing changed"
        return
    assert len({row.id for row in reading.rows}) == len(reading.rows)
    assert before & server.within(at(0), at(1)) <= set(reading.rows)
    assert all(at(0) <= row.start < at(1) for row in reading.rows)


# Errors.


def test_a_second_that_always_changes_is_an_error():
    """Given a second that changes between all requests, when it is read, then a PagingError is raised after a bounded number of requests."""
    server = server_of(20, cap=5)

    def before_request(number: int) -> None:
        server._remove(server.live[0])
        server.fill([at(0)])

    with pytest.raises(PagingError, match="change faster than they can be read") as caught:
        read(server, limit=5, before_request=before_request)
    assert str(at(0)) in str(caught.value)
    assert len(server.served) <= 4 + 2 * MAX_ROUNDS * 6


def test_inserts_of_low_ids_are_not_mistaken_for_ignored_page_numbers():
    """Given inserts of low ids, when passes repeat rows of page 2, then the error names the changes."""
    server = server_of(20, cap=5)

    def before_request(number: int) -> None:
        row = Row(at(0), -number)
        server.live.append(row)
        server.ever.add(row)

    with pytest.raises(PagingError, match="change faster"):
        read(server, limit=5, before_request=before_request)
    assert len(server.served) <= MAX_ROUNDS * MAX_PASS_PAGES


def test_a_pass_that_does_not_end_is_an_error():
    """Given inserts as fast as pages are read, when a pass does not end, then a PagingError is raised."""
    server = server_of(4, cap=1)
    with pytest.raises(PagingError, match="change faster"):
        read(server, limit=1, before_request=lambda number: server.fill([at(0)]))
    assert len(server.served) <= MAX_PASS_PAGES + 10


@pytest.mark.parametrize("rows", [1, 5, 9])
def test_ignored_page_numbers_are_an_error(rows: int):
    """Given a server that ignores page numbers, when a full second is read, then the PagingError says so."""
    with pytest.raises(PagingError, match="ignores the page number"):
        read(server_of(rows, cap=5, ignores=frozenset({"page"})), limit=5)


def test_a_page_1_that_always_changes_leads_to_passes():
    """Given a page 1 that is different each time, when the rounds are used up, then the second is read by id."""
    server = server_of(3)

    def before_request(number: int) -> None:
        if number < 2 * MAX_ROUNDS + 3 and number % 2 == 0:
            # Always three calls, and never the same three.
            server._remove(server.live[0])
            server.fill([at(0)])

    reading = read(server, limit=3, before_request=before_request)
    assert {row.id for row in server.live} <= {row.id for row in reading.rows}
    assert (ID, 3, 1) in steps(reading)


# Duplicate rows.


@pytest.mark.parametrize("copies", [2, 3, MAX_COPIES])
@pytest.mark.parametrize("cap", [1, 2, 3, 5])
def test_a_list_that_contains_calls_several_times_is_read_completely(cap: int, copies: int):
    """Given a list with a call twice or more, on both sides of the ends of pages, when it is read, then each call comes once."""
    for number in range(12):
        server = server_of(12, cap=cap)
        server.live += [server.live[number], server.live[(number + 5) % 12]] * (copies - 1)
        reading = read(server, limit=cap)
        assert [row.id for row in reading.rows] == [1000 + n for n in range(12)]


class FixedListServer:
    """A server whose list of one second never changes, and may contain a call several times."""

    def __init__(self, ids: list[int], cap: int) -> None:
        self.rows = [Row(at(0), number) for number in ids]
        self.cap = cap

    def serve(self, request: PageRequest) -> PageResult:
        used = min(request.limit, self.cap)
        rows = self.rows[(request.page - 1) * used :][:used]
        return PageResult([row.start for row in rows], rows, lambda: [row.id for row in rows])


@pytest.mark.parametrize("copies", [2, MAX_COPIES])
@pytest.mark.parametrize("limit", range(2, 8))
def test_a_page_2_that_a_single_call_fills_proves_nothing(limit: int, copies: int):
    """Given a list with a call several times, also at the end of page 1 and in all of page 2, when it is read, then each call comes."""
    for calls, place in itertools.product(range(1, limit + 4), range(limit + 3)):
        ids = sorted([*range(calls), *[min(place, calls - 1)] * (copies - 1)])
        reading = read(FixedListServer(ids, cap=limit), limit=limit)
        assert [row.id for row in reading.rows] == sorted(set(ids)), ids


def test_a_call_moved_past_a_page_by_an_insert_that_is_undone_is_not_lost():
    """Given a call inserted between two pages and deleted between the next two, when another is skipped, then the pass does not count."""
    server = server_of(9, cap=3)
    passes = []

    def before_request(number: int) -> None:
        page = len(server.served) and server.served[-1].order == ID and server.served[-1].page
        if page == 1 and len(passes) < 2:
            passes.append(Row(at(0), 1))
            server.live.append(passes[-1])
        elif page == 2 and passes[-1] in server.live:
            server._remove(passes[-1])

    reading = read(server, limit=3, before_request=before_request)
    assert {row.id for row in reading.rows} == {1000 + n for n in range(9)}
    assert len(passes) == 2


@pytest.mark.parametrize("listed", [[1, 1], [1, 2, 2], [1, 1, 2, 2, 3], [1, 2, 3, 3, 3, 3]], ids=str)
def test_a_call_listed_twice_counts_once(listed):
    """Given calls listed twice, when page 2 is requested, then it begins after no more calls than page 1 contains."""
    request = PageRequest(at(0), at(0) + SECOND, ASC, len(listed))
    page = PageResult([at(0)] * len(listed), listed, lambda: listed)
    second = SingleSecondReader(request, page, ServerPageLimit(), owned=(at(0), at(1)))
    following = second.next_request()
    assert (following.page, following.limit <= len(set(listed))) == (2, True)
