"""Non-blocking byte streams: a socket, and TLS over a socket."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

__all__ = ["PlainTransport", "TlsTransport"]

# Bytes taken from the socket at once under TLS: many records, as each system call costs as much as several of them.
_CIPHER_READ = 256 * 1024
_CIPHER_WRITE = 128 * 1024


class _Scratch(threading.local):
    """Where each thread puts ciphertext on its way from any of its sockets: it stays for the length of a call."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(_CIPHER_READ))


_scratch = _Scratch()


class PlainTransport:
    """A non-blocking socket."""

    __slots__ = ("drains", "recv_into", "send", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.drains = False
        self.recv_into = sock.recv_into
        self.send = sock.send

    def is_sending(self) -> bool:
        """Whether bytes that were accepted still wait for the socket."""
        return False

    def flush(self) -> None:
        """Nothing waits."""


class TlsTransport:
    """TLS over a non-blocking socket, through memory.

    `ssl.MemoryBIO` takes what one system call brought, many records at once, and each is decrypted straight into its
    destination; a non-blocking `ssl.SSLSocket` pays a system call, an exception and a selector's turn for each record.

    Args:
        sock: A connected non-blocking socket.
        context: Who is trusted.
        hostname: The server's name, which its certificate must bear.
    """

    __slots__ = ("_in", "_out", "_pending", "_tls", "drains", "sock")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, hostname: str) -> None:
        self.sock = sock
        self.drains = True
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=hostname)
        self._pending: memoryview | None = None  # ciphertext that the socket has not taken yet

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is complete.

        Raises:
            ssl.SSLError: The peers do not agree, or the certificate is not trusted.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                try:
                    self._feed()
                except BlockingIOError:
                    return False
            except ssl.SSLError:
                self.flush()  # tell the peer why
                raise
            else:
                self.flush()
                return True

    def recv_into(self, buffer: memoryview) -> int:
        """Decrypt what there is into ``buffer``."""
        size = buffer.nbytes
        # typeshed knows read() without a buffer only, which returns bytes
        read: Callable[[int, memoryview], int] = self._tls.read  # type: ignore[assignment]
        filled = 0
        while filled < size:
            try:
                count = read(size - filled, buffer[filled:])
            except ssl.SSLWantReadError:
                try:
                    self._feed()
                except OSError:  # nothing there now, or a broken connection: what has come so far counts first
                    if filled:
                        return filled
                    raise
                continue
            except ssl.SSLZeroReturnError:
                return filled
            if not count:
                return filled
            filled += count
        return filled

    def send(self, data: memoryview) -> int:
        """Encrypt and send a piece of ``data``; more only once the socket has taken all of the piece before."""
        self.flush()
        if self._pending is not None:
            raise BlockingIOError
        count = self._tls.write(data[:_CIPHER_WRITE])
        self.flush()
        return count

    def is_sending(self) -> bool:
        """Whether ciphertext still waits for the socket."""
        return self._pending is not None

    def flush(self) -> None:
        """Hand waiting ciphertext to the socket, as far as it takes it."""
        while True:
            if self._pending is None:
                data = self._out.read()
                if not data:
                    return
                self._pending = memoryview(data)
            try:
                count = self.sock.send(self._pending)
            except BlockingIOError:
                return
            self._pending = self._pending[count:] if count < len(self._pending) else None

    def _feed(self) -> None:
        """Take ciphertext from the socket."""
        cipher = _scratch.cipher
        count = self.sock.recv_into(cipher)
        if not count:
            # Without close_notify a cut cannot be told from an end (RFC 8446, section 6.1).
            raise ConnectionResetError("the TLS connection ended without notice")
        self._in.write(cipher[:count])
