"""Every request through boto3: the portable reference, and the oracle that the direct engine is compared with."""

from __future__ import annotations

import importlib.util
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from s3torch.client._body_reader import BodyReader
from s3torch.client._boto3_errors import translate
from s3torch.client._memory_pages import BytesBuffer
from s3torch.client._xml_text import is_xml_text
from s3torch.client.answers import check_answer, place, range_header
from s3torch.client.counts import RequestCounts
from s3torch.client.errors import AccessDeniedError, ProtocolError, RegionError, S3Exception, ThrottledError
from s3torch.client.paging import next_mark
from s3torch.client.protocols import Body, EngineContext, Into
from s3torch.client.transfers import SLOWEST, DoneTransfer, ListsAtOnce, run_now, too_slow
from s3torch.client.values import (
    CopyResult,
    DeleteError,
    GetInfo,
    GetRequest,
    GetResult,
    HeadObjectResult,
    ListObjectResult,
    ObjectInfo,
    PartResult,
    PutOptions,
    PutResult,
    RestoreStatus,
    UploadInfo,
)

__all__ = ["Boto3Engine"]

_CHUNK = 1024 * 1024  # bytes taken from a response's body at a time
_MOST_HELPERS = 7
_DEFAULT_ATTEMPTS = 10  # the default of S3ClientConfig.max_attempts
_CHECKSUMS = {"crc32": "ChecksumCRC32", "crc32c": "ChecksumCRC32C", "crc64nvme": "ChecksumCRC64NVME"}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Boto3Engine(ListsAtOnce):
    """An engine on boto3; every transfer is done as soon as it is started.

    Identity, addressing, retries and proxies are boto3's. ``operation_timeout`` holds for the bodies of downloads; for
    all else it has no counterpart there, and the other deadlines hold for each attempt.

    Args:
        context: Region, endpoint, user agent and configuration.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._config = context.config
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._made: Any = None
        self._session: Any = None
        self._region: str | None = context.region
        self._algorithm = _choose_checksum(context.config.checksum)
        self.counts = RequestCounts()
        """What this engine has asked and received so far."""

    @property
    def region(self) -> str:
        """The region given, the environment's or the profile's; ``us-east-1`` for stores other than Amazon's."""
        if self._region is None:
            region = os.environ.get("AWS_REGION") or self._boto3_session().region_name
            if not region and self._context.endpoint is None:
                raise RegionError(
                    "no region is known", remedy="Pass region=..., set AWS_REGION, or give the profile a region."
                )
            self._region = str(region or "us-east-1")
        return self._region

    @property
    def endpoint(self) -> str:
        """URL of the store: given, from the environment or profile, or Amazon's."""
        return str(self._client().meta.endpoint_url)

    def start_get(self, request: GetRequest, into: Into = None) -> DoneTransfer[GetResult]:
        """Do one GET; a body that breaks is asked for again."""
        return run_now(lambda: self._get(request, into))

    def head(self, bucket: str, key: str) -> HeadObjectResult:
        """Return the metadata of an object."""
        # A head that is cut off is a whole one to Python's HTTP, and so to botocore: it lacks what would have followed.
        for _ in range(self._config.max_attempts):
            answer = self._call("HeadObject", bucket, key)
            if "ContentLength" in answer:
                break
        else:
            raise ProtocolError(
                "the answers do not tell the object's length", operation="HeadObject", bucket=bucket, key=key
            )
        return HeadObjectResult(
            _text(answer, "ETag"),
            int(answer["ContentLength"]),
            _seconds(answer.get("LastModified")),
            storage_class=answer.get("StorageClass"),
            restore_status=_parse_restore(answer.get("Restore")),
            metadata=dict(answer.get("Metadata", {})),
        )

    def list_page(
        self, bucket: str, prefix: str, *, delimiter: str, max_keys: int, token: str | None, start_after: str | None
    ) -> tuple[ListObjectResult, str | None]:
        """Return one page, and the token of the next or None."""
        answer = self._call(
            "ListObjectsV2",  # boto3 asks for URL-encoded keys and decodes them itself
            bucket,
            None,
            Prefix=prefix,
            Delimiter=delimiter or None,
            MaxKeys=max_keys,
            ContinuationToken=token,
            StartAfter=start_after,
            OptionalObjectAttributes=["RestoreStatus"],
        )
        page = ListObjectResult(
            [
                ObjectInfo(
                    item["Key"],
                    item.get("ETag", ""),
                    item["Size"],
                    _seconds(item.get("LastModified")),
                    storage_class=item.get("StorageClass"),
                    restore_status=_listed_restore(item.get("RestoreStatus")),
                )
                for item in answer.get("Contents", ())
            ],
            [item["Prefix"] for item in answer.get("CommonPrefixes", ())],
        )
        is_truncated, token = bool(answer.get("IsTruncated")), answer.get("NextContinuationToken")
        return page, next_mark(is_truncated, token, operation="ListObjectsV2", bucket=bucket, prefix=prefix)

    def start_put(self, bucket: str, key: str, body: Body, options: PutOptions) -> DoneTransfer[PutResult]:
        """Do one PUT."""
        return run_now(lambda: self._put(bucket, key, body, options))

    def create_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        answer = self._call(
            "CreateMultipartUpload", bucket, key, ChecksumAlgorithm=self._algorithm, **_upload_parameters(options)
        )
        return _text(answer, "UploadId")

    def start_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> DoneTransfer[PartResult]:
        """Send part ``number``."""

        def send() -> PartResult:
            answer = self._call(
                "UploadPart",
                bucket,
                key,
                UploadId=upload_id,
                PartNumber=number,
                Body=BodyReader(body),
                ChecksumAlgorithm=self._algorithm,
            )
            return _part_result(number, answer)

        return run_now(send)

    def copy_part(self, bucket: str, key: str, upload_id: str, number: int, source: GetRequest) -> PartResult:
        """Make part ``number`` of a range of another object."""
        answer = self._call(
            "UploadPartCopy",
            bucket,
            key,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceRange=range_header(source),
            CopySourceIfMatch=source.etag,
        )
        return _part_result(number, answer["CopyPartResult"])

    def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartResult], options: PutOptions
    ) -> PutResult:
        """Make the object of its parts, in order."""
        named = [
            {
                "PartNumber": part.number,
                "ETag": part.etag,
                **{_CHECKSUMS[name]: value for name, value in part.checksums.items() if name in _CHECKSUMS},
            }
            for part in parts
        ]
        answer = self._call(
            "CompleteMultipartUpload",
            bucket,
            key,
            UploadId=upload_id,
            MultipartUpload={"Parts": named},
            IfNoneMatch="*" if options.if_none_match else None,
        )
        return PutResult(_text(answer, "ETag"))

    def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Drop the upload and its parts; an upload that is not there is no error."""
        try:
            self._call("AbortMultipartUpload", bucket, key, UploadId=upload_id)
        except S3Exception as error:
            if error.code != "NoSuchUpload":
                raise

    def list_uploads(
        self, bucket: str, prefix: str, *, after: UploadInfo | None
    ) -> tuple[list[UploadInfo], UploadInfo | None]:
        """Return one page of the unfinished uploads, and what the next comes after."""
        answer = self._call(
            "ListMultipartUploads",  # boto3 asks for URL-encoded keys and decodes them itself
            bucket,
            None,
            Prefix=prefix,
            KeyMarker=None if after is None else after.key,
            UploadIdMarker=None if after is None else after.upload_id,
        )
        page = [
            UploadInfo(item["Key"], item["UploadId"], _seconds(item.get("Initiated")))
            for item in answer.get("Uploads", ())
        ]
        is_truncated, last = bool(answer.get("IsTruncated")), page[-1] if page else None
        return page, next_mark(is_truncated, last, operation="ListMultipartUploads", bucket=bucket, prefix=prefix)

    def delete(self, bucket: str, key: str) -> None:
        """Delete one object; one that is not there is no error."""
        self._call("DeleteObject", bucket, key)

    def delete_many(self, bucket: str, keys: Sequence[str]) -> list[DeleteError]:
        """Delete up to 1,000 objects in one request, but for keys that XML cannot name: those one by one."""
        named = [{"Key": key} for key in keys if is_xml_text(key)]
        answer = self._call("DeleteObjects", bucket, None, Delete={"Objects": named, "Quiet": True}) if named else {}
        errors = [
            DeleteError(item.get("Key", ""), item.get("Code", ""), item.get("Message", ""))
            for item in answer.get("Errors", ())
        ]
        for key in keys:
            if not is_xml_text(key):
                try:
                    self.delete(bucket, key)
                except AccessDeniedError as error:
                    errors.append(DeleteError(key, error.code or "AccessDenied", error.message))
        return errors

    def copy(self, source: GetRequest, bucket: str, key: str, options: PutOptions) -> CopyResult:
        """Copy an object with its metadata and tags, unless ``options`` has some."""
        answer = self._call(
            "CopyObject",
            bucket,
            key,
            CopySource={"Bucket": source.bucket, "Key": source.key},
            CopySourceIfMatch=source.etag,
            MetadataDirective="REPLACE" if options.metadata else None,
            TaggingDirective="REPLACE" if options.tags else None,
            IfNoneMatch="*" if options.if_none_match else None,
            **_upload_parameters(options),
        )
        return CopyResult(_text(answer["CopyObjectResult"], "ETag"))

    def helper_threads(self, size: int) -> int:
        """Return how many threads share a transfer: each request blocks its own."""
        parts = -(-size // self._config.part_size)
        return max(0, min(self._config.connections, parts, _MOST_HELPERS + 1) - 1)

    def release_thread(self) -> None:
        """Do nothing: connections lie in boto3's pool, which all threads share."""

    def close(self) -> None:
        """End all connections; the next request opens new ones."""
        made, self._made = self._made, None
        if made is not None and self._pid == os.getpid():
            made.close()

    def __repr__(self) -> str:
        state = "open" if self._made is not None else "idle"
        return f"<{type(self).__name__} endpoint={self._context.endpoint!r} {state}>"

    def _get(self, asked: GetRequest, into: Into) -> GetResult:
        request = asked
        view: memoryview | None = None
        buffer: BytesBuffer | None = None
        left = self._config.max_attempts
        started: float | None = None
        while True:
            left -= 1
            answer = self._call(
                "GetObject",
                request.bucket,
                request.key,
                Range=range_header(request),
                IfMatch=request.etag,
                IfNoneMatch=request.if_none_match,
            )
            started = time.monotonic() if started is None else started
            # Not the body's own with statement: that gives the raw stream, past the checksum.
            with closing(answer["Body"]) as body:
                info = _get_info(request, answer)
                check_answer(request, info)
                if view is None:
                    view = place(request, info, into)
                    if view is None:
                        buffer = BytesBuffer(info.length, huge_pages=self._config.huge_pages)
                        view = buffer.view
                try:
                    _fill(
                        view, _AsItComes.within(body), started + self._config.operation_timeout + info.length / SLOWEST
                    )
                except S3Exception as error:
                    error.operation, error.bucket, error.key = "GetObject", request.bucket, request.key
                    raise
                except Exception as error:
                    translated = translate(error, "GetObject", request.bucket, request.key, self._context.endpoint)
                    if not left or not getattr(translated, "is_retryable", False):
                        raise translated from error
                    request = replace(request, etag=info.etag, if_none_match=None)
                    self.counts.retries += 1
                    continue
            self.counts.received += info.length
            return GetResult(asked, view if buffer is None else buffer.take(), info)

    def _put(self, bucket: str, key: str, body: Body, options: PutOptions) -> PutResult:
        answer = self._call(
            "PutObject",
            bucket,
            key,
            Body=BodyReader(body),
            ChecksumAlgorithm=self._algorithm,
            IfNoneMatch="*" if options.if_none_match else None,
            **_upload_parameters(options),
        )
        return PutResult(_text(answer, "ETag"))

    def _call(self, operation: str, bucket: str, key: str | None, **parameters: object) -> dict[str, Any]:
        """Call one operation and translate what it raises; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if key is not None:
            given["Key"] = key
        if self._config.requester_pays:
            given["RequestPayer"] = "requester"
        try:
            client = self._client()
            answer: dict[str, Any] = getattr(client, _method(operation))(Bucket=bucket, **given)
        except S3Exception:
            raise
        except Exception as error:
            raise self._failure(error, operation, bucket, key) from error
        self._count(answer)
        return answer

    def _failure(self, error: Exception, operation: str, bucket: str, key: str | None) -> Exception:
        """Count a failed call, and return its error; a frame that held on to what it raises would outlive it."""
        self._count(getattr(error, "response", None))
        translated = translate(error, operation, bucket, key, self._context.endpoint)
        if isinstance(translated, ThrottledError):
            self.counts.throttled += 1
        return translated

    def _count(self, answer: Mapping[str, Any] | None) -> None:
        """Note what botocore says of the attempts that an answer took."""
        retries = int((answer or {}).get("ResponseMetadata", {}).get("RetryAttempts", 0))
        self.counts.requests += 1 + retries
        self.counts.retries += retries

    def _client(self) -> Any:
        """The boto3 client of this process: a forked child must not share its parent's connections."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()  # a thread of the parent may hold the old one for ever
            self._pid, self._made, self._session = os.getpid(), None, None
        made = self._made
        if made is not None:
            return made
        session, region = self._boto3_session(), self.region
        with self._lock:
            if self._made is None:
                self._made = self._make(session, region)
            return self._made

    def _boto3_session(self) -> Any:
        with self._lock:
            if self._session is None:
                import boto3.session

                self._session = boto3.session.Session(profile_name=self._config.profile)
            return self._session

    def _make(self, session: Any, region: str) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        config = self._config
        options: dict[str, Any] = {
            "connect_timeout": config.connect_timeout,
            "read_timeout": config.read_timeout,
            "max_pool_connections": max(10, config.connections),
            "user_agent": self._context.user_agent,
            "request_checksum_calculation": "when_supported" if self._algorithm else "when_required",
            "response_checksum_validation": "when_supported" if config.verify_checksums else "when_required",
        }
        if config.unsigned:
            options["signature_version"] = UNSIGNED
        if config.force_path_style:
            options["s3"] = {"addressing_style": "path"}
        if config.max_attempts != _DEFAULT_ATTEMPTS or not _says_attempts(session):
            options["retries"] = {"total_max_attempts": config.max_attempts, "mode": _retry_mode(session)}
        return session.client(
            "s3",
            region_name=region,
            endpoint_url=self._context.endpoint,
            verify=config.ca_bundle,
            config=Config(**options),
        )


