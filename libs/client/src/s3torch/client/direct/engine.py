"""The direct engine: S3's operations as HTTP requests over its own sockets."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

from s3torch.client._xml_text import is_xml_text
from s3torch.client.checksum import choose_algorithm, compute
from s3torch.client.counts import RequestCounts
from s3torch.client.direct.call import Call, Operation
from s3torch.client.direct.connection import Dialer
from s3torch.client.direct.get import GetCall
from s3torch.client.direct.http1 import ResponseHead
from s3torch.client.direct.identity import Identity
from s3torch.client.direct.list_page import parse_page
from s3torch.client.direct.loop import Loop, SharedPool
from s3torch.client.direct.resolver import Resolver
from s3torch.client.direct.route import Route
from s3torch.client.direct.sigv4 import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Signer,
    encode_key,
    encode_query,
)
from s3torch.client.direct.times import parse_http_time
from s3torch.client.direct.upload_headers import option_headers
from s3torch.client.direct.xml import (
    complete_body,
    delete_body,
    parse_delete_errors,
    parse_fields,
    parse_uploads,
)
from s3torch.client.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    ProtocolError,
    RegionError,
    S3Exception,
)
from s3torch.client.listing import ListPage
from s3torch.client.protocols import Body, EngineContext, Into, Transfer
from s3torch.client.retry import RetryBudget, RetryPolicy
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    PartResult,
    PutOptions,
    PutResult,
    RestoreStatus,
    UploadInfo,
)

__all__ = ["DirectEngine"]

T = TypeVar("T")

_MIB: Final = 1024 * 1024
# One thread decrypts about 1 GB/s; below this size starting another costs more than it brings.
_THREAD_SHARE = 32 * _MIB
_MOST_HELPERS = 3


class _Process:
    """What belongs to one process: after a fork, the child makes its own."""

    def __init__(self, context: EngineContext) -> None:
        self.pid = os.getpid()
        self.identity = Identity(context)
        self.shared = SharedPool()
        self.threads = threading.local()
        self.resolver = Resolver()

    def signer(self) -> Signer:
        """The calling thread's signer."""
        try:
            return self.threads.signer  # type: ignore[no-any-return]  # threading.local is untyped
        except AttributeError:
            signer = self.threads.signer = Signer()
            return signer


