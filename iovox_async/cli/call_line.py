"""A call in one line, for the eye.

The law of this room: what was not asked for is not shown, and what is shown stands in columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import span

if TYPE_CHECKING:
    from iovox_async import Call

__all__ = ["line"]


def line(call: Call) -> str:
    """When, how it ended, how long, who: `2024-02-26 04:39:59  ANSWERED  02:05  4475… > 4412… > 4420…  Brighton`.

    The time, the result, the duration and three numbers fill the 80 columns of a small terminal.
    """
    numbers = [one for one in (call.call_origin, call.iovox_number, call.call_destination) if one]
    ending = [
        f"{call.call_result:<9}" if call.call_result is not None else "",
        f"{span(call.talk_time.total_seconds()):>5}" if call.talk_time is not None else "",
    ]
    parts = [
        f"{call.call_start:%Y-%m-%d %H:%M:%S}" if call.call_start is not None else "",
        " ".join(ending),
        " > ".join(numbers),
        call.node_name or "",
        f"({len(call.transcriptions[0].phrases)} phrases)" if call.transcriptions else "",
        " ".join(f"#{tag.text}" for tag in call.tags if tag.text),
    ]
    told = "  ".join(part for part in parts if part.strip())
    return (told or f"call {call.id}").rstrip().replace("\n", " ")