def _says_attempts(session: Any) -> bool:
    """Whether environment or profile set the number of attempts."""
    profile = session._session.get_scoped_config()  # noqa: SLF001  # boto3 has no public way to the profile
    return "AWS_MAX_ATTEMPTS" in os.environ or "max_attempts" in profile


def _retry_mode(session: Any) -> str:
    profile = session._session.get_scoped_config()  # noqa: SLF001  # boto3 has no public way to the profile
    return str(os.environ.get("AWS_RETRY_MODE") or profile.get("retry_mode") or "standard")


def _choose_checksum(wanted: str) -> str | None:
    """Return boto3's name of the checksum to send, None for none."""
    has_crt = importlib.util.find_spec("awscrt") is not None
    if wanted == "none":
        return None
    if wanted == "auto":
        return "CRC64NVME" if has_crt else "CRC32"
    if wanted != "crc32" and not has_crt:
        raise ValueError(f"the boto3 engine computes {wanted} with awscrt: install s3torch-client[crt], or use crc32")
    return wanted.upper()


def _method(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))


def _upload_parameters(options: PutOptions) -> dict[str, Any]:
    """What an upload asks for besides keeping the bytes."""
    given = {
        "StorageClass": options.storage_class,
        "ContentType": options.content_type,
        "Metadata": dict(options.metadata) or None,
        "Tagging": urlencode(options.tags) or None,
        "ServerSideEncryption": options.server_side_encryption,
        "SSEKMSKeyId": options.kms_key_id,
        "ACL": options.acl,
    }
    return {name: value for name, value in given.items() if value is not None}


