"""Converts the exceptions of HTTP libraries to errors of this package.

Classes of httpx, httpx2, their connection pools and aiohttp are recognized by name: their exceptions are equivalent, and each
library is imported only by those who use it. `httpx_aiohttp` reports a refused connection, a reset and an untrusted
certificate as a timeout, and does not convert errors in the HTTP syntax, so aiohttp's own exception decides where there is one.

Invariants: no error keeps a reference to the request, whose headers contain the key: no frame, no bytes, no exception of aiohttp.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final

from .._wording import Wording
from ..errors import BadRequestError, RequestTimeout, TLSError, TransportError
from .failures import RetryableFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of a library's message that are kept.
MESSAGE_LENGTH: Final = 120
CONNECTION_HINT: Final = Wording(
    "Check the address ({base_url}), the network, and the proxy if there is one."
)
#: Hints by words of OpenSSL's message; the last fits all.
_CERTIFICATE_HINTS: Final = (
    (
        ("mismatch", "not valid for", "fingerprint"),
        Wording("Check the host in {base_url}, and the proxy if there is one."),
    ),
    (
        ("expired", "not yet valid"),
        "Check the clock of this machine; if it is right, the server needs a new certificate.",
    ),
    (
        ("Missing Authority Key Identifier", "Basic Constraints", "keyUsage", "Key Usage"),
        Wording(
            "The certificate breaks a rule that Python checks since 3.13. Until it is renewed, give {verify} an ssl.SSLContext "
            "without the flag ssl.VERIFY_X509_STRICT."
        ),
    ),
    (
        ("",),
        Wording(
            "If a company's proxy or server has a certificate of its own authority, give {verify} the path of the authority's "
            "CA bundle, or set SSL_CERT_FILE to it; if the operating system trusts it, install iovox-async[truststore] and "
            "pass {verify=system}."
        ),
    ),
)
_CLIENT_CERTIFICATE_HINT: Final = Wording(
    "If it requires a client certificate, give {verify} an ssl.SSLContext with it: context = ssl.create_default_context(); "
    "context.load_cert_chain(file)."
)
#: Alerts of a server that requires a client certificate, or accepts another one only.
_ALERT: Final = r"ALERT_(?:.*CERTIFICATE.*|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED)"
_HTTPX_PACKAGES: Final = frozenset({"httpx", "httpcore", "httpx2", "httpcore2"})
#: The operating system's errors for a server or network that cannot be reached, of which a transport may raise the bare class.
_UNREACHABLE: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})
#: A name that does not exist is a wrong address rather than an outage.
_UNKNOWN_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def convert_exception(
    error: Exception, *, response_started: bool = False, reused: bool = False, address: str = ""
) -> RetryableFailure | TransportError | BadRequestError | None:
    """Returns our error for an exception of a transport, with its cause; None if no HTTP library raised it.

    Args:
        error: the exception.
        response_started: a response has arrived; then an unknown exception is a bug of this package.
        reused: the connection had served a request before.
        address: `host:port` of the server or proxy.
    """
    aiohttp_error = _find_aiohttp_error(error)
    names = _class_names(error, _HTTPX_PACKAGES)
    refused = _is_refused(error)
    failure: RetryableFailure | TransportError | BadRequestError
    cause: BaseException | None
    if alert := _handshake_alert(error):
        failure, cause = _refused_handshake(alert), None
    elif aiohttp_error is not None:
        failure, cause = _from_aiohttp(aiohttp_error, address, reused=reused), _find_os_error(aiohttp_error)
        # Their frames may refer to each other, and through the frames that called them to the page of a later attempt.
        _without_request(error)
    elif names or isinstance(error, OSError):
        failure, cause = _from_httpx(error, names, address, reused=reused), _without_request(error)
    elif response_started:
        return None
    else:
        name = type(error).__name__
        failure = RetryableFailure(TransportError(f"the transport failed ({name})"), max_attempts=2)
        # The message of a ValueError quotes the value.
        cause = None if isinstance(error, ValueError) else _without_request(error)
    target: BaseException = failure
    if isinstance(failure, RetryableFailure):
        target, failure.refused = failure.error, refused and failure.unreachable
    target.__cause__ = cause
    failure.__cause__ = cause
    return failure


def _from_httpx(
    error: Exception, names: frozenset[str], address: str, *, reused: bool
) -> RetryableFailure | TransportError | BadRequestError:
    name, message = type(error).__name__, str(error)
    if "TimeoutException" in names:
        return _timeout(name, connecting="ConnectTimeout" in names)
    if "ConnectError" in names and (problem := _certificate_problem(error)):
        return _untrusted_certificate(problem)
    if "RemoteProtocolError" in names:
        if "without sending a response" in message:
            return _closed_without_response(reused=reused)
        return _invalid_response(_without_bytes(message), incomplete="closed connection" in message)
    if "ProxyError" in names and "407" in message:
        return _proxy_refused()
    if names & {"LocalProtocolError", "UnsupportedProtocol"}:
        return _invalid_request(name)
    if names & {"ConnectError", "ProxyError"} or _is_unreachable(error):
        # With a ProxyError, the proxy has responded.
        return _cannot_connect(
            name, message, address, may_recover="ProxyError" not in names and _may_recover(error)
        )
    return _connection_lost(name, message)


def _from_aiohttp(
    error: BaseException, address: str, *, reused: bool
) -> RetryableFailure | TransportError | BadRequestError:
    name, names = type(error).__name__, _class_names(error, {"aiohttp"})
    if problem := _certificate_problem(error):
        return _untrusted_certificate(problem)
    if "ServerFingerprintMismatch" in names:
        return _untrusted_certificate("its fingerprint does not match")
    if "ServerTimeoutError" in names:
        return _timeout(name, connecting="ConnectionTimeoutError" in names)
    if "ServerDisconnectedError" in names:
        return _closed_without_response(reused=reused)
    if "ClientPayloadError" in names:
        # Its message quotes the response.
        return _invalid_response(name, incomplete="is not completed" in str(error))
    if "ClientHttpProxyError" in names:
        status = getattr(error, "status", 0)
        if status == 407:
            return _proxy_refused()
        return _cannot_connect(name, f"status {status} from the proxy", address, may_recover=False)
    if "ClientResponseError" in names:
        return _invalid_response(name, incomplete=False)
    if names & {"InvalidURL", "NonHttpUrlClientError"}:
        return _invalid_request(name)
    message = str(getattr(error, "strerror", None) or "")
    if "ClientConnectorError" in names:
        return _cannot_connect(name, message, address, may_recover=_may_recover(error))
    return _connection_lost(name, message)


# One function for each kind of failure.


def _timeout(name: str, *, connecting: bool) -> RetryableFailure:
    error = RequestTimeout(f"the network timed out ({name})")
    return RetryableFailure(error, overload=not connecting, splittable=not connecting, unreachable=connecting)


def _untrusted_certificate(problem: str) -> TLSError:
    hint = next(hint for words, hint in _CERTIFICATE_HINTS if any(word in problem for word in words))
    return TLSError(f"the server's certificate cannot be verified: {problem}", hint=hint)


def _refused_handshake(alert: str) -> TLSError:
    return TLSError(f"the server refused the TLS connection ({alert})", hint=_CLIENT_CERTIFICATE_HINT)


def _closed_without_response(*, reused: bool) -> RetryableFailure:
    error = TransportError("the server closed the connection without a response")
    return RetryableFailure(error, connection_lost=True, stale_connection=reused)


def _invalid_response(message: str, *, incomplete: bool) -> RetryableFailure:
    problem = "the response is incomplete" if incomplete else "the response is not HTTP"
    return RetryableFailure(
        TransportError(f"{problem} ({message})"),
        connection_lost=incomplete,
        splittable=incomplete,
        max_attempts=None if incomplete else 2,
    )


def _proxy_refused() -> BadRequestError:
    return BadRequestError(407, ("the proxy refused the request",))


def _invalid_request(name: str) -> TransportError:
    return TransportError(f"the request cannot be sent ({name})")


def _cannot_connect(name: str, message: str, address: str, *, may_recover: bool) -> RetryableFailure:
    """No connection was made; `may_recover`: a later attempt may succeed."""
    target = f" at {address}" if address else ""
    problem = f"cannot connect to the server{target} ({_reason(name, message)})"
    return RetryableFailure(TransportError(problem, hint=CONNECTION_HINT), unreachable=may_recover)


def _connection_lost(name: str, message: str) -> RetryableFailure:
    error = TransportError(f"the connection failed ({_reason(name, message)})")
    return RetryableFailure(error, connection_lost=True)


def _reason(name: str, message: str) -> str:
    return f"{name}: {message[:MESSAGE_LENGTH] or 'no reason given'}"


# What is read from an exception, and what is removed from it.


def _class_names(error: BaseException, packages: frozenset[str] | set[str]) -> frozenset[str]:
    """The names of an exception's classes that belong to one of these packages."""
    return frozenset(
        cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in packages
    )


