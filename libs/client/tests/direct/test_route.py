"""Endpoints and proxies, read from their URLs."""

from __future__ import annotations

import pytest

from s3torch.client.direct.route import Proxy, make_route, parse_proxy, parse_route


@pytest.mark.parametrize(
    ("url", "host", "port", "netloc", "path", "is_tls"),
    [
        ("http://host", "host", 80, "host", "", False),
        ("https://host", "host", 443, "host", "", True),
        ("http://host:80/", "host", 80, "host", "", False),
        ("https://host:443", "host", 443, "host", "", True),
        ("http://host:443", "host", 443, "host:443", "", False),
        ("https://host:9000/some/path/", "host", 9000, "host:9000", "/some/path", True),
        ("HTTP://HOST.Example:9000", "host.example", 9000, "host.example:9000", "", False),
        ("http://[::1]", "::1", 80, "[::1]", "", False),
        ("http://[fe80::1]:9000/x", "fe80::1", 9000, "[fe80::1]:9000", "/x", False),
        ("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000", "", False),
    ],
)
def test_reads_an_endpoint(url: str, host: str, port: int, netloc: str, path: str, *, is_tls: bool) -> None:
    route, found = parse_route(url)
    assert (route.host, route.port, route.netloc, found, route.is_tls) == (host, port, netloc, path, is_tls)
    assert route.proxy is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "host:9000",
        "ftp://host",
        "http://",
        "http:///path",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://host?query",
        "http://host#fragment",
        "http://user@host",
    ],
)
def test_refuses_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(ValueError):
        parse_route(url)


def test_routes_are_one_object_each() -> None:
    proxy = Proxy("proxy", 3128)
    assert make_route("http", "host", 80, None) is parse_route("http://host")[0]
    assert make_route("http", "host", 80, proxy) is parse_route("http://host:80/p", Proxy("proxy", 3128))[0]
    routes = {
        make_route(scheme, host, port, via)
        for scheme in ("http", "https")
        for host in ("a", "b")
        for port in (80, 443)
        for via in (None, proxy)
    }
    assert len(routes) == 16


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128)),
        ("proxy:3128", Proxy("proxy", 3128)),
        ("proxy", Proxy("proxy", 80)),
        ("http://[::1]:3128/", Proxy("::1", 3128)),
        ("http://user:pass@proxy:1", Proxy("proxy", 1, "Basic dXNlcjpwYXNz")),
        ("http://us%40er:p%3Ass@proxy:1", Proxy("proxy", 1, "Basic dXNAZXI6cDpzcw==")),
        ("http://user@proxy:1", Proxy("proxy", 1, "Basic dXNlcjo=")),
    ],
)
def test_reads_a_proxy(url: str, expected: Proxy) -> None:
    assert parse_proxy(url) == expected


@pytest.mark.parametrize("url", ["", "http://", "https://proxy:1", "socks5://proxy:1", "http://proxy:port"])
def test_refuses_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ValueError):
        parse_proxy(url)


def test_a_proxys_password_does_not_show() -> None:
    proxy = parse_proxy("http://user:pass@proxy:1")
    route = make_route("http", "host", 80, proxy)
    for shown in (repr(proxy), repr(route), str(route)):
        assert "dXNlcjpwYXNz" not in shown
        assert "pass" not in shown
