"""Checks the URLs of the endpoint and the proxy, and formats URLs for messages."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from ..errors import ConfigurationError

__all__ = ["check_base_url", "format_address", "format_origin", "parse_proxy"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def check_base_url(base_url: str) -> str:
    """Returns the base URL without a trailing slash.

    Raises:
        ConfigurationError: it is not a URL, contains credentials or a query, or would send the key unencrypted.
    """
    url = _parse(base_url)
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
        raise ConfigurationError(
            "base_url",
            f"must use https: with http, the key would be sent to {url.host} unencrypted",
            "http is allowed for loopback addresses only.",
        )
    return str(url).rstrip("/")


def parse_proxy(proxy: str | None, base_url: str) -> httpx.Proxy | None:
    """Returns the proxy for a base URL, or None for a direct connection.

    Args:
        proxy: a proxy's URL, "environment" to use HTTPS_PROXY and the like, or None.
        base_url: as `check_base_url` returns it.

    Raises:
        ConfigurationError: it is not a supported URL, or would send the key unencrypted.
    """
    if proxy is None:
        return None
    base = httpx.URL(base_url)
    if proxy == "environment":
        proxies = getproxies()
        proxy = proxies.get(base.scheme, proxies.get("all"))
        if proxy is None or _is_loopback(base) or proxy_bypass(base.netloc.decode()):
            return None
    url = _parse(proxy)
    if url is None or url.scheme not in _DEFAULT_PORTS or not url.host:
        raise ConfigurationError(
            "proxy", 'must be a URL like http://host:8080 or socks5://host:1080, or "environment"'
        )
    if base.scheme == "http" and not _is_loopback(url):
        raise ConfigurationError(
            "proxy",
            "must be on this machine if base_url uses http: the key would be sent unencrypted",
            "Use https in base_url.",
        )
    return httpx.Proxy(url)


def format_address(url: httpx.URL) -> str:
    """The `host:port` of a URL."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or _DEFAULT_PORTS[url.scheme]}"


def format_origin(location: str | None) -> str:
    """The origin of a redirect's target, without credentials, path and query; empty if it cannot be parsed."""
    url = _parse(location or "")
    if url is None or not url.host:
        return "" if url is None else "another path"
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"


def _is_loopback(url: httpx.URL) -> bool:
    if url.host == "localhost":
        return True
    try:
        # A host name may begin with 127 and resolve to any address.
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def _parse(text: str) -> httpx.URL | None:
    try:
        urlsplit(text)  # stricter about brackets than httpx
        return httpx.URL(text)
    except (ValueError, httpx.InvalidURL, TypeError, AttributeError):
        return None
