"""Names to addresses: kept for a while, spread, and never waited for without end."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from s3torch.client.direct.resolver import Address, Resolver


class Dns:
    """Answers in place of the system's resolver."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.error: OSError | None = None
        self.block: threading.Event | None = None
        self._system = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, port: int, **options: Any) -> Any:
        if options.get("flags") == socket.AI_NUMERICHOST:
            return self._system(host, port, **options)
        self.asked.append((host, port))
        if self.block is not None:
            self.block.wait(60)
        if self.error is not None:
            raise self.error
        found = []
        for answer in self.answers:
            family = socket.AF_INET6 if ":" in answer else socket.AF_INET
            found.append((family, socket.SOCK_STREAM, 6, "", (answer, port)))
        return found


def hosts(addresses: list[Address]) -> list[object]:
    return [address.sockaddr[0] for address in addresses]


def reverse(addresses: list[Address]) -> None:
    addresses.reverse()


def test_answers_are_kept_for_a_short_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    dns = Dns(monkeypatch, "10.0.0.1")
    resolver = Resolver(clock=lambda: now)
    for _ in range(3):
        assert hosts(resolver.resolve("store.example", 443, 1.0)) == ["10.0.0.1"]
    assert dns.asked == [("store.example", 443)]
    now += 60
    dns.answers = ["10.0.0.2"]
    assert hosts(resolver.resolve("store.example", 443, 1.0)) == ["10.0.0.2"]
    resolver.resolve("store.example", 80, 1.0)
    assert dns.asked == [("store.example", 443)] * 2 + [("store.example", 80)]


def test_connections_are_spread_within_the_family_the_system_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    Dns(monkeypatch, "2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2", "2001:db8::1")
    resolver = Resolver(shuffle=reverse)
    for _ in range(2):  # the second time from what is kept, which no caller has emptied
        found = resolver.resolve("store.example", 443, 1.0)
        assert hosts(found) == ["2001:db8::2", "2001:db8::1", "10.0.0.1", "10.0.0.2"]
        found.clear()


def test_addresses_need_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch)
    resolver = Resolver()
    (four,) = resolver.resolve("127.0.0.1", 80, 1.0)
    assert (four.family, four.sockaddr[:2]) == (socket.AF_INET, ("127.0.0.1", 80))
    (six,) = resolver.resolve("::1", 80, 1.0)
    assert (six.family, six.sockaddr[:2]) == (socket.AF_INET6, ("::1", 80))
    assert dns.asked == []


def test_a_name_that_is_not_known_is_an_error_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, "10.0.0.1")
    dns.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    resolver = Resolver()
    with pytest.raises(socket.gaierror):
        resolver.resolve("store.example", 443, 1.0)
    dns.error = None
    assert hosts(resolver.resolve("store.example", 443, 1.0)) == ["10.0.0.1"]


def test_an_answer_that_does_not_come_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch, "10.0.0.1")
    dns.block = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"store\.example"):
        Resolver().resolve("store.example", 443, 0.1)
    assert time.monotonic() - started < 20
    dns.block.set()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "..", "a\x00b", "sp ace.example", "\udcff.example", "é" * 70])
def test_what_cannot_be_a_name_is_an_os_error(host: str) -> None:
    # getaddrinfo encodes names itself, and its encoding's errors are no OSError.
    with pytest.raises(OSError):
        Resolver().resolve(host, 80, 5.0)


def test_the_systems_own_names_are_known() -> None:
    assert {"127.0.0.1", "::1"} & set(hosts(Resolver().resolve("localhost", 80, 5.0)))