class DirectEngine:
    """An engine on plain sockets, driven by whoever waits.

    Args:
        context: Region, endpoint, user agent and configuration.
    """

    def __init__(self, context: EngineContext) -> None:
        self.config = context.config
        self.budget = RetryBudget()
        self.counts = RequestCounts()
        """What this engine has asked and received so far."""
        self.generation = 0
        """Counts changes of credentials and addresses that answers asked for."""
        self._context = context
        self._process = _Process(context)
        self._policy: RetryPolicy | None = None
        self._skew_s = 0.0  # the store's clock minus ours, as far as it complained
        agent = "".join(c if c.isprintable() and c.isascii() else "?" for c in context.user_agent)
        self._agent_line = f"User-Agent: {agent}\r\n"
        self._payer = (("x-amz-request-payer", "requester"),) if context.config.requester_pays else ()

    @property
    def region(self) -> str:
        """The region requests are made for."""
        return self._here().identity.region

    @property
    def endpoint(self) -> str:
        """URL of the store: given, from the environment or profile, or Amazon's."""
        return self._here().identity.endpoint

    def loop(self) -> Loop:
        """The calling thread's loop."""
        process = self._here()
        loop: Loop | None = getattr(process.threads, "loop", None)
        if loop is None:
            config = self.config
            dialer = Dialer(process.resolver, process.identity.tls, config.connect_timeout)
            loop = process.threads.loop = Loop(dialer, process.shared, config.read_timeout)
        return loop

    def helper_threads(self, size: int) -> int:
        """Under TLS one core cannot keep up with the network; else the caller's thread does all."""
        if size < 2 * _THREAD_SHARE or not self._is_tls():
            return 0
        return min(_MOST_HELPERS, (os.cpu_count() or 1) - 1, size // _THREAD_SHARE - 1)

    def release_thread(self) -> None:
        """Leave the calling thread's idle connections to others."""
        self.loop().release()

    def close(self) -> None:
        """End all transfers and connections."""
        self.loop().close()
        self._here().shared.close()

    def prepare(self, operation: Operation) -> tuple[Route, bytes]:
        """Address and sign an operation.

        Args:
            operation: What to send.

        Returns:
            Where it goes, and the request's head.
        """
        process = self._process  # `loop()` has made sure that it is this one
        address = process.identity.address(operation.bucket)
        route, host = address.route, address.signed_host
        key, method = operation.key, operation.method
        path = f"{address.prefix}/{encode_key(key)}" if key is not None else address.prefix or "/"
        query = encode_query(operation.query) if operation.query else ""
        amz = (*operation.amz_headers, *self._payer)
        credentials = process.identity.credentials(operation.bucket)
        lines = "".join([f"{name}: {value}\r\n" for name, value in amz]) if amz else ""
        size = sum([piece.nbytes for piece in operation.body]) if operation.body else 0
        if credentials is not None:
            lines += process.signer().sign(
                credentials,
                address.region,
                method,
                path,
                query,
                host + amz if amz else host,
                # Bodies carry a signed checksum instead: a second pass with SHA-256 would halve the speed.
                UNSIGNED_PAYLOAD if size else EMPTY_SHA256,
                time.time() + self._skew_s,
            )
        target = f"{path}?{query}" if query else path
        if route.proxy is not None and not route.is_tls:
            target = f"http://{route.netloc}{target}"  # absolute form, RFC 9112, section 3.2.2
            if route.proxy.authorization is not None:
                lines += f"Proxy-Authorization: {route.proxy.authorization}\r\n"
        if method in ("PUT", "POST"):
            lines += f"Content-Length: {size}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: {host[0][1]}\r\n{self._agent_line}{lines}{operation.headers}\r\n"
        return route, head.encode("ascii")

    def retry_delay(self, attempt: int, *, is_throttled: bool, head: ResponseHead | None) -> float | None:
        """Return how long to wait before the next attempt; None to give up."""
        if self._policy is None:
            self._policy = RetryPolicy(self._here().identity.max_attempts)
        retry_after = None if head is None else head.headers.get(b"retry-after")
        seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
        delay = self._policy.delay(attempt, is_throttled=is_throttled, retry_after_s=seconds)
        return delay if delay is not None and self.budget.take() else None

    def follow_region(self, bucket: str, error: S3Exception, head: ResponseHead, generation: int) -> bool:
        """Send a bucket's requests where an answer says it is; False if that is no news.

        Args:
            bucket: The bucket.
            error: What the answer stands for.
            head: The answer's head.
            generation: The engine's when the request was made: another request may have heard the same meanwhile.

        Sources: "Working with redirects" in the Amazon S3 API reference for 301 and 307; the header
        ``x-amz-bucket-region``, and the region that AuthorizationHeaderMalformed names.
        """
        identity = self._here().identity
        location = head.text(b"location")
        if head.status == 307 and location is not None:
            try:
                identity.redirect(bucket, location)
            except ValueError:  # it leads nowhere
                return False
            self.generation += 1
            return True
        if not isinstance(error, RegionError) and head.status not in (301, 400):
            return False
        region = head.text(b"x-amz-bucket-region") or (error.region if isinstance(error, RegionError) else None)
        if not region:
            return False
        if identity.move(bucket, region):
            self.generation += 1
            return True
        return generation != self.generation

    def renew(self, bucket: str, error: S3Exception, head: ResponseHead, generation: int) -> bool:
        """Mend what made the store refuse the credentials: a wrong clock, or keys that have expired.

        Args:
            bucket: The bucket.
            error: What the answer stands for.
            head: The answer's head.
            generation: The engine's when the request was made: another request may have mended it meanwhile.

        Returns:
            Whether another attempt is worth its while.
        """
        if error.code == "RequestTimeTooSkewed":
            date = parse_http_time(head.headers.get(b"date"))
            if date:
                self._skew_s = date - time.time()
            return date != 0
        if generation == self.generation:
            if not self._here().identity.renew_credentials(bucket):
                return False
            self.generation += 1
        return True

    def start_get(self, request: GetRequest, into: Into = None) -> Transfer[GetResult]:
        """Start one GET."""
        call = GetCall(self, request, into)
        call.start()
        return call

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Return the metadata of an object."""
        return self._ask(Operation("HeadObject", "HEAD", bucket, key), _parse_head_object)

    def start_list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> Transfer[ListPage]:
        """Start to ask for one page."""
        query = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(max_keys)), ("prefix", prefix)]
        for name, value in (("delimiter", delimiter), ("continuation-token", token), ("start-after", start_after)):
            if value:
                query.append((name, value))
        # Only Amazon's store is known to answer it; others may refuse what they do not know.
        amz = (("x-amz-optional-object-attributes", "RestoreStatus"),) if self._is_amazon() else ()
        operation = Operation("ListObjectsV2", "GET", bucket, query=query, amz_headers=amz)
        call = Call(self, operation, lambda _, body: parse_page(body))
        call.start()
        return call

    def list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Return one page, and the token of the next or None."""
        call = self.start_list_page(
            bucket, prefix, delimiter=delimiter, max_keys=max_keys, token=token, start_after=start_after
        )
        try:
            page = call.result()
        except BaseException:
            call.cancel()
            raise
        return page.result(), page.token

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> Transfer[PutResult]:
        """Start one PUT."""
        amz, headers = option_headers(options)
        operation = Operation(
            "PutObject",
            "PUT",
            bucket,
            key,
            amz_headers=[*amz, *self._checksum_header(body)],
            headers=headers,
            body=body,
        )
        call = Call(self, operation, lambda head, _: PutResult(_etag(head)))
        call.start()
        return call

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        amz, headers = option_headers(options, with_condition=False)
        algorithm = self._algorithm()
        if algorithm is not None:
            amz.append(("x-amz-checksum-algorithm", algorithm.upper()))
            amz.append(("x-amz-checksum-type", "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE"))
        operation = Operation(
            "CreateMultipartUpload", "POST", bucket, key, query=[("uploads", "")], amz_headers=amz, headers=headers
        )
        upload_id = self._ask(operation, lambda _, body: parse_fields(body)).get("UploadId")
        if not upload_id:
            raise ProtocolError(
                "the store began an upload without an id", operation=operation.name, bucket=bucket, key=key
            )
        return upload_id

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Transfer[PartResult]:
        """Start to send one part."""
        checksum = self._checksum_header(body)
        checksums = {name.rpartition("-")[2]: value for name, value in checksum}
        operation = Operation(
            "UploadPart",
            "PUT",
            bucket,
            key,
            query=[("partNumber", str(number)), ("uploadId", upload_id)],
            amz_headers=checksum,
            body=body,
        )
        call = Call(self, operation, lambda head, _: PartResult(number, _etag(head), checksums))
        call.start()
        return call

    def copy_part(self, bucket: str, key: str, upload_id: str, number: int, source: GetRequest) -> PartResult:
        """Make a part of a range of another object."""
        amz = _source_headers(source)
        if source.start is not None and source.end is not None:
            amz.append(("x-amz-copy-source-range", f"bytes={source.start}-{source.end - 1}"))
        operation = Operation(
            "UploadPartCopy",
            "PUT",
            bucket,
            key,
            query=[("partNumber", str(number)), ("uploadId", upload_id)],
            amz_headers=amz,
        )
        fields = self._ask(operation, lambda _, body: parse_fields(body))
        names = {"ChecksumCRC32": "crc32", "ChecksumCRC32C": "crc32c", "ChecksumCRC64NVME": "crc64nvme"}
        checksums = {names[tag]: value for tag, value in fields.items() if tag in names}
        return PartResult(number, fields.get("ETag", ""), checksums)

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Make the object of its parts."""
        body = [memoryview(complete_body(parts))]
        headers = "If-None-Match: *\r\n" if options.if_none_match else ""
        amz = [("x-amz-checksum-type", "FULL_OBJECT")] if any("crc64nvme" in part.checksums for part in parts) else []
        operation = Operation(
            "CompleteMultipartUpload",
            "POST",
            bucket,
            key,
            query=[("uploadId", upload_id)],
            amz_headers=amz,
            headers=f"{headers}Content-Type: application/xml\r\n",
            body=body,
        )
        call = Call(self, operation, lambda _, answer: PutResult(parse_fields(answer).get("ETag", "")))
        call.start()
        try:
            return call.result()
        except ObjectNotFoundError:
            if call.attempts > 1:
                return self._completed_before(bucket, key, len(parts))
            raise

    def _completed_before(self, bucket: str, key: str, parts: int) -> PutResult:
        """An attempt whose answer was lost may have completed the upload, which is then gone: look at the object."""
        head = self.head(bucket, key)
        if head.etag.strip('"').endswith(f"-{parts}") and time.time() + self._skew_s - head.last_modified < 3600:
            return PutResult(head.etag)
        raise ObjectNotFoundError(
            "the upload is gone, and the object is not the one that it would have made",
            operation="CompleteMultipartUpload",
            bucket=bucket,
            key=key,
            remedy="Upload it again.",
        )

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts."""
        operation = Operation("AbortMultipartUpload", "DELETE", bucket, key, query=[("uploadId", upload_id)])
        try:
            self._ask(operation, lambda *_: None)
        except ObjectNotFoundError:
            pass  # completed or aborted before

    def list_uploads(
        self, bucket: str, prefix: str, *, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Return one page of the unfinished uploads, and what the next comes after."""
        query = [("uploads", ""), ("encoding-type", "url"), ("prefix", prefix)]
        if after is not None:
            query += [("key-marker", after.key), ("upload-id-marker", after.upload_id)]
        operation = Operation("ListMultipartUploads", "GET", bucket, query=query)
        return self._ask(operation, lambda _, body: parse_uploads(body))

    def delete(self, bucket: str, key: str) -> None:
        """Delete one object."""
        try:
            self._ask(Operation("DeleteObject", "DELETE", bucket, key), lambda *_: None)
        except ObjectNotFoundError:
            pass  # some stores say so; S3 does not

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        """Delete up to 1,000 objects in one request, but for keys that XML cannot name: those one by one."""
        errors = self._delete_named(bucket, named) if (named := [key for key in keys if is_xml_text(key)]) else []
        for key in keys:
            if not is_xml_text(key):
                try:
                    self.delete(bucket, key)
                except AccessDeniedError as error:
                    errors.append(DeleteError(key, error.code or "AccessDenied", error.message))
        return errors

    def _delete_named(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        body = delete_body(keys)
        # The API page demands an integrity header; stores older than the checksums know this one.
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        operation = Operation(
            "DeleteObjects",
            "POST",
            bucket,
            query=[("delete", "")],
            amz_headers=[("x-amz-checksum-crc32", compute("crc32", [memoryview(body)]))],
            headers=f"Content-MD5: {md5}\r\nContent-Type: application/xml\r\n",
            body=[memoryview(body)],
        )
        return self._ask(operation, lambda _, answer: parse_delete_errors(answer))

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        """Copy a whole object of up to 5 GiB."""
        amz, headers = option_headers(options)
        amz += _source_headers(source)
        if options.metadata:  # a content type alone would cost the source's metadata
            amz.append(("x-amz-metadata-directive", "REPLACE"))
        if options.tags:
            amz.append(("x-amz-tagging-directive", "REPLACE"))
        operation = Operation("CopyObject", "PUT", bucket, key, amz_headers=amz, headers=headers)
        return CopyResult(self._ask(operation, lambda _, body: parse_fields(body)).get("ETag", ""))

    def _here(self) -> _Process:
        process = self._process
        if process.pid != os.getpid():
            process = self._process = _Process(self._context)
        return process

    def _ask(self, operation: Operation, parse: Callable[[ResponseHead, bytes], T]) -> T:
        call = Call(self, operation, parse)
        call.start()
        try:
            return call.result()
        except BaseException:
            call.cancel()
            raise

    def _is_amazon(self) -> bool:
        return self._here().identity.is_amazon

    def _is_tls(self) -> bool:
        return self._here().identity.is_tls

    def _algorithm(self) -> str | None:
        return choose_algorithm(self.config.checksum, is_amazon=self._is_amazon())

    def _checksum_header(self, body: Body) -> list[tuple[str, str]]:
        algorithm = self._algorithm()
        return [] if algorithm is None else [(f"x-amz-checksum-{algorithm}", compute(algorithm, body))]


def _etag(head: ResponseHead) -> str:
    return head.text(b"etag") or ""


def _source_headers(source: GetRequest) -> list[tuple[str, str]]:
    headers = [("x-amz-copy-source", f"/{quote(source.bucket, safe='')}/{encode_key(source.key)}")]
    if source.etag is not None:
        headers.append(("x-amz-copy-source-if-match", source.etag))
    return headers


def _parse_head_object(head: ResponseHead, _: bytes) -> HeadObjectResult:
    size = head.headers.get(b"content-length", b"")
    if not size.isdigit():
        raise ProtocolError("the store does not say how long the object is")
    prefix = b"x-amz-meta-"
    return HeadObjectResult(
        _etag(head),
        int(size),
        parse_http_time(head.headers.get(b"last-modified")),
        head.text(b"x-amz-storage-class"),
        _parse_restore(head.text(b"x-amz-restore")),
        {
            name[len(prefix) :].decode("latin-1"): value.decode("latin-1")
            for name, value in head.headers.items()
            if name.startswith(prefix)
        },
    )


def _parse_restore(value: str | None) -> RestoreStatus | None:
    """Read ``ongoing-request="false", expiry-date="..."`` (API page of HeadObject)."""
    if value is None:
        return None
    expiry = value.partition('expiry-date="')[2].partition('"')[0]
    return RestoreStatus('ongoing-request="true"' in value, parse_http_time(expiry.encode()) if expiry else None)
