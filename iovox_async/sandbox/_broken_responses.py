"""Answers that are broken below HTTP, written byte by byte.

The law of this room: no server library helps to break its own framing, so these bytes go straight to the connection.
Below another server than the sandbox's own there is no such connection; what would break it raises `TransportError`.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from iovox_async.errors import TransportError

if TYPE_CHECKING:
    from .faults import FaultKind

#: The key of the ASGI scope that holds the connection.
WIRE = "iovox_sandbox.wire"

#: Faults that spoil an answer; the others need none.
NEEDS_BODY: frozenset[FaultKind] = frozenset(
    {
        *("cut", "cut_chunked", "cut_clean", "reset_midway", "hang_midway", "drip"),
        *("gzip_cut", "gzip_no_trailer", "gzip_crc"),
    }
)


class Wire(Protocol):
    """A connection as a fault sees it."""

    @property
    def lost(self) -> bool:
        """Whether it is gone, or about to be."""

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""

    async def flush(self) -> None:
        """Waits until they are with the network."""

    def close(self) -> None:
        """Closes in good order, after what was written."""

    def reset(self, option: bytes) -> None:
        """Closes at once and by reset; `option` is the value of SO_LINGER."""


def half(kind: FaultKind, body: bytes) -> bytes:
    """As much of the body as is sent before it breaks off."""
    return b"" if kind in {"close", "reset"} else body[: max(len(body) // 2, 1)]


async def break_off(kind: FaultKind, part: bytes, length: int, wire: Wire | None) -> None:
    """Begins an answer of that length and breaks it off after this part of it.

    Raises:
        TransportError: there is no connection to break.
    """
    if wire is None:
        raise TransportError(f"the sandbox's fault {kind!r} needs a connection: use sandbox.serve()")
    framing, sent = f"Content-Length: {length}", part
    if kind == "cut_chunked":
        framing, sent = "Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (len(part), part)
    elif kind == "cut_clean":
        # No length at all: the body ends where the connection does, and nothing tells that this is too early.
        framing = "Connection: close"
    if part:
        wire.write(
            f"HTTP/1.1 200 OK\r\ndate: {formatdate(usegmt=True)}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode()
            + sent
        )
        await wire.flush()
    if kind.startswith("reset"):
        wire.reset(struct.pack("ii", 1, 0))
    elif kind != "hang_midway":
        wire.close()


def spoilt(kind: FaultKind, body: bytes) -> bytes:
    """The body as gzip that is cut in half, without its trailer, or with a wrong checksum."""
    whole = gzip.compress(body, 1)
    if kind == "gzip_cut":
        return whole[: len(whole) // 2]
    if kind == "gzip_no_trailer":
        return whole[:-8]
    return whole[:-8] + bytes(byte ^ 0xFF for byte in whole[-8:-4]) + whole[-4:]


def linger(connection: socket.socket, option: bytes) -> None:
    """Makes the close of a socket a reset; one that its client has left already is closed, and stays as it is."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
