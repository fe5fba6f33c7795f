"""A user's own bucket as the place of the benchmark: what runs there, what it stores and transfers, and its removal."""

from __future__ import annotations

import hashlib
import math
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from s3torch.client import S3Client, S3ClientConfig, parse_s3_uri
from s3torch.harness._options import check_endpoint
from s3torch.harness.bench.environments import WORKSPACE
from s3torch.harness.bench.place import Place
from s3torch.harness.bench.runner import Settings, scaled
from s3torch.harness.bench.scaling import resized
from s3torch.harness.bench.scenario import MIB, Content, Entry, Role, Scenario, Server
from s3torch.harness.servers._address import REGION, dummy_environment, route_environment
from s3torch.harness.servers._emptying import empty

DEFAULT_SIZE = 256 * MIB
"""Bytes of each large object, unless the user says otherwise: enough to see the rate, and cheap."""
_COUNT = 500
_PART = 8 * MIB
_DELIVERED = (Content.BYTES, Content.STATE, Content.CHECKPOINT)
_SENT = (Content.UPLOAD, Content.UPLOAD_BYTES)
# What the titles say of our servers.
_OF_OUR_SERVERS = re.compile(r", (?:plain HTTP|TLS|30 ms first byte|90 MB/s per connection)")


class OwnBucketError(Exception):
    """The bucket cannot be used, or not be cleaned up; the message is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class OwnBucket:
    """Where the user wants it measured."""

    uri: str
    """``s3://bucket/prefix``; everything goes under a random prefix below it."""
    endpoint: str | None = None
    """The store's URL; None is the environment's, the profile's or Amazon's."""
    region: str | None = None
    """Its region; None is the environment's or the profile's."""
    profile: str | None = None
    """Profile of the shared AWS configuration."""

    def __post_init__(self) -> None:
        """Check what can be checked without a request.

        Raises:
            ValueError: The address cannot be one, or is of a kind that cannot be measured.
        """
        bucket = parse_s3_uri(self.uri).bucket
        if bucket.startswith("arn:") or bucket.endswith("--x-s3"):
            raise ValueError(f"{bucket!r} can only be reached in ways that the peers cannot; name a general bucket")
        if self.endpoint is not None:
            check_endpoint("--endpoint", self.endpoint)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a benchmark asks of a store, roughly: what its owner may have to pay for."""

    stored: int
    """Bytes that lie there at most, until the end."""
    uploaded: int
    """Bytes sent to the store."""
    downloaded: int
    """Bytes fetched from it."""
    requests: int
    """Requests."""


def choose(scenarios: Sequence[Scenario], *, is_tls: bool) -> list[Scenario]:
    """Return the scenarios that make sense on a store of which one knows nothing.

    No requirements hold there, since the network decides. Floors stay where they can be let in by a presigned URL.

    Args:
        scenarios: All.
        is_tls: Whether the store is reached by HTTPS.
    """
    return [_adapted(each, is_tls=is_tls) for each in scenarios if _makes_sense(each, is_tls=is_tls)]


def _makes_sense(scenario: Scenario, *, is_tls: bool) -> bool:
    if scenario.content not in (*_DELIVERED, *_SENT) or scenario.spend:
        return False
    if scenario.server is Server.LATENCY:
        return scenario.is_timed  # the others are those of PLAIN, farther away
    if scenario.server in (Server.PLAIN, Server.TLS) and scenario.content is Content.BYTES and scenario.count == 1:
        return (scenario.server is Server.TLS) == is_tls
    return scenario.server in (Server.PLAIN, Server.DISCARD)


def _adapted(scenario: Scenario, *, is_tls: bool) -> Scenario:
    scenario = resized(scenario, count=min(scenario.count, _COUNT))
    return replace(
        scenario,
        title=_OF_OUR_SERVERS.sub("", scenario.title),
        entries=tuple(
            each for each in scenario.entries if each.role is not Role.FLOOR or _gets_in(each, is_tls=is_tls)
        ),
        requirements=(),
        is_counted=False,
    )


def _gets_in(floor: Entry, *, is_tls: bool) -> bool:
    # A URL can be presigned for an object, but a listing of unknown pages cannot.
    return floor.subject.startswith("floor_tls:") == is_tls and not floor.subject.endswith("_first")


def estimate(scenarios: Sequence[Scenario], settings: Settings) -> Bill:
    """Return what running scenarios asks of the store, rounded up rather than down.

    Args:
        scenarios: Which, as ``choose`` has returned them.
        settings: How they will be run.
    """
    stored: dict[tuple[object, ...], int] = {}
    requests = uploaded = downloaded = largest = 0
    for scenario in (scaled(each, settings) for each in scenarios):
        total = scenario.size * scenario.count
        entries = [each for each in scenario.entries if each.is_remote and each.absence is None]
        if not settings.peers:
            entries = [each for each in entries if each.environment == WORKSPACE]
        if scenario.content in _SENT:
            runs = len(entries) * (settings.repeat + 2)  # the warm-up, and one whose result is fetched and compared
            uploaded, largest = uploaded + total * runs, max(largest, 2 * total)
            downloaded += total * len(entries)
            requests += runs * _parts(scenario)
            continue
        if scenario.layout not in stored:
            copies = 2 if scenario.content is Content.CHECKPOINT else 1
            stored[scenario.layout] = total * copies
            requests += scenario.count * _puts(scenario) * copies
        for entry in entries:
            objects = scenario.objects_of(entry)
            part = 1.0 if scenario.chosen is None else len(scenario.chosen) / scenario.tensors
            downloaded += math.ceil(scenario.size * objects * part) * (settings.repeat + 1)
            requests += objects * _parts(scenario) * (settings.repeat + 1)
    return Bill(sum(stored.values()) + largest, uploaded + sum(stored.values()), downloaded, requests)


def _parts(scenario: Scenario) -> int:
    """Return the requests for one object, or one checkpoint."""
    return max(1, -(-scenario.size // _PART), 1 if scenario.content is Content.BYTES else scenario.tensors)


def _puts(scenario: Scenario) -> int:
    """Return the requests that store one object, or one checkpoint."""
    parts = _parts(scenario)
    return parts if parts == 1 else parts + 2  # an upload in parts begins and ends with a request


@dataclass(frozen=True, slots=True)
class Session:
    """A bucket that answers, and how everybody gets in."""

    place: Place
    """For the runner."""
    uri: str
    """The random prefix, ends with a slash."""
    name: str
    """What stands for the store in a record, without naming it."""
    is_tls: bool
    """Whether it is reached by HTTPS."""


def find_endpoint(bucket: OwnBucket) -> str:
    """Return the URL of a bucket's store, without a request.

    Args:
        bucket: The user's.

    Raises:
        OwnBucketError: The profile is unknown.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.session.Session(profile_name=bucket.profile, region_name=bucket.region)
        return _endpoint(session, bucket.endpoint, session.region_name or REGION)
    except BotoCoreError as error:
        raise OwnBucketError(" ".join(str(error).split())) from error


