"""What the proxy does to one request: passes it on, or strikes it or its answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from s3torch.harness.faults._messages import Head, Stream, body_pieces, read_head
from s3torch.harness.faults.plan import Fault, make_replacement

if TYPE_CHECKING:
    from s3torch.harness.faults._front import Link

__all__ = ["LinkEnded", "answer"]

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/([^/]+)/")
_DUPLICATED = 1024
_DRIPS_PER_SECOND = 20
# Faults of an object's bytes, or of those of a listing: where there are none, and in errors, nothing is struck.
_OF_SUCCESSES = frozenset({"flip", "duplicate", "echo", "replace", "unframed"})
_OF_BYTES = frozenset({"flip", "drip", "duplicate"})


class LinkEnded(Exception):  # no error: the connection's end
    """The client's connection is over."""


def answer(link: Link, head: Head, fault: Fault | None) -> bool:
    """Answer one request whose head has been read.

    Args:
        link: The connection it came on.
        head: Its head.
        fault: What strikes it.

    Returns:
        Whether the connection can take another request.
    """
    signed = _CREDENTIAL.search(head.get("authorization") or "")
    key, region = signed.groups() if signed else ("", "")
    if fault is not None and fault.name == "expire" and key:
        link.front.expired[key] = fault
    if (expiry := link.front.expired.get(key)) is not None:
        link.front.note("expire")
        return _refuse(link, head, expiry.status, expiry.code)
    if fault is None:
        return _pass_on(link, head, None)
    if fault.name == "status":
        link.front.note("status")
        return _refuse(link, head, fault.status, fault.code, retry_after=fault.retry_after)
    if fault.name == "region":
        if region in ("", fault.region):
            return _pass_on(link, head, None)
        link.front.note("region")
        code = "PermanentRedirect" if fault.status == 301 else "AuthorizationHeaderMalformed"
        return _refuse(link, head, fault.status, code, region=fault.region)
    if fault.name == "refuse":
        link.front.note("refuse")
        link.front.refuse(fault.seconds)
        link.reset()
    if fault.side == "request":
        return _strike_request(link, head, fault)
    if fault.name == "swap":
        link.front.note("swap")
        return _pass_on(link, _ask_for_another(head), None)
    return _pass_on(link, head, fault)