def _get_info(request: GetRequest, answer: Mapping[str, Any]) -> GetInfo:
    length, etag = answer.get("ContentLength"), _text(answer, "ETag")
    if "ContentRange" not in answer:
        if length is None:
            raise ProtocolError("the response tells no length", bucket=request.bucket, key=request.key)
        return GetInfo(0, int(length), int(length), etag)
    match = _CONTENT_RANGE.fullmatch(str(answer["ContentRange"]))
    if match is None:
        raise ProtocolError(f"not a content range: {answer['ContentRange']!r}", bucket=request.bucket, key=request.key)
    first, last, size = (int(number) for number in match.groups())
    if length is not None and int(length) != last - first + 1:
        raise ProtocolError(
            f"the response has {length} bytes, its range {match[0]!r} another number",
            bucket=request.bucket,
            key=request.key,
        )
    return GetInfo(first, last - first + 1, size, etag)


class _AsItComes:
    """A response's stream whose reads return what has come: a read that waits for all cannot look at the clock."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @classmethod
    def within(cls, body: Any) -> Any:
        """Have botocore's body read so, where its stream can (urllib3 2)."""
        stream = getattr(body, "_raw_stream", None)  # botocore has no public way to it that keeps the checksum
        if hasattr(stream, "read1"):
            body._raw_stream = cls(stream)  # noqa: SLF001  # likewise
        return body

    def read(self, size: int | None = None) -> bytes:
        """Read at most so many bytes; none at the end."""
        data: bytes = self._stream.read() if size is None else self._stream.read1(size)
        return data

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


