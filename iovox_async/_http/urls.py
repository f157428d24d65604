"""Checks the URLs of the endpoint and the proxy, and formats URLs for messages."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

    from .engines import Engine

__all__ = ["check_base_url", "format_address", "format_origin", "parse_proxy"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def check_base_url(base_url: str, engine: Engine, *, allow_http: bool = False) -> str:
    """Returns the base URL without a trailing slash.

    Args:
        base_url: the URL.
        engine: the library that parses it.
        allow_http: accept http to a host of a private network.

    Raises:
        ConfigurationError: it is not a URL, contains credentials or a query, or would send the key unencrypted.
    """
    url = _parse(base_url, engine)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(
            "base_url", "must be a URL like https://host/path", "Correct base_url= or IOVOX_URL."
        )
    if url.userinfo:
        raise ConfigurationError(
            "base_url", "must not contain credentials", "Pass username= and secure_key= instead."
        )
    if url.query or url.fragment:
        raise ConfigurationError("base_url", "must not contain a query or a fragment")
    if url.scheme == "http" and not _is_loopback(url):
        unencrypted = f"must use https: with http, the key would be sent to {url.host} unencrypted"
        if _is_public(url):
            raise ConfigurationError(
                "base_url", unencrypted, "http is allowed to this machine and to private networks only."
            )
        if not allow_http:
            raise ConfigurationError(
                "base_url",
                unencrypted,
                "For a host of a private network, such as a sandbox in another container, pass allow_http=True or set "
                "IOVOX_ALLOW_HTTP=1.",
            )
    return str(url).rstrip("/")


def parse_proxy(
    proxy: str | None, base_url: str, engine: Engine, *, allow_http: bool = False
) -> httpx.Proxy | None:
    """Returns the proxy for a base URL, or None for a direct connection.

    Args:
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        base_url: as `check_base_url` returns it.
        engine: the library that parses it.
        allow_http: with a base URL of http, accept a proxy in a private network.

    Raises:
        ConfigurationError: it is not a supported URL, or would send the key unencrypted.
    """
    if proxy is None:
        return None
    base = engine.library.URL(base_url)
    if proxy == "environment":
        proxies = getproxies()
        proxy = proxies.get(base.scheme, proxies.get("all"))
        if proxy is None or _is_loopback(base) or proxy_bypass(base.netloc.decode()):
            return None
    url = _parse(proxy, engine)
    if url is None or url.scheme not in _DEFAULT_PORTS or not url.host:
        raise ConfigurationError(
            "proxy", 'must be a URL like http://host:8080 or socks5://host:1080, or "environment"'
        )
    if base.scheme == "http" and not _is_loopback(url) and (_is_public(url) or not allow_http):
        raise ConfigurationError(
            "proxy",
            "must be on this machine if base_url uses http: the key would be sent unencrypted",
            "Use https in base_url.",
        )
    parsed: httpx.Proxy = engine.library.Proxy(url)
    return parsed


def format_address(url: httpx.URL) -> str:
    """The `host:port` of a URL."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _DEFAULT_PORTS[url.scheme]}"


def format_origin(location: str | None, engine: Engine) -> str:
    """The origin of a redirect's target, without credentials, path and query; empty if it cannot be parsed."""
    url = _parse(location or "", engine)
    if url is None or not url.host:
        return "" if url is None else "another path"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _ip_address(url: httpx.URL) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(url.host)
    except ValueError:
        return None


def _is_loopback(url: httpx.URL) -> bool:
    # A host name may begin with 127 and resolve to any address.
    address = _ip_address(url)
    return url.host == "localhost" if address is None else address.is_loopback


def _is_public(url: httpx.URL) -> bool:
    """Whether a host is certainly not in a private network: a public address, or the service itself."""
    address = _ip_address(url)
    return f".{url.host}".endswith(".iovox.com") if address is None else address.is_global


def _parse(text: str, engine: Engine) -> httpx.URL | None:
    try:
        urlsplit(text)  # stricter about brackets than httpx
        url: httpx.URL = engine.library.URL(text)
    except (ValueError, engine.library.InvalidURL, TypeError, AttributeError):
        return None
    return url
