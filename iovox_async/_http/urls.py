"""Checks and parts of URLs: the address of the endpoint, proxies, redirects."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from ..errors import (
    ConfigurationError,
)

__all__ = ["check_base_url"]


def check_base_url(base_url: str) -> str:
    """The address without a trailing slash.

    Raises:
        ConfigurationError: no address, or one that would send the key in the clear or to a stranger.
    """
    url = _url(base_url)
    if url is None:
        raise ConfigurationError("base_url (IOVOX_URL): it is not a URL")
    if url.userinfo:
        raise ConfigurationError(
            "base_url (IOVOX_URL): credentials do not belong in it; pass username and secure_key"
        )
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("base_url (IOVOX_URL): https://host/path is wanted")
    if url.query or url.fragment:
        raise ConfigurationError("base_url (IOVOX_URL): it takes no query and no fragment")
    if url.scheme == "http" and not _loopback(url):
        raise ConfigurationError(
            f"base_url (IOVOX_URL): http would send the key to {url.host} in the clear; use https (http is for loopback)"
        )
    return str(url).rstrip("/")


def _with_params(url: httpx.URL, params: str) -> httpx.URL:
    """The address with parameters, which are encoded: httpx would look at each character again, for a millisecond."""
    whole = httpx.URL(url)
    whole._uri_reference = url._uri_reference._replace(query=params)  # noqa: SLF001 - there is no other way
    return whole


def _place(url: httpx.URL) -> str:
    """The `host:port` that a URL leads to."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme, 1080)}"


def _origin(location: str | None) -> str:
    """Where a redirect leads, without what might be secret; empty where that cannot be said."""
    url = _url(location or "")
    if url is None or not url.host:
        return "" if url is None else "another path"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _proxy(proxy: str | None, base_url: str) -> httpx.Proxy | None:
    if proxy is None:
        return None
    base = httpx.URL(base_url)
    if proxy == "environment":
        known = getproxies()
        proxy = known.get(base.scheme, known.get("all"))
        if proxy is None or _loopback(base) or proxy_bypass(base.netloc.decode()):
            return None
    url = _url(proxy)
    if url is None or url.scheme not in {"http", "https", "socks5", "socks5h"} or not url.host:
        raise ConfigurationError(
            'proxy: an URL like http://host:8080 or socks5://host:1080, or "environment", is wanted'
        )
    if base.scheme == "http" and not _loopback(url):
        raise ConfigurationError(
            "proxy: with a base_url of http, the key would leave this machine in the clear; use https"
        )
    return httpx.Proxy(url)


def _loopback(url: httpx.URL) -> bool:
    """Whether a URL leads to this machine. By the address: a name may begin with 127 and lead anywhere."""
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def _url(text: str) -> httpx.URL | None:
    """The URL that a text is, or None."""
    try:
        urlsplit(text)  # stricter about brackets than httpx
        return httpx.URL(text)
    except (ValueError, httpx.InvalidURL, TypeError, AttributeError):
        return None
