"""Who asks and where: credentials, regions and bucket addresses, all from botocore, all before any byte is moved.

Nothing here is on the path of a single request but two dictionary look-ups.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from s3torch.client.direct.addresses import (
    EXPRESS_SUFFIX,
    BucketAddress,
    endpoint_of,
    name_address,
    new_session,
    settings_of,
)
from s3torch.client.direct.route import make_route, parse_route
from s3torch.client.direct.sigv4 import Credentials
from s3torch.client.errors import CredentialsError, RegionError, S3Exception, TLSError
from s3torch.client.protocols import EngineContext

__all__ = ["BucketAddress", "Identity"]

_EXPRESS_TOKEN_HEADER = "x-amz-s3session-token"  # noqa: S105  # a header's name
# A session of S3 Express lives five minutes; it is replaced while it still holds.
_RENEW_S = 60.0
# Frozen credentials are asked for anew so often; botocore refreshes them when it is time.
_CREDENTIALS_S = 1.0


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
        self._client: Any = None
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
                or self._setting("region")
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
            self._endpoint = endpoint_of(self.region, self._context.endpoint, self._context.config)
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
        value = self._setting("max_attempts")
        return config.max_attempts if value is None else max(1, int(value))

    def preload(self) -> None:
        """Load botocore and its description of S3, and name an address: any other takes little time afterwards."""
        self._resolve("bucket")

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
        if bucket.endswith(EXPRESS_SUFFIX):
            return self._express_session(bucket)
        frozen = self._frozen
        now = time.monotonic()
        if frozen is not None and now < frozen[0]:
            return frozen[1]
        with self._lock:
            try:
                if self._provider is None:
                    self._provider = self._own_session().get_credentials()
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
            self._session = self._client = self._provider = self._frozen = None
            return bucket.endswith(EXPRESS_SUFFIX) or self.credentials(bucket) != before

    def tls(self) -> ssl.SSLContext:
        """Return who is trusted: the bundle of the option, of ``AWS_CA_BUNDLE`` or the profile, or the system's.

        Raises:
            TLSError: The bundle cannot be read.
        """
        if self._tls is None:
            with self._lock:
                bundle = self._context.config.ca_bundle or self._setting("ca_bundle")
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

    def _setting(self, name: str) -> Any:
        """What the environment or the profile sets."""
        return settings_of(self._context.config.profile).get_config_variable(name)

    def _own_session(self) -> Any:
        """A session that reads the credentials: no other identity's, as each renews them when its store asks for it."""
        if self._session is None:
            with self._lock:
                self._session = new_session(self._context.config.profile)
        return self._session

    def _sdk(self) -> Any:
        """A client that asks for sessions."""
        if self._client is None:
            from botocore.config import Config

            config = self._context.config
            options = Config(
                s3={"addressing_style": "path"} if config.force_path_style else None,
                connect_timeout=config.connect_timeout,
                read_timeout=config.read_timeout,
            )
            self._client = self._own_session().create_client(
                "s3",
                region_name=self.region,
                endpoint_url=self._context.endpoint,
                verify=config.ca_bundle,
                config=options,
            )
        return self._client

    def _resolve(self, bucket: str) -> BucketAddress:
        region = self._regions.get(bucket, self.region)
        return name_address(bucket, region, self._context.endpoint, self._context.config)

    def _express_session(self, bucket: str) -> Credentials:
        """Credentials of a directory bucket's session (API page of CreateSession)."""
        known = self._express.get(bucket)
        now = self._clock()
        if known is not None and now < known[0]:
            return known[1]
        with self._lock:
            from botocore.exceptions import BotoCoreError, ClientError

            try:
                answer = self._sdk().create_session(Bucket=bucket)["Credentials"]
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
