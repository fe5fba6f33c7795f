"""Who asks and where: credentials, regions and bucket addresses, all from botocore, all before any byte is moved.

botocore names a bucket's address by making a request that is kept from being sent, by the same rules, environment and
shared configuration as the SDK's own. Nothing here is on the path of a single request but two dictionary look-ups.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from s3torch.client.config import S3ClientConfig
from s3torch.client.direct.route import Proxy, Route, make_route, parse_proxy, parse_route
from s3torch.client.direct.sigv4 import Credentials
from s3torch.client.errors import CredentialsError, RegionError, S3Exception, TLSError
from s3torch.client.protocols import EngineContext

__all__ = ["BucketAddress", "Identity"]

_EXPRESS_SUFFIX = "--x-s3"
_EXPRESS_TOKEN_HEADER = "x-amz-s3session-token"  # noqa: S105  # a header's name
# A session of S3 Express lives five minutes; it is replaced while it still holds.
_RENEW_S = 60.0
# Frozen credentials are asked for anew so often; botocore refreshes them when it is time.
_CREDENTIALS_S = 1.0


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


class Identity:
    """Credentials and addresses of one client in one process.

    Args:
        context: Region, endpoint and configuration.
        clock: Seconds since the epoch.
    """

    def __init__(self, context: EngineContext, clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._clock = clock
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[tuple[str, bool], Any] = {}
        self._addresses: dict[str, BucketAddress] = {}
        self._regions: dict[str, str] = {}
        self._provider: Any = None
        self._frozen: tuple[float, Credentials] | None = None
        self._express: dict[str, tuple[float, Credentials]] = {}
        self._tls: ssl.SSLContext | None = None
        self._region: str | None = None
        self._endpoint: str | None = None

    @property
    def region(self) -> str:
        """The client's region: given, from the environment, from the profile; ``us-east-1`` for other stores.

        Raises:
            RegionError: None of them names one, and the store is Amazon's.
        """
        if self._region is None:
            region = (
                self._context.region
                or os.environ.get("AWS_REGION")
                or self._botocore().get_config_variable("region")
                or ("us-east-1" if self._context.endpoint is not None else None)
            )
            if region is None:
                raise RegionError(
                    "no region is known",
                    remedy="Pass region=..., set AWS_REGION, or give the profile a region.",
                )
            self._region = str(region)
        return self._region

    @property
    def endpoint(self) -> str:
        """URL of the store: given, from the environment or profile, or Amazon's."""
        if self._endpoint is None:
            self._endpoint = str(self._client(self.region, is_offline=True).meta.endpoint_url)
        return self._endpoint

    @property
    def is_tls(self) -> bool:
        """Whether the store is spoken to over TLS."""
        return self.endpoint.startswith("https:")

    @property
    def is_amazon(self) -> bool:
        """Whether the store is Amazon's own."""
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def max_attempts(self) -> int:
        """How often a request is tried: the option, or what the environment or profile put in its default's place."""
        config = self._context.config
        if config.max_attempts != 10:  # the option's default
            return config.max_attempts
        value = self._botocore().get_config_variable("max_attempts")
        return config.max_attempts if value is None else max(1, int(value))

    def address(self, bucket: str) -> BucketAddress:
        """Return where a bucket's requests go."""
        address = self._addresses.get(bucket)
        if address is None:
            with self._lock:
                address = self._addresses[bucket] = self._resolve(bucket)
        return address

    def move(self, bucket: str, region: str) -> bool:
        """Note that a bucket is in another region; False if that is no news."""
        if self.address(bucket).region == region:
            return False
        with self._lock:
            self._regions[bucket] = region
            self._addresses[bucket] = self._resolve(bucket)
        return True

    def redirect(self, bucket: str, url: str) -> None:
        """Send a bucket's requests to another host, as a temporary redirect asked for."""
        route, path = parse_route(url.partition("?")[0])
        old = self.address(bucket)
        route = make_route(route.scheme, route.host, route.port, old.route.proxy)
        prefix = f"/{bucket}" if path.startswith(f"/{bucket}/") and not route.host.startswith(f"{bucket}.") else ""
        self._addresses[bucket] = replace(old, route=route, prefix=prefix)

    def credentials(self, bucket: str) -> Credentials | None:
        """Return what signs a bucket's requests; None for a client that does not sign.

        Raises:
            CredentialsError: There are none.
        """
        if self._context.config.unsigned:
            return None
        if bucket.endswith(_EXPRESS_SUFFIX):
            return self._express_session(bucket)
        frozen = self._frozen
        now = time.monotonic()
        if frozen is not None and now < frozen[0]:
            return frozen[1]
        with self._lock:
            try:
                if self._provider is None:
                    self._provider = self._botocore().get_credentials()
                keys = None if self._provider is None else self._provider.get_frozen_credentials()
            except S3Exception:
                raise
            except Exception as error:
                raise CredentialsError(
                    f"the credentials could not be read or refreshed: {type(error).__name__}",
                    remedy="Sign in again, or renew the source that the profile names.",
                ) from error
            if keys is None:
                raise CredentialsError(
                    "there are no credentials",
                    remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, choose a profile, give the machine a "
                    "role, or pass S3ClientConfig(unsigned=True) for a public bucket.",
                )
            credentials = Credentials(keys.access_key, keys.secret_key, keys.token)
            self._frozen = (now + _CREDENTIALS_S, credentials)
            return credentials

    def renew_credentials(self, bucket: str) -> bool:
        """Read the credentials anew, as the store no longer accepts them; False if they are the same as before."""
        with self._lock:
            before = self._frozen[1] if self._frozen is not None else None
            self._express.pop(bucket, None)
            self._session = self._provider = self._frozen = None
            self._clients.clear()
            return bucket.endswith(_EXPRESS_SUFFIX) or self.credentials(bucket) != before

    def tls(self) -> ssl.SSLContext:
        """Return who is trusted: the bundle of the option, of ``AWS_CA_BUNDLE`` or the profile, or the system's.

        Raises:
            TLSError: The bundle cannot be read.
        """
        if self._tls is None:
            with self._lock:
                bundle = self._context.config.ca_bundle or self._botocore().get_config_variable("ca_bundle")
                try:
                    context = ssl.create_default_context(cafile=bundle)
                except (OSError, ssl.SSLError) as error:
                    raise TLSError(
                        f"the file of trusted certificates cannot be read: {bundle}",
                        remedy="Correct ca_bundle, AWS_CA_BUNDLE or the profile's ca_bundle.",
                    ) from error
                context.set_alpn_protocols(["http/1.1"])
                self._tls = context
        return self._tls

    def _botocore(self) -> Any:
        if self._session is None:
            with self._lock:
                import botocore.session
                from botocore.exceptions import ProfileNotFound

                session = botocore.session.Session(profile=self._context.config.profile)
                try:
                    session.get_scoped_config()
                except ProfileNotFound as error:
                    raise CredentialsError(
                        str(error), remedy="Name a profile of the shared AWS configuration, or none."
                    ) from error
                session.register_component("data_loader", _load_data(session.get_config_variable("data_path")))
                self._session = session
        return self._session

    def _client(self, region: str, *, is_offline: bool) -> Any:
        """A botocore client: offline to name addresses, else to ask for sessions."""
        client = self._clients.get((region, is_offline))
        if client is None:
            from botocore.config import Config

            config = self._context.config
            options = Config(
                s3={"addressing_style": "path"} if config.force_path_style else None,
                connect_timeout=config.connect_timeout,
                read_timeout=config.read_timeout,
            )
            # Names only: nothing that is signed with these leaves the process.
            keys = {"aws_access_key_id": "offline", "aws_secret_access_key": "offline"} if is_offline else {}
            client = self._botocore().create_client(
                "s3",
                region_name=region,
                endpoint_url=self._context.endpoint,
                verify=config.ca_bundle,
                config=options,
                **keys,
            )
            self._clients[(region, is_offline)] = client
        return client

    def _resolve(self, bucket: str) -> BucketAddress:
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        region = self._regions.get(bucket, self.region)
        is_express = bucket.endswith(_EXPRESS_SUFFIX)
        client = self._unsigned_client(region) if is_express else self._client(region, is_offline=True)
        seen: list[Any] = []

        def keep(request: Any, **_: Any) -> Any:
            from botocore.awsrequest import AWSResponse

            seen.append(request)
            return AWSResponse(request.url, 200, {}, _NoBody())

        # Not by presigning a URL, which would name the global endpoint instead of the region's.
        client.meta.events.register_last("before-send.s3", keep, unique_id="s3torch")
        try:
            client.head_object(Bucket=bucket, Key="k")
        except ParamValidationError as error:
            raise ValueError(f"not a bucket name: {bucket!r}") from error
        except (BotoCoreError, ClientError, ValueError) as error:
            raise ValueError(f"no address for bucket {bucket!r}: {error}") from error
        finally:
            client.meta.events.unregister("before-send.s3", unique_id="s3torch")
        parts = urlsplit(seen[0].url)
        route, path = parse_route(f"{parts.scheme}://{parts.netloc}{parts.path}")
        route = make_route(route.scheme, route.host, route.port, _proxy_of(route))
        scope = [region, "s3express"] if is_express else _scope_of(bucket, seen[0].headers["Authorization"])
        return BucketAddress(route, path[: -len("/k")], scope[0], scope[1])

    def _unsigned_client(self, region: str) -> Any:
        """A client to name directory buckets' addresses: one that signs would ask for a session first."""
        from botocore import UNSIGNED
        from botocore.config import Config

        return self._botocore().create_client(
            "s3",
            region_name=region,
            endpoint_url=self._context.endpoint,
            config=Config(
                signature_version=UNSIGNED,
                s3={"addressing_style": "path"} if self._context.config.force_path_style else None,
            ),
        )

    def _express_session(self, bucket: str) -> Credentials:
        """Credentials of a directory bucket's session (API page of CreateSession)."""
        known = self._express.get(bucket)
        now = self._clock()
        if known is not None and now < known[0]:
            return known[1]
        with self._lock:
            from botocore.exceptions import BotoCoreError, ClientError

            try:
                answer = self._client(self.region, is_offline=False).create_session(Bucket=bucket)["Credentials"]
            except (BotoCoreError, ClientError) as error:
                raise CredentialsError(
                    f"no session for the directory bucket: {error}",
                    operation="CreateSession",
                    bucket=bucket,
                    remedy="Allow s3express:CreateSession on the bucket.",
                ) from error
            expiry: datetime = answer["Expiration"]
            credentials = Credentials(
                answer["AccessKeyId"],
                answer["SecretAccessKey"],
                answer["SessionToken"],
                token_header=_EXPRESS_TOKEN_HEADER,
                service="s3express",
            )
            self._express[bucket] = (expiry.timestamp() - _RENEW_S, credentials)
            return credentials


@lru_cache
def preload(profile: str | None) -> None:
    """Load botocore and its description of S3, once in a process.

    Args:
        profile: The one of the shared configuration to look into.
    """
    context = EngineContext("us-east-1", None, "", S3ClientConfig(profile=profile))
    Identity(context)._client("us-east-1", is_offline=True)  # noqa: SLF001  # as the first address would make it


@lru_cache
def _load_data(path: str | None) -> Any:
    """Return botocore's descriptions of services: a session that reads them anew spends most of its start on them."""
    from botocore.loaders import create_loader

    return create_loader(path)


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
