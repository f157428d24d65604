"""Ends what a task reads when the task is cancelled or fails.

Otherwise a task that is cancelled in its loop would keep requests and pages for as long as somebody keeps the task, because
its traceback refers to the stream.
"""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import Any, Protocol

TaskReference = weakref.ref[asyncio.Task[Any]]


class Reader(Protocol):
    """What a task reads; `last_task` made the latest step."""

    last_task: TaskReference | None

    def abandon(self) -> None:
        """Ends all requests soon."""


def current_task() -> TaskReference | None:
    """The task that runs, if one does."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop is running
        return None
    return None if task is None else weakref.ref(task)


def end_with_current_task(reader: Reader) -> None:
    """Abandons the reader when the current task is cancelled or fails, unless another task has gone on reading by then."""
    reference = current_task()
    task = None if reference is None else reference()
    if task is not None:
        task.add_done_callback(partial(_end, weakref.ref(reader)))


def _end(reference: weakref.ref[Reader], task: asyncio.Task[Any]) -> None:
    reader = reference()
    if reader is None or reader.last_task is None or reader.last_task() is not task:
        return
    if task.cancelled() or task.exception() is not None:
        reader.abandon()
