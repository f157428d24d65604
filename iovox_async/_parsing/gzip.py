"""A strict gzip decoder."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ..errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STEP_BYTES", "GzipDecoder"]

#: Bytes of decoded body handed on in one step.
STEP_BYTES: Final = 1024 * 1024


@define
class GzipDecoder:
    """A strict gzip decoder: every member whole and checked, in steps that its caller can count and stop.

    Raises:
        DecodeError: the stream is damaged or cut.
    """

    _engine: Any = field(factory=lambda: zlib.decompressobj(31))
    _fresh: bool = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes that these bytes inflate to, in steps of at most `STEP_BYTES`."""
        more = bool(data)
        while more:
            self._fresh = False
            try:
                out = self._engine.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise DecodeError(f"the page's gzip is damaged ({error})") from error
            if out:
                yield out
            if self._engine.eof:
                data = self._engine.unused_data
                self._engine = zlib.decompressobj(31)
                self._fresh = True
                more = bool(data)
            else:
                data = self._engine.unconsumed_tail
                # A full step may leave output inside the engine although all input was taken.
                more = bool(data) or len(out) == STEP_BYTES

    def finish(self) -> None:
        """To be called at the end of the body."""
        if not self._fresh:
            raise DecodeError("the page's gzip ends before its trailer: it was cut on the way")
