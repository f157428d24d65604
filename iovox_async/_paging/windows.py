"""The window plan: each call of a range exactly once, however the data moves.

The law of this room: a plan is a value machine. It does no I/O, knows no clock and remembers nothing about calls;
it is told answers in any order and tells which request may go next and which rows may be handed out.

A window **owns** the seconds `lo .. hi-1` and **asks** for `lo .. hi` in one request. Rows of second `hi` are
dropped, so every second has one owner, and it does not matter whether the server reads the end as inclusive. An
answer that proves nothing keeps only the seconds it finished; the second in which it stopped belongs whole to what
remains. So each second comes from one answer, one snapshot: calls that arrive, vanish or trade places with their
ties between two requests can neither be lost nor come twice.

A cell is a stretch of seconds in one of three states: open (to be asked), flying (asked), done (its rows wait for
their turn). The cells, in the order of delivery, cover what is not handed out yet without gap or overlap. What
remains of a window stays one open cell until a slot is free; only then is the next window cut off its front, as
long as the calls seen last suggest. Nothing is cut ahead of time: one burst would cut months into millions.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Literal

from attrs import define, evolve, field

from ..errors import PagingError, format_window
from .single_second import SingleSecondReader
from .types import LARGEST, SECOND, PageRequest, PageResult, RowSlice, ServerPageLimit, check_rows, filled

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["WindowPlan"]

#: Rows of the very first request: it measures the density, and its answer is soon there.
FIRST: Final = 250
#: A window aims at this many pages: what flows over is kept, while a half-empty page is a wasted request. Simulated
#: over smooth, daily and weekly rhythms: 1.5 takes up to 1.7 of the ideal requests, 2.5 up to 1.55, and 3 no fewer
#: round trips.
AIM: Final = 2.5
#: A window is never cut as if calls were sparser than this share of the average so far: a quiet night would send
#: the next windows far into the day, where their pages only wait for their turn.
SPARSEST: Final = 0.3
#: A window that keeps failing is halved at most so often without a success in between.
HALVINGS: Final = 2


@define(eq=False)
class Window:
    """A stretch of seconds `lo .. hi-1` and its state."""

    lo: datetime
    hi: datetime
    state: Literal["open", "flying", "done"] = "open"
    ask: PageRequest | None = None
    pieces: list[RowSlice] = field(factory=list)
    #: How a one-second window is read when one answer proved nothing.
    second: SingleSecondReader | None = None
    #: Attempts that a larger window in its place has used up.
    attempts: int = 0

    @property
    def seconds(self) -> float:
        return (self.hi - self.lo) / SECOND


class WindowPlan:
    """Reads `lo .. hi-1` window by window, each call exactly once.

    Args:
        lo: the first second.
        hi: the second after the last.
        descending: latest first.
        ordered: hand windows out in order; else as they finish.
        limit: rows a request asks for; may be changed between requests.
        capacity: what earlier plans learned about the server's pages.
        first: rows the very first request asks for.
    """

    def __init__(
        self,
        lo: datetime,
        hi: datetime,
        *,
        descending: bool = False,
        ordered: bool = True,
        limit: int = LARGEST,
        capacity: ServerPageLimit | None = None,
        first: int = FIRST,
    ) -> None:
        self.limit = limit
        self.capacity: ServerPageLimit = ServerPageLimit() if capacity is None else capacity
        self._descending = descending
        self._ordered = ordered
        self._order = "call_start_DESC" if descending else "call_start_ASC"
        self._cells = [Window(lo, hi)] if lo < hi else []
        self._first: int | None = min(first, limit)
        #: Calls a second, as the last answer suggests; None: unknown, ask for all that is left.
        self._rate: float | None = None
        #: Rows and seconds of all answers, for the average.
        self._rows_seen = 0
        self._seconds_seen = 0.0
        #: A smaller size that a failing server has taught.
        self._ceiling = LARGEST
        self._halvings = 0

    # What the pump reads.

    @property
    def done(self) -> bool:
        return not self._cells

    @property
    def flying(self) -> int:
        return sum(cell.state == "flying" for cell in self._cells)

    @property
    def waiting(self) -> int:
        """Answers that wait for their turn."""
        return sum(len(cell.pieces) for cell in self._cells if cell.state == "done")

    @property
    def seconds_left(self) -> float:
        """Seconds whose calls are not handed out yet."""
        return sum(cell.seconds for cell in self._cells)

    def pop(self) -> RowSlice | None:
        """The next rows to hand out, if they are there: of the first cell, or of any where order is no matter."""
        for place, cell in enumerate(self._cells):
            if cell.state == "done":
                piece = cell.pieces.pop(0)
                if not cell.pieces:
                    del self._cells[place]
                return piece
            if self._ordered:
                return None
        return None

    # What the pump does.

    @property
    def settled(self) -> bool:
        return all(cell.state == "done" for cell in self._cells)

    def ready(self, *, room: bool) -> bool:
        """Whether a request may start; without `room` only the one that the reader waits for.

        So later windows can never starve it.
        """
        cells = self._cells if room else self._cells[:1]
        return any(cell.state == "open" for cell in cells)

    def next(self) -> PageRequest:
        """The next request, of the first open cell."""
        place = next(place for place, cell in enumerate(self._cells) if cell.state == "open")
        return self._launch(place)

    def _launch(self, place: int) -> PageRequest:
        cell = self._cells[place]
        if cell.second is not None:
            cell.ask = cell.second.next()
        else:
            limit = min(self.limit, self._ceiling)
            if self._first is not None:
                limit, self._first = min(limit, self._first), None
            else:
                cell = self._cut(place, limit)
            order = "call_start_ASC" if cell.hi - cell.lo <= SECOND else self._order
            cell.ask = PageRequest(
                cell.lo, cell.hi, order, limit, attempts=cell.attempts, most=self.capacity.most
            )
        cell.state = "flying"
        return cell.ask

    def _cut(self, place: int, limit: int) -> Window:
        """Cuts the next window off the front of an open stretch; what is left stays one stretch."""
        cell = self._cells[place]
        length = cell.seconds
        if self._rate is not None:
            wanted = AIM * self.capacity.page(limit) / self._rate
            # A rest that would be a sliver goes along.
            length = min(length, wanted) if wanted * 1.2 < length else length
        length = max(1, int(length))
        if length >= cell.seconds:
            return cell
        self._split(place, length)
        return self._cells[place]

    def _split(self, place: int, length: int) -> None:
        """Splits a cell so that its first part, in the direction of delivery, has `length` seconds."""
        cell = self._cells[place]
        # What a failing window used up counts for the part that takes its place, not for the other.
        if self._descending:
            middle = cell.hi - length * SECOND
            parts = [Window(middle, cell.hi, attempts=cell.attempts), Window(cell.lo, middle)]
        else:
            middle = cell.lo + length * SECOND
            parts = [Window(cell.lo, middle, attempts=cell.attempts), Window(middle, cell.hi)]
        self._cells[place : place + 1] = parts

    def answer(self, ask: PageRequest, answer: PageResult) -> None:
        """Takes the answer to a request.

        Raises:
            PagingError: the server does not filter or order by what it was asked, no start in a whole answer can be
                read, or a second holds more calls than can be read.
        """
        place = self._place(ask)
        cell = self._cells[place]
        cell.state, cell.ask, cell.attempts = "open", None, 0
        self._halvings = 0
        starts = filled(answer.starts, ask)
        check_rows(starts, ask)
        rows = len(starts)
        self.capacity.saw(rows, ask.limit)
        if cell.second is not None:
            self._after_second(place, ask, answer, starts)
            return
        proven = ask.proves_end(rows)
        if not proven and cell.seconds > 1 and all(start is None for start in answer.starts):
            raise PagingError(
                f"no call_start can be read in an answer for {format_window(ask.window)}, so it cannot be told where it ends. "
                'Pass paging="pages" to read by page numbers'
            )
        self._learn(cell, ask, starts, proven=proven)
        if proven:
            self._finish(place, [self._piece(cell, answer, *_span(starts, cell.lo, cell.hi, ask.order))])
            return
        stop = starts[-1].replace(microsecond=0)
        if ask.order == "call_start_DESC":
            self._keep_descending(place, ask, answer, starts, stop)
        else:
            self._keep_ascending(place, ask, answer, starts, stop)

    def _keep_ascending(
        self, place: int, ask: PageRequest, answer: PageResult, starts: list[datetime], stop: datetime
    ) -> None:
        cell = self._cells[place]
        if stop >= cell.hi:
            # A row of the second after the window came, so the window itself was read to its end.
            self._finish(place, [self._piece(cell, answer, *_span(starts, cell.lo, cell.hi, ask.order))])
        elif starts[0].replace(microsecond=0) < stop:
            kept = self._piece(Window(cell.lo, stop), answer, *_span(starts, cell.lo, stop, ask.order))
            self._replace(place, [Window(cell.lo, stop, "done", pieces=[kept]), Window(stop, cell.hi)])
        else:
            # All in one second: it becomes a window of its own, and what is before it holds nothing.
            self._replace(place, [self._second(stop, ask, answer), Window(stop + SECOND, cell.hi)])

    def _keep_descending(
        self, place: int, ask: PageRequest, answer: PageResult, starts: list[datetime], stop: datetime
    ) -> None:
        cell = self._cells[place]
        rest = stop + SECOND
        if len(starts) < ask.limit and starts[0].replace(microsecond=0) == stop < cell.hi:
            # All in one second: what is after it holds nothing.
            self._replace(place, [self._second(stop, ask, answer), Window(cell.lo, stop)])
        elif rest >= cell.hi:
            # Nothing below the last second came to an end. That second is read on its own, ascending, so that
            # the rows of the second after it, which come first in this direction, are out of the way.
            last = cell.hi - SECOND
            self._replace(place, [Window(last, cell.hi), Window(cell.lo, last)])
        else:
            kept = self._piece(Window(rest, cell.hi), answer, *_span(starts, rest, cell.hi, ask.order))
            self._replace(place, [Window(rest, cell.hi, "done", pieces=[kept]), Window(cell.lo, rest)])

    def _second(self, stop: datetime, ask: PageRequest, answer: PageResult) -> Window:
        """The second that all rows of an answer lie in, as a window of its own."""
        cell = Window(stop, stop + SECOND)
        own = evolve(ask, lo=stop, hi=stop + SECOND)
        # A short answer for a longer window is page 1 of the second as well: nothing before it, nothing cut off. A full
        # one says that there is more, which a larger page may hold at once.
        if own == ask or len(answer.starts) < ask.limit:
            cell.second = SingleSecondReader(own, answer, self.capacity)
        return cell

    def _after_second(self, place: int, ask: PageRequest, answer: PageResult, starts: list[datetime]) -> None:
        cell = self._cells[place]
        assert cell.second is not None
        done = cell.second.answer(ask, answer, starts)
        if done is not None:
            pieces = [RowSlice(cell.lo, cell.hi, body, rows) for body, rows in done]
            self._finish(place, pieces[::-1] if self._descending else pieces)

    def halvings(self, ask: PageRequest) -> int:
        """How often a request that keeps failing may be halved."""
        cell = self._cells[self._place(ask)]
        if cell.second is not None or (cell.seconds <= 1 and ask.limit <= 1):
            return 0
        # One that was asked before the size was lowered shows nothing new: it may follow the others.
        return HALVINGS - self._halvings + (ask.limit > self._ceiling)

    def halve(self, ask: PageRequest, attempts: int) -> bool:
        """Puts a smaller request in the place of one that used up so many attempts, if it may be halved."""
        if self.halvings(ask) <= 0:
            return False
        place = self._place(ask)
        cell = self._cells[place]
        cell.state, cell.ask, cell.attempts = "open", None, attempts
        # Windows that flew together fail together: that is one lesson, not many.
        self._halvings += ask.limit <= self._ceiling
        # Fewer rows are remembered; fewer seconds are not, since what they hold differs from hour to hour.
        self._ceiling = max(1, min(self._ceiling, ask.limit // 2))
        self._first = None
        if cell.seconds > 1:
            self._split(place, max(1, int(cell.seconds // 2)))
        return True

    # The cells.

    def _place(self, ask: PageRequest) -> int:
        return next(place for place, cell in enumerate(self._cells) if cell.ask is ask)

    def _piece(self, cell: Window, answer: PageResult, begin: int, end: int) -> RowSlice:
        return RowSlice(cell.lo, cell.hi, answer.body, range(begin, end))

    def _finish(self, place: int, pieces: list[RowSlice]) -> None:
        cell = self._cells[place]
        self._replace(place, [Window(cell.lo, cell.hi, "done", pieces=pieces)])

    def _replace(self, place: int, cells: list[Window]) -> None:
        """Puts these in the place of a cell, in the order of delivery; what holds no seconds or no rows is left out."""
        kept = []
        for cell in sorted(cells, key=lambda cell: cell.lo, reverse=self._descending):
            cell.pieces = [piece for piece in cell.pieces if len(piece.rows)]
            if cell.lo < cell.hi and (cell.state != "done" or cell.pieces):
                kept.append(cell)
        self._cells[place : place + 1] = kept

    def _learn(self, cell: Window, ask: PageRequest, starts: list[datetime], *, proven: bool) -> None:
        """What an answer suggests about the calls a second that follow."""
        rows = len(starts)
        down = ask.order == "call_start_DESC"
        end = (cell.lo if down else cell.hi) if proven else starts[-1]
        self._rows_seen += rows
        self._seconds_seen += abs(end - (cell.hi if down else cell.lo)) / SECOND
        if not rows:
            # Nothing for as far as was looked: the next window is all that is left.
            self._rate = None
        elif proven or rows == ask.limit:
            # From the first row seen: the emptiness before it says nothing about what follows.
            rate = rows / max(1.0, abs(end - starts[0]) / SECOND)
            self._rate = max(rate, SPARSEST * self._rows_seen / max(1.0, self._seconds_seen))


def _span(starts: list[datetime], lo: datetime, hi: datetime, order: str) -> tuple[int, int]:
    """The places of the rows from `lo` to before `hi`."""
    if order == "call_start_DESC":
        count = len(starts)
        return (
            bisect_left(range(count), True, key=lambda row: starts[row] < hi),
            bisect_left(range(count), True, key=lambda row: starts[row] < lo),
        )
    return bisect_left(starts, lo), bisect_left(starts, hi)