def _fill(view: memoryview, body: Any, until: float) -> None:
    """Fill ``view``; past ``until``, by the monotonic clock, it is given up."""
    filled = 0
    while True:
        chunk = body.read(_CHUNK)  # also at the end: the read that returns nothing compares the checksum
        if chunk and time.monotonic() > until:
            raise too_slow(f"not finished in time: {filled} of {view.nbytes} bytes came")
        if not chunk:
            break
        if filled + len(chunk) > view.nbytes:
            raise ProtocolError("the response's body is longer than its head says")
        view[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if filled != view.nbytes:
        raise ConnectionError("the response's body ended early")


def _part_result(number: int, answer: Mapping[str, Any]) -> PartResult:
    checksums = {name: answer[field] for name, field in _CHECKSUMS.items() if answer.get(field)}
    return PartResult(number, _text(answer, "ETag"), checksums)


def _text(answer: Mapping[str, Any], field: str) -> str:
    value = answer.get(field)
    if not value:
        raise ProtocolError(f"the response has no {field}", remedy="Check that the endpoint is that of an S3 store.")
    return str(value)


def _seconds(when: Any) -> int:
    return 0 if when is None else int(when.timestamp())


def _parse_restore(header: str | None) -> RestoreStatus | None:
    """Read ``x-amz-restore``, such as ``ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"``."""
    if not header:
        return None
    fields = dict(re.findall(r'([a-z-]+)="([^"]*)"', header))
    expiry = fields.get("expiry-date")
    seconds = int(parsedate_to_datetime(expiry).timestamp()) if expiry else None
    return RestoreStatus(fields.get("ongoing-request") == "true", seconds)


def _listed_restore(status: Mapping[str, Any] | None) -> RestoreStatus | None:
    if status is None:
        return None
    expiry = status.get("RestoreExpiryDate")
    return RestoreStatus(bool(status.get("IsRestoreInProgress")), None if expiry is None else _seconds(expiry))
