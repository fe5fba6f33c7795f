"""A store that runs already, with the interface of the servers that tests start: the user's own."""

from __future__ import annotations

import uuid
from typing import Any, Protocol
from urllib.parse import urlsplit

from s3torch.harness.servers._address import REGION, Server, route_environment, server_environment
from s3torch.harness.servers._emptying import empty
from s3torch.harness.servers._process import ServerError
from s3torch.harness.servers._serving import Serving

__all__ = ["BucketLentError", "EndpointServer", "S3Server", "is_amazon"]

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0


class S3Server(Server, Protocol):
    """What tests use of a server: any that this package starts, or the user's own."""

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds it and gets in."""
        ...

    def boto3_client(self) -> Any:
        """Return a new boto3 S3 client of it."""
        ...

    def create_bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        ...


class BucketLentError(ServerError):
    """There is one bucket only, and it is in use."""


def is_amazon(endpoint: str) -> bool:
    """Whether a URL is one of Amazon's, where each bucket has a host name."""
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


class EndpointServer(Serving):
    """Any S3 that answers at a URL; a context manager.

    Credentials, region and profile are those that boto3 finds. What it makes it removes: buckets when `release` is
    called for them, and all that is left on leaving the block. Where one bucket is named it has to be empty, since the
    tests list and empty it; it stays, and is empty again in the end.

    Args:
        endpoint: The store's URL.
        bucket: The only bucket to use; None makes buckets.

    Raises:
        ServerError: On entering, if there are no credentials, the store does not answer, or the bucket cannot be used.
    """

    def __init__(self, endpoint: str, bucket: str | None = None) -> None:
        self.endpoint = endpoint
        """The store's URL."""
        self.bucket = bucket
        """The only bucket to use, if there is but one."""
        self.region = REGION
        """The region that boto3 finds, else ``us-east-1``."""
        self._credentials: Any = None
        self._client: Any = None
        self._lent: set[str] = set()
        self._route = route_environment()

    def __repr__(self) -> str:
        return f"<EndpointServer {self.endpoint}>"

    @property
    def access_key(self) -> str:
        """The access key id that boto3 finds."""
        return str(self._frozen().access_key)

    @property
    def secret_key(self) -> str:
        """The secret access key that boto3 finds."""
        return str(self._frozen().secret_key)

    def start(self) -> None:
        """Find credentials and see whether the store answers; prefer the ``with`` statement."""
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            session = boto3.session.Session()
            self._credentials = session.get_credentials()
            self.region = session.region_name or REGION
        except BotoCoreError as error:
            raise ServerError(f"no credentials for {self.endpoint}: {error}") from error
        if self._credentials is None:
            raise ServerError(
                f"no credentials for {self.endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        self._client = self.boto3_client()
        try:
            if self.bucket is None:
                self._client.list_buckets()
            elif self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1).get("Contents"):  # not every store counts
                raise ServerError(
                    f"the bucket {self.bucket!r} is not empty: the tests list it and remove all that is in it; "
                    "name an empty one"
                )
        except ClientError as error:
            # Whether this user may list buckets says nothing; whether he may use the one named does.
            if self.bucket is not None or error.response["Error"]["Code"] not in ("AccessDenied", "403"):
                raise ServerError(f"the store at {self.endpoint} refuses: {error}") from error
        except BotoCoreError as error:
            raise ServerError(f"the store at {self.endpoint} does not answer: {error}") from error

    def stop(self) -> None:
        """Remove what was made; does nothing the second time."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            for name in sorted(self._lent):
                self._remove(client, name)
            self._lent.clear()
        finally:
            client.close()

    def env(self) -> dict[str, str]:
        """Return the variables by which any AWS client finds this store and gets in."""
        found = self._frozen()
        variables = {**self._route, **server_environment(self)}
        if found.token:
            variables["AWS_SESSION_TOKEN"] = found.token
        return variables

    def boto3_client(self) -> Any:
        """Return a new boto3 S3 client of this store, independent of later changes of the environment."""
        found = self._frozen()
        return self._make_client(found.access_key, found.secret_key, found.token)

    def create_bucket(self, name: str) -> str:
        """Make an empty bucket, or take the only one.

        Args:
            name: Its name; of no consequence where there is but one bucket.

        Returns:
            The bucket's name.

        Raises:
            BucketLentError: There is but one, and it has not been released.
            ServerError: The store refused.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        if self.bucket is not None:
            if self._lent:
                raise BucketLentError(f"this needs two buckets, and there is only {self.bucket!r}")
            self._lent.add(self.bucket)
            return self.bucket
        more = {} if self.region == REGION else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        try:
            self._started().create_bucket(Bucket=name, **more)
        except (BotoCoreError, ClientError) as error:
            raise ServerError(
                f"cannot make a bucket at {self.endpoint}: {error}; name an empty one of yours to be used"
            ) from error
        self._lent.add(name)
        return name

    def release(self, name: str) -> None:
        """Empty a bucket that `create_bucket` returned, and remove it unless it is the only one.

        Args:
            name: The bucket.
        """
        if name in self._lent:
            self._remove(self._started(), name)
            self._lent.remove(name)

    def checks_credentials(self) -> bool:
        """Whether the store refuses a wrong secret key; asks it."""
        from botocore.exceptions import ClientError

        found = self._frozen()
        client = self._make_client(found.access_key, "a-secret-key-that-is-wrong", found.token)
        try:
            if self.bucket is None:
                client.list_buckets()
            else:
                client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        except ClientError:
            return True
        finally:
            client.close()
        return False

    def lists_uploads(self) -> bool:
        """Whether the store tells which multipart uploads are unfinished; asks it, of a bucket made for that."""
        from botocore.exceptions import ClientError

        name = self.bucket or self.create_bucket(f"test-{uuid.uuid4().hex}")
        try:
            self._started().list_multipart_uploads(Bucket=name, MaxUploads=1)
        except ClientError:
            return False
        finally:
            if name != self.bucket:
                self.release(name)
        return True

    def _make_client(self, access_key: str, secret_key: str, token: str | None) -> Any:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            region_name=self.region,
        )
        return session.client(
            "s3",
            endpoint_url=self.endpoint,
            config=Config(
                s3={"addressing_style": "auto" if is_amazon(self.endpoint) else "path"},
                retries={"max_attempts": 3},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
            ),
        )

    def _started(self) -> Any:
        if self._client is None:
            raise ServerError("the store has not been asked yet; use it as a context manager or call start()")
        return self._client

    def _frozen(self) -> Any:
        if self._credentials is None:
            raise ServerError("the store has not been asked yet; use it as a context manager or call start()")
        return self._credentials.get_frozen_credentials()

    def _remove(self, client: Any, name: str) -> None:
        """Remove what is in a bucket, and the bucket unless it is the only one."""
        empty(client, name)
        if name != self.bucket:
            client.delete_bucket(Bucket=name)
