"""Where a bucket's requests go: botocore's answer, by the SDK's own rules, environment and shared configuration.

botocore names an address by making a request that is kept from being sent. What it needs for that is costly to make and
the same for all clients of a configuration, so it is made once, and processes that are forked afterwards have it.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from s3torch.client._fork_lock import ForkLock
from s3torch.client.config import S3ClientConfig
from s3torch.client.direct.route import Proxy, Route, make_route, parse_proxy, parse_route
from s3torch.client.errors import CredentialsError

__all__ = ["EXPRESS_SUFFIX", "BucketAddress", "endpoint_of", "name_address", "new_session", "settings_of"]

EXPRESS_SUFFIX = "--x-s3"
"""How the names of directory buckets end."""

# What signs, which no address depends on, and which changes often.
_SECRETS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
_FILES = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))

# The environment's variables that botocore reads, and the size and time of the files.
_Surroundings: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where a bucket's requests go and what they are signed for."""

    route: Route
    prefix: str
    """Path before the key's slash: empty with virtual-host addressing, ``/bucket`` with path style."""
    region: str
    service: str
    signed_host: tuple[tuple[str, str], ...] = ()
    """The Host header, as it is signed."""

    def __post_init__(self) -> None:
        """Name the host once for all requests."""
        object.__setattr__(self, "signed_host", (("host", self.route.netloc),))


def settings_of(profile: str | None) -> Any:
    """Return a botocore session to read settings from, as the environment and its files are now.

    Args:
        profile: The one of the shared configuration to look into.

    Raises:
        CredentialsError: There is no such profile.
    """
    return _settings(profile, _surroundings())


def endpoint_of(region: str, endpoint: str | None, config: S3ClientConfig) -> str:
    """Return the store's URL: the one given, the environment's or profile's, or Amazon's."""
    client = _client(region, endpoint, config.profile, config.force_path_style, _surroundings(), is_signed=True)
    return str(client.meta.endpoint_url)


def name_address(bucket: str, region: str, endpoint: str | None, config: S3ClientConfig) -> BucketAddress:
    """Return where a bucket's requests go.

    Args:
        bucket: Its name.
        region: The region that it is in.
        endpoint: URL of the store; None takes the environment's or Amazon's.
        config: Options of the client.

    Raises:
        ValueError: It is no bucket's name, or has no address.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    is_express = bucket.endswith(EXPRESS_SUFFIX)  # for one of these a client that signs would ask for a session first
    client = _client(
        region, endpoint, config.profile, config.force_path_style, _surroundings(), is_signed=not is_express
    )
    # Not by presigning a URL, which would name the global endpoint instead of the region's.
    try:
        client.head_object(Bucket=bucket, Key="k")
    except ParamValidationError as error:
        raise ValueError(f"not a bucket name: {bucket!r}") from error
    except (BotoCoreError, ClientError, ValueError) as error:
        raise ValueError(f"no address for bucket {bucket!r}: {error}") from error
    request, _kept.request = _kept.request, None
    parts = urlsplit(request.url)
    route, path = parse_route(f"{parts.scheme}://{parts.netloc}{parts.path}")
    route = make_route(route.scheme, route.host, route.port, _proxy_of(route))
    scope = [region, "s3express"] if is_express else _scope_of(bucket, request.headers["Authorization"])
    return BucketAddress(route, path[: -len("/k")], scope[0], scope[1])


def new_session(profile: str | None) -> Any:
    """Return a botocore session of its own.

    Args:
        profile: The one of the shared configuration to look into.

    Raises:
        CredentialsError: There is no such profile.
    """
    import botocore.session
    from botocore.exceptions import ProfileNotFound

    session = botocore.session.Session(profile=profile)
    try:
        session.get_scoped_config()
    except ProfileNotFound as error:
        raise CredentialsError(str(error), remedy="Name a profile of the shared AWS configuration, or none.") from error
    session.register_component("data_loader", _load_data(session.get_config_variable("data_path")))
    return session


@lru_cache
def _load_data(path: str | None) -> Any:
    """Return botocore's descriptions of services: a session that reads them anew spends most of its start on them."""
    from botocore.loaders import create_loader

    return create_loader(path)


def _surroundings() -> _Surroundings:
    found: list[tuple[str, Any]] = [
        (name, value) for name, value in os.environ.items() if name.startswith("AWS_") and name not in _SECRETS
    ]
    for name, path in _FILES:
        try:
            status = Path(os.environ.get(name, path)).expanduser().stat()
        except (OSError, RuntimeError):  # none, or no home
            continue
        found.append((name, (status.st_ino, status.st_size, status.st_mtime_ns)))
    return tuple(sorted(found, key=str))


_making = ForkLock(threading.Lock)


@lru_cache(maxsize=16)
def _settings(profile: str | None, _: _Surroundings) -> Any:
    return new_session(profile)


@lru_cache(maxsize=16)
def _client(
    region: str,
    endpoint: str | None,
    profile: str | None,
    force_path_style: bool,
    surroundings: _Surroundings,
    *,
    is_signed: bool,
) -> Any:
    """Make a client that sends nothing."""
    from botocore import UNSIGNED
    from botocore.config import Config

    session = _settings(profile, surroundings)
    with _making():  # botocore's sessions do not bear two threads at this
        client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                s3={"addressing_style": "path"} if force_path_style else None,
                signature_version=None if is_signed else UNSIGNED,
            ),
            # Names only: nothing that is signed with these leaves the process.
            aws_access_key_id="offline",
            aws_secret_access_key="offline",  # noqa: S106  # no secret
        )
    client.meta.events.register_last("before-send.s3", _keep)
    return client


class _Kept(threading.local):
    """The request that a thread has just been kept from sending."""

    request: Any = None


_kept = _Kept()


def _keep(request: Any, **_: Any) -> Any:
    from botocore.awsrequest import AWSResponse

    _kept.request = request
    return AWSResponse(request.url, 200, {}, _NoBody())


class _NoBody:
    """What botocore reads a response's body from."""

    def stream(self) -> Iterator[bytes]:
        """Give nothing."""
        return iter(())


def _scope_of(bucket: str, authorization: bytes | str) -> list[str]:
    """Region and service that botocore has signed for."""
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    if not text.startswith("AWS4-HMAC-SHA256 "):
        raise ValueError(f"bucket {bucket!r} needs signatures of another kind than SigV4; use engine='boto3'")
    return text.partition("Credential=")[2].split("/")[2:4]


def _proxy_of(route: Route) -> Proxy | None:
    """The proxy that the environment names for a host, ``NO_PROXY`` heeded."""
    if urllib.request.proxy_bypass(route.netloc):
        return None
    url = urllib.request.getproxies().get(route.scheme)
    return parse_proxy(url) if url else None