def _find_aiohttp_error(error: BaseException) -> BaseException | None:
    """This exception or its direct cause, if it is aiohttp's."""
    for candidate in (error, error.__cause__):
        if candidate is not None and _class_names(candidate, {"aiohttp"}):
            return candidate
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, its cause, the cause's cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _certificate_problem(error: BaseException) -> str | None:
    problem = None
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_message"):
            return cause.verify_message
        if "CERTIFICATE_VERIFY_FAILED" in str(cause):
            problem = "verification failed"
    return problem


def _handshake_alert(error: BaseException) -> str | None:
    """The alert with which a server has refused the client's certificate, or that it has none."""
    for cause in _causes(error):
        # aiohttp's subclasses have no reason.
        reason = getattr(cause, "reason", None) if isinstance(cause, ssl.SSLError) else None
        if isinstance(reason, str) and re.search(_ALERT, reason):
            return reason
    return None


def _is_unreachable(error: Exception) -> bool:
    """Whether a transport has raised an error of the operating system for a connection that could not be made."""
    return isinstance(error, ConnectionRefusedError) or getattr(error, "errno", None) in _UNREACHABLE


def _is_refused(error: BaseException) -> bool:
    """Whether nothing listens at any address of the server."""
    for cause in _causes(error):
        if isinstance(cause, BaseExceptionGroup):
            return all(map(_is_refused, cause.exceptions))
        if getattr(cause, "errno", None) == errno.ECONNREFUSED:
            return True
    return False


def _may_recover(error: BaseException) -> bool:
    """Whether a connection that could not be made may be made later: the name exists, and the server speaks TLS."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno in _UNKNOWN_NAME:
            return False
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return False
    return True


def _find_os_error(error: BaseException) -> BaseException | None:
    """The operating system's error below aiohttp's exceptions, without references to other exceptions."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and not _class_names(cause, {"aiohttp"}):
            cause.__traceback__ = cause.__cause__ = cause.__context__ = None
            return cause
    return None


def _without_bytes(message: str) -> str:
    """A library's message about invalid HTTP, without the bytes that it quotes: they may contain anything."""
    return message.partition(": ")[0]


def _without_request(error: BaseException) -> BaseException:
    """Removes tracebacks, whose frames hold the request's headers, and quoted bytes from an exception and its causes."""
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or current.__traceback__ is None:
            continue
        current.__traceback__ = None
        if type(current).__name__.endswith("ProtocolError"):
            current.args = (_without_bytes(str(current)),)
        pending += [current.__cause__, current.__context__]
    return error
