"""One HTTP exchange over a transport: a request's bytes out, a response's head and body in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from s3torch.client.direct.http1 import ChunkedDecoder, ResponseHead, parse_head
from s3torch.client.errors import ProtocolError

__all__ = ["Exchange", "Responder", "Transport"]

_HEAD_SIZE = 4 * 1024
_LONGEST_HEAD = 64 * 1024
_SCRATCH = 64 * 1024
# Answers that are collected are lists and errors, never data; S3's largest are a few MiB.
_LONGEST_COLLECTED = 256 * 1024 * 1024


class Transport(Protocol):
    """A non-blocking byte stream. Both calls raise `BlockingIOError` where nothing can be done now."""

    drains: bool
    """Whether reading must go on until `BlockingIOError`, as what is left may be where no selector sees it."""

    def recv_into(self, buffer: memoryview) -> int:
        """Fill what can be filled; 0 at the end of the stream."""
        ...

    def send(self, data: memoryview) -> int:
        """Send what can be sent."""
        ...


class Responder(Protocol):
    """Who asked: says where a body goes."""

    def on_head(self, head: ResponseHead) -> memoryview | None:
        """Take the head; return where a body of known length goes, or None to have it collected."""
        ...


class Exchange:
    """The state of one exchange, advanced by whoever drives its connection.

    Args:
        responder: Who asked.
        pieces: The request, head and body, sent piece by piece without a copy.
        is_head: Whether the request is a HEAD.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_decoder",
        "_have",
        "_is_head",
        "_pieces",
        "_scratch",
        "_view",
        "filled",
        "has_begun",
        "head",
        "responder",
        "sent",
    )

    def __init__(self, responder: Responder, pieces: Sequence[memoryview], *, is_head: bool = False) -> None:
        self.responder = responder
        self.sent = 0
        self.filled = 0
        self.has_begun = False
        self.head: ResponseHead | None = None
        self._is_head = is_head
        self._pieces = deque(pieces)
        self._buffer = bytearray(_HEAD_SIZE)
        self._have = 0
        self._view: memoryview | None = None
        self._body: bytearray | None = None
        self._decoder: ChunkedDecoder | None = None
        self._scratch: memoryview | None = None

    @property
    def body(self) -> bytes:
        """The collected body; empty where it went to its destination."""
        if self._decoder is not None:
            return bytes(self._decoder.body)
        return b"" if self._body is None else bytes(self._body)

    @property
    def is_sent(self) -> bool:
        """Whether the request has been handed to the transport."""
        return not self._pieces

    def replace_body(self, pieces: Sequence[memoryview], head_size: int) -> None:
        """Go on sending from an equal copy of the body.

        Args:
            pieces: The copy.
            head_size: Bytes of the request before its body.
        """
        if not self._pieces:
            return
        skip = self.sent - head_size
        if skip < 0:  # the head is still being sent
            self._pieces = deque([self._pieces[0], *pieces])
            return
        left: deque[memoryview] = deque()
        for piece in pieces:
            if skip >= piece.nbytes:
                skip -= piece.nbytes
            else:
                left.append(piece[skip:])
                skip = 0
        self._pieces = left

    def send(self, transport: Transport) -> bool:
        """Send what the transport takes; True once the whole request is sent."""
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            count = transport.send(piece)
            self.sent += count
            if count == piece.nbytes:
                pieces.popleft()
            else:
                pieces[0] = piece[count:]
                if not transport.drains:
                    return False
        return True

    def receive(self, transport: Transport) -> bool:
        """Receive what there is; True once the response is complete.

        Raises:
            ConnectionResetError: The connection ended before the response did.
            ProtocolError: The response is malformed.
        """
        if self.head is None and not self._receive_head(transport):
            return False
        head = self.head
        view = self._view
        if view is not None:
            size = view.nbytes
            while self.filled < size:
                left = size - self.filled
                count = transport.recv_into(view[self.filled :])
                if not count:
                    raise ConnectionResetError(f"the connection ended {left} bytes before the body did")
                self.filled += count
                if count < left and not transport.drains:
                    return False
            self._view = None  # the destination's owner may turn it into bytes only once no view of it is left
            return True
        assert head is not None  # noqa: S101  # _receive_head returned True
        return self._collect(transport, head)

    def _receive_head(self, transport: Transport) -> bool:
        while True:
            buffer = self._buffer
            have = self._have
            room = memoryview(buffer)[have:]
            count = transport.recv_into(room)
            full = count == len(room)
            room.release()
            if not count:
                raise ConnectionResetError("the connection ended before a response came")
            self.has_begun = True
            self._have = have + count
            if self._take_head(max(0, have - 3)):
                return True
            if full:
                if len(buffer) >= _LONGEST_HEAD:
                    raise ProtocolError(f"the response's head is longer than {_LONGEST_HEAD} bytes")
                buffer.extend(bytes(len(buffer)))
            elif not transport.drains:
                return False

    def _take_head(self, search_from: int) -> bool:
        """Parse the head if it is complete, and hand what came with it to the body."""
        while True:
            end = self._buffer.find(b"\r\n\r\n", search_from, self._have)
            if end < 0:
                return False
            received = memoryview(self._buffer)
            head = parse_head(bytes(received[:end]), is_head=self._is_head)
            rest = received[end + 4 : self._have]
            if head.status >= 200:
                break
            if head.status == 101:
                raise ProtocolError("the server switched protocols unasked")
            # An interim response (RFC 9110, section 15.2): the real one follows.
            self._have = rest.nbytes
            self._buffer = bytearray(rest) + bytes(_HEAD_SIZE)
            search_from = 0
        view = self.responder.on_head(head)
        self.head = head
        if view is not None and head.length is not None:
            if view.nbytes != head.length:
                raise ProtocolError(f"the destination holds {view.nbytes} bytes, the response {head.length}")
            if rest.nbytes > head.length:
                raise ProtocolError("more bytes follow the head than the response has")
            view[: rest.nbytes] = rest
            self._view = view
            self.filled = rest.nbytes
            return True
        if head.is_chunked:
            self._decoder = ChunkedDecoder()
            self._decoder.feed(rest)
        else:
            if head.length is not None and rest.nbytes > head.length:
                raise ProtocolError("more bytes follow the head than the response has")
            self._body = bytearray(rest)
        return True

    def _is_collected(self, head: ResponseHead) -> bool:
        if self._decoder is not None:
            return self._decoder.is_done
        return head.length is not None and self._body is not None and len(self._body) >= head.length

    def _collect(self, transport: Transport, head: ResponseHead) -> bool:
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH))
        while not self._is_collected(head):
            scratch = self._scratch
            if head.length is not None and self._body is not None:
                scratch = scratch[: head.length - len(self._body)]
            count = transport.recv_into(scratch)
            if not count:
                if head.length is None and not head.is_chunked:
                    return True  # the close is this body's end
                raise ConnectionResetError("the connection ended before the body did")
            target = self._decoder.body if self._decoder is not None else self._body
            if target is not None and len(target) > _LONGEST_COLLECTED:
                raise ProtocolError(f"the response is longer than {_LONGEST_COLLECTED} bytes")
            if self._decoder is not None:
                self._decoder.feed(scratch[:count])
            elif self._body is not None:
                self._body += scratch[:count]
            if count < scratch.nbytes and not transport.drains and not self._is_collected(head):
                return False
        return True
