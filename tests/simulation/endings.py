"""Checks what must hold when a stream ends: what it counts, what it calls final, and why it gave up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from . import _names
from .loop import LAG

if TYPE_CHECKING:
    from .checker import Pull
    from .world import World

__all__ = ["check_counts", "check_final", "check_outage"]

#: Calls are final so long after they began.
FINAL_AFTER = timedelta(hours=2)


def check_final(world: World, final: datetime) -> None:
    """What is called final must be so by the account's clock, as soon as a response has shown the server's."""
    latest = world.now() - FINAL_AFTER
    if final.replace(tzinfo=None) > latest and any(
        exchange.read and exchange.status == 200 for exchange in world.exchanges
    ):
        world.violated("final", f"calls until {final} are called final, it is {world.now()}")


def check_outage(world: World, error: BaseException, waited: float) -> None:
    """A server that has never answered is given up soon, since its address is more likely wrong; one that has is waited for."""
    schedule, now = world.schedule, world.loop.time()
    # A request that times out does not show that the address is wrong.
    refused_first = world.refuses and schedule.latency < schedule.timeout
    # A stream may wait for a slot while another one waits for the server.
    patience = (_names.FIRST_CONTACT + 1 + LAG + schedule.latency) * len(schedule.uses)
    if refused_first and not world.reached and waited > patience:
        world.violated("outage", f"a server that never answered was waited for for {waited:g} s")
    if (
        isinstance(error, _names.TransportError)
        and schedule.outage
        and not schedule.faults
        and schedule.attempts > 1
        and schedule.latency < 5
    ):
        length = schedule.outage[1] - schedule.outage[0]
        # It is given up when the next probe would come too late, and each probe takes a latency. A response that was
        # cancelled, or that another stream is just taking, shows the client nothing.
        has_answered = any(
            exchange.read and exchange.ended_at < now - 2 * LAG for exchange in world.exchanges
        )
        # Another stream that began later may have set the next probe, at most half of its own time away.
        earliest = _names.FIRST_CONTACT / (1 if len(schedule.uses) == 1 else 2)
        if refused_first and not has_answered and waited > earliest - 1 - schedule.latency:
            return
        world.violated("outage", f"an outage of {length:g} s ended the stream: {error}")


def check_counts(pull: Pull, counts: dict[str, int], world: World) -> None:
    """The stream counts what the reader got."""
    number = sum(one.segment == len(pull.segments) for one in pull.got)
    if counts["calls"] != number and pull.use.mode == "records":
        world.violated("count", f"the stream counts {counts['calls']} calls, {number} came")
    bound = 2 * world.schedule.concurrency + 1 + world.longest_pass
    if counts["peak"] > bound:
        world.violated("buffer", f"the stream says that it held {counts['peak']} pages, {bound} allowed")
    if counts["in_flight"]:
        world.violated("count", f"the stream counts {counts['in_flight']} requests in flight after its end")
