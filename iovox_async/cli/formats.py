"""Encodes pages of calls without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iovox_async._encoding import CallEncoder, encode_in_slices

if TYPE_CHECKING:
    from iovox_async import Call

__all__ = ["encode_page"]


async def encode_page(encoder: CallEncoder, calls: Sequence[Call]) -> bytes:
    """Encodes a page; requests in flight go on between its slices."""
    slices = []
    for data in encode_in_slices(encoder, calls):
        slices.append(data)
        await asyncio.sleep(0)
    return b"".join(slices)
