"""Where a request goes: scheme, host, port, and the proxy on the way."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote, urlsplit

__all__ = ["Proxy", "Route", "make_route", "parse_proxy", "parse_route"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str | None = None
    """Value of ``Proxy-Authorization``, where the URL has a user."""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One server, and how it is reached; connections with the same route are interchangeable.

    There is one object for each route (`make_route`), so that finding a connection compares nothing.
    """

    scheme: str
    host: str
    """Name or address, IPv6 without brackets."""
    port: int
    proxy: Proxy | None = None

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def netloc(self) -> str:
        """Value of the Host header: the port only where it is not the scheme's own (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@cache
def make_route(scheme: str, host: str, port: int, proxy: Proxy | None) -> Route:
    """Return the route; the same object for the same arguments (no defaults: the cache would tell them apart)."""
    return Route(scheme, host, port, proxy)


def parse_route(url: str, proxy: Proxy | None = None) -> tuple[Route, str]:
    """Split a URL into its route and its path.

    Args:
        url: ``http(s)://host[:port][/path]``.
        proxy: The proxy on the way.

    Returns:
        The route, and the path without a trailing slash.

    Raises:
        ValueError: The URL is not of that form.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"not an endpoint: {url!r}; expected http://host[:port] or https://host[:port]")
    if parts.username or parts.query or parts.fragment:
        raise ValueError("an endpoint takes no user, query or fragment")
    return make_route(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], proxy), parts.path.rstrip("/")


def parse_proxy(url: str) -> Proxy:
    """Read a proxy's URL, as ``HTTPS_PROXY`` holds it.

    Args:
        url: ``[http://][user:password@]host[:port]``.

    Returns:
        The proxy.

    Raises:
        ValueError: It is not an HTTP proxy.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"only http:// proxies are supported, got scheme {parts.scheme!r}")
    authorization = None
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(user.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization)