def _endpoint(session: Any, endpoint: str | None, region: str) -> str:
    return str(session.client("s3", endpoint_url=endpoint, region_name=region).meta.endpoint_url)


def open_bucket(bucket: OwnBucket) -> Session:
    """Find out how to reach a bucket, and whether it answers.

    Args:
        bucket: The user's.

    Raises:
        OwnBucketError: There are no credentials or no region, or the profile is unknown.
        S3Exception: The bucket does not answer as one that can be listed.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    where = parse_s3_uri(bucket.uri)
    prefix = f"{where.key.rstrip('/')}/".lstrip("/") + f"s3torch-bench-{uuid.uuid4().hex[:12]}/"
    try:
        session = boto3.session.Session(profile_name=bucket.profile, region_name=bucket.region)
        if session.get_credentials() is None:
            raise OwnBucketError("no credentials for S3 were found; set AWS_PROFILE, or give --profile")
        config = S3ClientConfig(profile=bucket.profile, force_path_style=True)
        region = S3Client(bucket.region, endpoint=bucket.endpoint, s3client_config=config).region
        endpoint = _endpoint(session, bucket.endpoint, region)
    except BotoCoreError as error:
        raise OwnBucketError(" ".join(str(error).split())) from error
    next(iter(S3Client(region, endpoint=endpoint, s3client_config=config).list_objects(where.bucket, prefix)), None)
    fingerprint = hashlib.sha256(f"{endpoint}/{where.bucket}".encode()).hexdigest()[:8]
    place = Place(
        endpoint=endpoint,
        keep_endpoint=endpoint,
        ca_bundle=os.environ.get("AWS_CA_BUNDLE"),
        client=session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # A presigned URL with a checksum could only be used by those who send one.
                request_checksum_calculation="when_required",
            ),
        ),
        bucket=where.bucket,
        prefix=prefix,
        region=region,
        identity=lambda: _identity(session, region),
    )
    name = f"a bucket of one's own in {region} ({fingerprint})"
    return Session(place, f"s3://{where.bucket}/{prefix}", name, endpoint.startswith("https:"))


def _identity(session: Any, region: str) -> Mapping[str, str]:
    """Return the credentials as they are now; those that expire are renewed by the session."""
    found = session.get_credentials().get_frozen_credentials()
    env = {**route_environment(), **dummy_environment(), "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    env |= {"AWS_ACCESS_KEY_ID": found.access_key, "AWS_SECRET_ACCESS_KEY": found.secret_key}
    return {**env, "AWS_SESSION_TOKEN": found.token} if found.token else env


@contextmanager
def cleaned_up(session: Session, say: Callable[[str], None]) -> Iterator[None]:
    """Remove everything under the random prefix when the block ends, however it ends.

    Args:
        session: The bucket.
        say: Is told what becomes of the objects.

    Raises:
        OwnBucketError: Something could not be removed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    finally:
        emptied = None
        try:
            emptied = empty(session.place.client, session.place.bucket, session.place.prefix)
            say(f"Removed the {emptied.objects} objects under {session.uri}")
            if emptied.doubt is not None:
                say(f"An interrupted upload may have left parts there, which could not be listed: {emptied.doubt}")
        except (BotoCoreError, ClientError) as error:
            raise OwnBucketError(f"could not clean up: {' '.join(str(error).split())}") from error
        finally:
            if emptied is None:  # a second Ctrl-C, too
                say(f"What was written may still lie under {session.uri}")
