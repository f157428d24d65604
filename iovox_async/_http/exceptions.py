"""What the engine below says when it fails, as one of our errors.

The law of this room: every failure of a transport, httpx's own or another's, ends in a typed error with one and the
same meaning for the retries, and nothing that may hold the request hangs on it: no frame, no bytes, no engine's object.

aiohttp's errors are told by their names, so that nobody loads it who does not use it. Those of `httpx_aiohttp` hide
them: it calls a refused connection, a reset and an untrusted certificate a timeout, and lets what is not HTTP pass as
it is. So it is the cause that counts. An error of aiohttp holds the request, its headers among them; none is kept.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import httpx

from ..errors import BadRequestError, RequestTimeout, TLSError, TransportError
from .throttle import RetryableFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["failure_of"]

#: Characters of an error's own words that are passed on.
WORDS: Final = 120
#: What to do where nobody can be reached.
CURE: Final = "Check the address (base_url= or IOVOX_URL), the network, and the proxy if there is one."


def failure_of(error: Exception, *, answered: bool = False, route: str = "") -> Exception | None:
    """The typed twin of what a transport raised, with its cause; None for what is no engine's error.

    Args:
        error: what was raised.
        answered: an answer had begun, so what no engine raises is our own mistake, and not for this room.
        route: whom the exchange tried to reach, as `host:port` and nothing that is secret.
    """
    foreign = _aiohttp_s(error)
    cause: BaseException | None
    if foreign is not None:
        failure, cause = _from_aiohttp(foreign, route), _root(foreign)
    elif isinstance(error, httpx.TransportError | OSError):
        failure, cause = _from_httpx(error, route), _bare(error)
    elif answered:
        return None
    else:
        name = type(error).__name__
        failure = RetryableFailure(TransportError(f"the transport failed ({name})"), at_most=2)
        # A ValueError quotes what it could not read.
        cause = None if isinstance(error, ValueError) else _bare(error)
    target = failure.error if isinstance(failure, RetryableFailure) else failure
    target.__cause__ = cause
    failure.__cause__ = cause
    return failure


def _from_httpx(error: httpx.TransportError | OSError, route: str) -> Exception:
    name = type(error).__name__
    match error:
        case httpx.TimeoutException():
            return _timed_out(name)
        case httpx.ConnectError() if certificate := _certificate_problem(error):
            return _untrusted(certificate)
        case httpx.RemoteProtocolError() if "without sending a response" in str(error):
            return _stale()
        case httpx.RemoteProtocolError():
            return _broken(_own_words(error), cut="closed connection" in str(error))
        case httpx.ProxyError() if "407" in str(error):
            return BadRequestError(407, ("the proxy refused",))
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol():
            return TransportError(f"the request cannot be sent ({name})")
    missed = route if isinstance(error, httpx.ConnectError | httpx.ProxyError) else None
    return _lost(name, str(error), missed)


def _from_aiohttp(error: BaseException, route: str) -> Exception:
    name = type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if certificate := _certificate_problem(error):
        return _untrusted(certificate)
    if "ServerFingerprintMismatch" in kinds:
        return _untrusted("it has another fingerprint")
    if "ServerTimeoutError" in kinds:
        return _timed_out(name)
    if "ServerDisconnectedError" in kinds:
        return _stale()
    if "ClientPayloadError" in kinds:
        # Its words quote the answer.
        return _broken(name, cut="is not completed" in str(error))
    if "ClientHttpProxyError" in kinds:
        status = getattr(error, "status", 0)
        if status == 407:
            return BadRequestError(407, ("the proxy refused",))
        return _lost(name, f"the proxy answers {status}", route)
    if "ClientResponseError" in kinds:
        return _broken(name, cut=False)
    if kinds & {"InvalidURL", "NonHttpUrlClientError"}:
        return TransportError(f"the request cannot be sent ({name})")
    words = str(getattr(error, "strerror", None) or "")
    return _lost(name, words, route if "ClientConnectorError" in kinds else None)


# The failures there are.


def _timed_out(name: str) -> Exception:
    return RetryableFailure(RequestTimeout(f"the network timed out ({name})"), overload=True, split=True)


def _untrusted(certificate: str) -> Exception:
    return TLSError(f"the server's certificate cannot be trusted: {certificate}")


def _stale() -> Exception:
    return RetryableFailure(TransportError("the server closed the connection without an answer"), stale=True)


def _broken(words: str, *, cut: bool) -> Exception:
    problem = "the answer was cut" if cut else "the answer is not HTTP"
    return RetryableFailure(TransportError(f"{problem} ({words})"), split=cut, at_most=None if cut else 2)


def _lost(name: str, words: str, missed: str | None) -> Exception:
    """A connection that broke, or (`missed`) that never stood: then whom it should have reached is the question."""
    at = f" at {missed}" if missed else ""
    problem = "the connection failed" if missed is None else f"no connection to the server{at}"
    error = TransportError(f"{problem} ({name}: {words[:WORDS] or 'no reason given'})")
    if missed is not None:
        error.hint = CURE
    return RetryableFailure(error)


# What hangs on an error.


def _aiohttp_s(error: BaseException) -> BaseException | None:
    """The error of aiohttp itself: this one, or the one it was made from."""
    for link in (error, error.__cause__):
        if link is not None and any(kind.__module__.startswith("aiohttp.") for kind in type(link).__mro__):
            return link
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _certificate_problem(error: BaseException) -> str | None:
    problem = None
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError) and hasattr(link, "verify_message"):
            return link.verify_message
        if "CERTIFICATE_VERIFY_FAILED" in str(link):
            problem = "verification failed"
    return problem


def _root(error: BaseException) -> BaseException | None:
    """What the system said, below all that aiohttp made of it; nothing hangs on it."""
    for link in _chain(error):
        if isinstance(link, OSError) and _aiohttp_s(link) is None:
            link.__traceback__ = link.__cause__ = link.__context__ = None
            return link
    return None


def _own_words(error: BaseException) -> str:
    """What a library says of bytes that are not HTTP, without these bytes: they may hold anything."""
    return str(error).partition(": ")[0]


def _bare(error: BaseException) -> BaseException:
    """The error without the frames it passed, whose variables hold the headers of the request, and without bytes."""
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None or link.__traceback__ is None:
            continue
        link.__traceback__ = None
        if type(link).__name__.endswith("ProtocolError"):
            link.args = (_own_words(link),)
        todo += [link.__cause__, link.__context__]
    return error