def _refuse(
    link: Link, head: Head, status: int, code: str, *, retry_after: float | None = None, region: str | None = None
) -> bool:
    """Answer with an error, as S3 forms them."""
    for _ in body_pieces(link.client, head):
        pass
    place = f"<Region>{region}</Region>" if region else ""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message>{place}</Error>".encode()
    answered = Head(
        f"HTTP/1.1 {status} Fault",
        (("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("x-amz-request-id", "FAULT")),
    )
    if retry_after is not None:
        answered = answered.having(("Retry-After", f"{retry_after:g}"))
    if region is not None:
        answered = answered.having(("x-amz-bucket-region", region))
    link.sock.sendall(answered.encode() + (b"" if head.method == "HEAD" else body))
    return True


def _strike_request(link: Link, head: Head, fault: Fault) -> bool:
    """Strike the body on its way to the server."""
    at = max(0, fault.at if head.length is None else min(fault.at, head.length - 1))
    if fault.name == "flip":
        body = bytearray(b"".join(body_pieces(link.client, head)))
        link.front.note("flip")
        if _has_checksum(head):
            return _refuse(link, _bodiless(head), 400, "BadDigest")
        body[at] ^= 1
        link.server().sock.sendall(head.encode() + body)
        return _return(link, head, None)
    server = link.server()
    server.sock.sendall(head.encode())
    passed = 0
    has_struck = False
    for piece in body_pieces(link.client, head):
        if not has_struck and passed + len(piece) > at:
            has_struck = True
            server.sock.sendall(piece[: at - passed])
            link.front.note(fault.name)
            _strike_down(link, fault)
            server.sock.sendall(piece[at - passed :])
        else:
            server.sock.sendall(piece)
        passed += len(piece)
    return _return(link, head, None)


def _pass_on(link: Link, head: Head, fault: Fault | None) -> bool:
    """Send the request to the server, and strike the answer."""
    server = link.server()
    data = head.encode()
    for piece in body_pieces(link.client, head):
        server.sock.sendall(data + piece if data else piece)
        data = b""
    if data:
        server.sock.sendall(data)
    return _return(link, head, fault)


def _return(link: Link, request: Head, fault: Fault | None) -> bool:
    """Send the server's answer to the client; ``request`` is what it answers."""
    server = link.server_in_use()
    head = _read_final_head(server)
    has_body = request.method != "HEAD" and head.status not in (204, 304)
    pieces = body_pieces(server, head, until_close=True) if has_body else iter(())
    if has_body and head.length is None and not head.is_chunked:
        head = head.having(("Connection", "close"))
    has_bytes = has_body and head.length != 0
    if has_bytes and request.method == "GET" and not request.is_listing and head.status < 300:
        link.front.note_object()
    if (
        fault is None
        or (fault.name in _OF_SUCCESSES and head.status >= 300)
        or (fault.name in _OF_BYTES and not has_bytes)
    ):
        _send(link.sock, head, pieces)
    elif fault.name == "replace":
        body = b"".join(pieces)
        _replace(link, request, head)
        link.sock.sendall(head.encode() + body)
    elif fault.name in ("duplicate", "echo"):
        body = b"".join(pieces)
        link.front.note(fault.name)
        again = head.encode() + body if fault.name == "echo" else body[-_DUPLICATED:]
        link.sock.sendall(head.encode() + body + again)
    else:
        _send_struck(link, head, pieces, fault, has_body=has_bytes)
    if head.closes or fault is not None:
        link.close()
    return not head.closes


def _send(sock: socket.socket, head: Head, pieces: Iterator[bytes]) -> None:
    data = head.encode()
    for piece in pieces:
        sock.sendall(data + piece if data else piece)
        data = b""
    if data:
        sock.sendall(data)


def _send_struck(link: Link, head: Head, pieces: Iterator[bytes], fault: Fault, *, has_body: bool) -> None:
    """Send an answer up to where the fault strikes, let it strike, and go on if it lets us."""
    data = head.encode()
    length = head.length
    if fault.name == "unframed":
        data = head.without("content-length", "transfer-encoding").having(("Connection", "close")).encode()
    if fault.at < 0:
        link.front.note(fault.name)
        _strike_down(link, fault)
    if not has_body:
        # An answer without a body can be struck only in its head.
        half = len(data) // 2
        link.sock.sendall(data[:half])
        link.front.note(fault.name)
        _strike_down(link, fault)
        link.sock.sendall(data[half:])
        return
    link.sock.sendall(data)
    at = max(0, fault.at if length is None else min(fault.at, length - 1))
    passed = 0
    has_struck = fault.at < 0
    for piece in pieces:
        rest = piece
        if not has_struck and passed + len(piece) > at:
            has_struck = True
            before, rest = piece[: at - passed], piece[at - passed :]
            link.sock.sendall(before)
            link.front.note(fault.name)
            if fault.name == "flip":
                rest = bytes([rest[0] ^ 1]) + rest[1:]
            else:
                _strike_down(link, fault)
        if fault.name == "drip" and has_struck:
            _drip(link, rest, fault.pace)
        else:
            link.sock.sendall(rest)
        passed += len(piece)


def _strike_down(link: Link, fault: Fault) -> None:
    if fault.name == "reset":
        link.reset()
    elif fault.name in ("cut", "unframed"):
        link.cut()
    elif fault.name == "stall":
        link.wait(fault.seconds)


def _drip(link: Link, data: bytes, pace: int) -> None:
    step = max(1, pace // _DRIPS_PER_SECOND)
    for start in range(0, len(data), step):
        link.sock.sendall(data[start : start + step])
        link.wait(step / pace)


def _read_final_head(server: Stream) -> Head:
    while True:
        head = read_head(server)
        if head is None:
            raise ConnectionResetError("the server hung up")
        if head.status >= 200:
            return head


def _ask_for_another(head: Head) -> Head:
    """Ask for the range one byte beside."""
    value = head.get("range")
    if value is None:
        return head.having(("Range", "bytes=1-"))
    first, _, last = value.removeprefix("bytes=").partition("-")
    if not first:
        return head.having(("Range", f"bytes=-{int(last) + 1}"))
    step = -1 if int(first) else 1
    other = str(max(0, int(last) + step)) if last else ""
    return head.having(("Range", f"bytes={int(first) + step}-{other}"))


def _replace(link: Link, request: Head, head: Head) -> None:
    """Put another object in the place of the one that has just been read, once."""
    path = request.target.partition("?")[0]
    if path in link.front.replaced:
        return
    link.front.replaced.add(path)
    span = head.get("content-range")
    size = int(span.rpartition("/")[2]) if span else head.length or 0
    link.front.note("replace")
    # The reader's own signature: that of this request it is not, and only servers that check none can be used here.
    kept = [("Host", request.get("host") or "localhost"), ("Authorization", request.get("authorization") or "")]
    with socket.create_connection(link.front.upstream, 10) as sock:
        put = Head(f"PUT {path} HTTP/1.1", (*kept, ("Content-Length", str(size)), ("Connection", "close")))
        sock.sendall(put.encode() + make_replacement(size))
        stored = read_head(Stream(sock))
    if stored is None or stored.status != 200:
        raise ValueError(f"the object could not be replaced: {stored}")


def _has_checksum(head: Head) -> bool:
    return head.get("content-md5") is not None or any(
        name.lower().startswith("x-amz-checksum-") or name.lower() == "x-amz-trailer" for name, _ in head.headers
    )


def _bodiless(head: Head) -> Head:
    """The head of a request whose body has been read."""
    return head.without("content-length", "transfer-encoding")
