"""Checks the URLs of the endpoint and the proxy, and formats URLs for messages."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .._wording import Wording
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
#: Characters that no host name has; the URL of a response may have any.
_INVALID_HOST: Final = r"[\x00-\x20\x7f\"#%/<>?@\[\]\\^`{|}]"
_LIKE_IPV4: Final = r"\d+(?:\.\d+){3}"


def check_base_url(base_url: str, *, allow_http: bool = False) -> str:
    """Returns the base URL without a trailing slash.

    Args:
        base_url: the URL.
        allow_http: accept http to a host of a private network.

    Raises:
        ConfigurationError: it is not a URL, contains credentials or a query, or would send the key unencrypted.
    """
    url = _parse(base_url)
    if url is None or url.scheme not in {"http", "https"}:
        raise ConfigurationError(
            "base_url", "must be a URL like https://host/path", Wording("Correct {base_url}.")
        )
    if url.username is not None:
        raise ConfigurationError(
            "base_url", "must not contain credentials", Wording("Give {username} and {secure_key} instead.")
        )
    if "?" in base_url or "#" in base_url:
        raise ConfigurationError("base_url", "must not contain a query or a fragment")
    if url.scheme == "http" and not _is_loopback(url):
        unencrypted = f"must use https: with http, the key would be sent to {url.hostname} unencrypted"
        if _is_public(url):
            raise ConfigurationError(
                "base_url", unencrypted, "http is allowed to this machine and to private networks only."
            )
        if not allow_http:
            raise ConfigurationError(
                "base_url",
                unencrypted,
                Wording(
                    "For a host of a private network, such as a sandbox in another container, set {allow_http=True}."
                ),
            )
    return f"{url.scheme}://{_host_and_port(url)}{url.path}".rstrip("/")


def parse_proxy(proxy: str | None, base_url: str, *, allow_http: bool = False) -> str | None:
    """Returns the URL of the proxy for a base URL, or None for a direct connection.

    Args:
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        base_url: as `check_base_url` returns it.
        allow_http: with a base URL of http, accept a proxy in a private network.

    Raises:
        ConfigurationError: it is not a supported URL, or would send the key unencrypted.
    """
    if proxy is None:
        return None
    base = urlsplit(base_url)
    if proxy == "environment":
        proxies = getproxies()
        proxy = proxies.get(base.scheme, proxies.get("all"))
        if proxy is None or _is_loopback(base) or proxy_bypass(base.netloc):
            return None
    url = _parse(proxy)
    if url is None or url.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(
            "proxy", 'must be a URL like http://host:8080 or socks5://host:1080, or "environment"'
        )
    if base.scheme == "http" and not _is_loopback(url) and (_is_public(url) or not allow_http):
        raise ConfigurationError(
            "proxy",
            "must be on this machine if base_url uses http: the key would be sent unencrypted",
            "Use https in base_url.",
        )
    return proxy


def format_address(text: str) -> str:
    """The `host:port` of a URL that was checked."""
    url = urlsplit(text)
    return f"{_host(url)}:{url.port or _DEFAULT_PORTS[url.scheme]}"


def format_origin(location: str | None) -> str:
    """The origin of a redirect's target, without credentials, path and query; empty if it cannot be parsed."""
    try:
        url = urlsplit(location or "")
    except ValueError:
        return ""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url.netloc else "another path"


def _parse(text: object) -> SplitResult | None:
    """A URL with a host, or None."""
    # urlsplit removes line breaks.
    if not isinstance(text, str) or not text.isprintable():
        return None
    try:
        url = urlsplit(text)
        port = url.port
        host = url.hostname or ""
        if ":" in host or re.fullmatch(_LIKE_IPV4, host):
            ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if port == 0 or not host or re.search(_INVALID_HOST, host) else url


def _host(url: SplitResult) -> str:
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host


def _host_and_port(url: SplitResult) -> str:
    default = url.port is None or url.port == _DEFAULT_PORTS[url.scheme]
    return _host(url) if default else f"{_host(url)}:{url.port}"


def _ip_address(url: SplitResult) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(url.hostname or "")
    except ValueError:
        return None


def _is_loopback(url: SplitResult) -> bool:
    # A host name may begin with 127 and resolve to any address.
    address = _ip_address(url)
    return url.hostname == "localhost" if address is None else address.is_loopback


def _is_public(url: SplitResult) -> bool:
    """Whether a host is certainly not in a private network: a public address, or the service itself."""
    address = _ip_address(url)
    return f".{url.hostname}".endswith(".iovox.com") if address is None else address.is_global
