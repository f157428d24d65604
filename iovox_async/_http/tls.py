"""Which certificates a session trusts: the argument `verify`, and the TLS context that it stands for.

Invariants:

- A certificate is always verified, unless the caller's own context does not.
- Key logging is off, so that whoever sets SSLKEYLOGFILE cannot read the key.
"""

from __future__ import annotations

import importlib
import os
import re
import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from .._redaction import shorten_repr
from ..errors import ConfigurationError, MissingExtraError
from .engines import is_installed

if TYPE_CHECKING:
    from .engines import Engine

#: The values of the argument `verify`.
Verify: TypeAlias = bool | str | os.PathLike[str] | ssl.SSLContext

#: How OpenSSL names the certificates of a folder.
_HASHED_NAME: Final = r"[0-9a-f]{8}\.\d+"
_CERTIFICATE_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer"})


class Trust(msgspec.Struct, frozen=True):
    """The certificates that a session trusts.

    Attributes:
        parameter: the argument or variable that names them.
        file: a file of certificates.
        folders: folders of certificates, separated as in PATH.
        system: those of the operating system.
        context: a context of the caller's.
    """

    parameter: str = "verify"
    file: str | None = None
    folders: str | None = None
    system: bool = False
    context: ssl.SSLContext | None = None


def check_verify(verify: Verify) -> Trust:
    """Resolves the argument `verify`.

    Raises:
        ConfigurationError: it is of another type, or the path does not exist.
        MissingExtraError: truststore is not installed.
    """
    if verify is True:
        return Trust()
    if isinstance(verify, ssl.SSLContext):
        if verify.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise ConfigurationError("verify", "must be a context of a client, got one of a server")
        return Trust(context=verify)
    if verify == "system":
        if not is_installed("truststore"):
            raise MissingExtraError('verify="system"', "truststore")
        return Trust(system=True)
    if isinstance(verify, str | os.PathLike) and os.fspath(verify):
        path = os.fspath(verify)
        return Trust(folders=path) if Path(path).is_dir() else Trust(file=_existing_file("verify", path))
    hint = None
    if verify is False:
        hint = (
            "Without verification the key could be sent to anyone. If a company's certificate is not accepted, pass the path "
            "of its CA bundle."
        )
    raise ConfigurationError(
        "verify",
        'must be True, a path to a CA bundle or to a folder of certificates, "system", or an ssl.SSLContext, '
        f"got {shorten_repr(verify)}",
        hint,
    )


def _from_environment() -> Trust:
    if file := os.environ.get("SSL_CERT_FILE"):
        return Trust("SSL_CERT_FILE", file=_existing_file("SSL_CERT_FILE", file))
    if folders := os.environ.get("SSL_CERT_DIR"):
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
            raise ConfigurationError("SSL_CERT_DIR", f"must be a folder, got {shorten_repr(folders)}")
        return Trust("SSL_CERT_DIR", folders=folders)
    return Trust()


def _existing_file(parameter: str, path: str) -> str:
    if not Path(path).is_file():
        raise ConfigurationError(
            parameter,
            f"must be a file with CA certificates, got {shorten_repr(path)}, which does not exist",
        )
    return path


_default_contexts: Final[dict[str, ssl.SSLContext]] = {}
_lock: Final = threading.Lock()


def create_context(engine: Engine, trust: Trust) -> ssl.SSLContext:
    """Returns the context for these certificates, by default for those that SSL_CERT_FILE or SSL_CERT_DIR names.

    Without any, the context of the library's own is created once in a process, since reading its certificates takes 25 ms.

    Raises:
        ConfigurationError: the certificates cannot be read.
    """
    # A handshake imports it to encode the server's name: here in a thread, not there in the event loop.
    importlib.import_module("encodings.idna")
    if trust == Trust():
        trust = _from_environment()
    if trust.context is not None:
        context = trust.context
    elif trust.system:
        import truststore

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif trust.file is not None or trust.folders is not None:
        context = _from_files(trust)
    else:
        with _lock:
            if engine.name not in _default_contexts:
                _default_contexts[engine.name] = _default(engine)
            context = _default_contexts[engine.name]
    context.keylog_filename = None  # type: ignore[assignment]  # as documented
    return context


def _default(engine: Engine) -> ssl.SSLContext:
    try:
        import certifi
    except ImportError:  # httpx2 does without
        context: ssl.SSLContext = engine.library.create_ssl_context(trust_env=False)
        return context
    return _from_files(Trust(file=certifi.where()))


def _from_files(trust: Trust) -> ssl.SSLContext:
    # `ssl.create_default_context` would open the file of SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    path = trust.file or trust.folders or ""
    try:
        if trust.file is not None:
            context.load_verify_locations(cafile=trust.file)
        else:
            _load_folders(context, path)
    except OSError as error:  # and ssl.SSLError
        raise ConfigurationError(
            trust.parameter,
            f"must name CA certificates in the format PEM, got {shorten_repr(path)} ({error.strerror or error})",
        ) from None
    return context


def _load_folders(context: ssl.SSLContext, folders: str) -> None:
    context.load_verify_locations(capath=folders)
    for folder in folders.split(os.pathsep):
        files = [path for path in Path(folder).glob("*") if path.is_file()]
        # OpenSSL finds nothing in a folder that `openssl rehash` has not prepared.
        if not any(re.fullmatch(_HASHED_NAME, path.name) for path in files):
            files = [path for path in files if path.suffix.lower() in _CERTIFICATE_SUFFIXES]
            if not files:
                raise FileNotFoundError(2, "there is no certificate in the folder")
            for path in files:
                context.load_verify_locations(cafile=path)
