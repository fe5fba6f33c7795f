"""Host names to addresses, in bounded time."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Address", "Resolver"]

# S3 answers with a few of many addresses and a short life; asking again spreads connections over its servers.
_KEEP_S = 15.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to."""

    family: int
    sockaddr: tuple[object, ...]


class Resolver:
    """Looks names up and keeps the answers for a short while.

    ``getaddrinfo`` knows no deadline, so that names are looked up in a thread that is left behind when it is too slow.

    Args:
        clock: Seconds, monotonic.
        shuffle: Spreads connections over a name's addresses.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        shuffle: Callable[[list[Address]], None] = random.shuffle,
    ) -> None:
        self._clock = clock
        self._shuffle = shuffle
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}

    def resolve(self, host: str, port: int, timeout: float) -> list[Address]:
        """Return a name's addresses, to be tried in turn.

        Args:
            host: Name or numeric address.
            port: Port.
            timeout: Seconds until the answer must be there.

        Returns:
            At least one address.

        Raises:
            OSError: There is no such name, or no answer in time.
        """
        known = self._known.get((host, port))
        now = self._clock()
        if known is not None and now < known[0]:
            addresses = list(known[1])
        else:
            addresses = self._look_up(host, port, timeout)
            self._known[(host, port)] = (now + _KEEP_S, list(addresses))
        if len(addresses) > 1:
            # Within one family only: the system's order of families (RFC 6724) is kept.
            first = addresses[0].family
            same = [address for address in addresses if address.family == first]
            self._shuffle(same)
            addresses = same + [address for address in addresses if address.family != first]
        return addresses

    def _look_up(self, host: str, port: int, timeout: float) -> list[Address]:
        try:
            return _addresses(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # a name, not an address
        answer: list[list[Address] | OSError] = []

        def ask() -> None:
            try:
                answer.append(_addresses(host, port, 0))
            except OSError as error:
                answer.append(error)

        thread = threading.Thread(target=ask, name="s3torch-dns", daemon=True)
        thread.start()
        thread.join(timeout)
        if not answer:
            raise TimeoutError(f"no answer from DNS for {host} within {timeout:g} s")
        if isinstance(answer[0], OSError):
            raise answer[0]
        return answer[0]


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except ValueError as error:  # UnicodeError among them: it cannot be written as a name
        raise socket.gaierror(socket.EAI_NONAME, f"not a host name: {host!r}") from error
    return list(dict.fromkeys(Address(family, sockaddr) for family, _, _, _, sockaddr in found))
