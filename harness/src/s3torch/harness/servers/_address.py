"""The dummy identity that test servers accept, and the environment that makes clients use it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

REGION = "us-east-1"
ACCESS_KEY = "testing"
SECRET_KEY = "testing"

_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
_ROUTE_VARIABLES = frozenset({*_PROXY_VARIABLES, "no_proxy", "aws_ca_bundle"})


class Server(Protocol):
    """Any S3 server, here or elsewhere."""

    @property
    def endpoint(self) -> str:
        """Its URL."""
        ...

    @property
    def region(self) -> str:
        """The region to give to clients."""
        ...

    @property
    def access_key(self) -> str:
        """The access key id to give to clients."""
        ...

    @property
    def secret_key(self) -> str:
        """The secret access key to give to clients."""
        ...


def make_boto3_client(server: Server, *, endpoint: str | None = None, ca_bundle: str | None = None) -> Any:
    """Return a new boto3 S3 client of a server, path style, independent of the environment.

    Args:
        server: The server.
        endpoint: Another endpoint of it than its first.
        ca_bundle: The certificates to trust; None takes the system's.
    """
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key, region_name=server.region
    )
    return session.client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        verify=ca_bundle,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )


def dummy_environment() -> dict[str, str]:
    """Return the variables that give any AWS client a dummy identity and keep it on this machine."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Set, not only removed: unset they mean the files in the user's home folder.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def server_environment(server: Server, *, endpoint: str | None = None, ca_bundle: str | None = None) -> dict[str, str]:
    """Return the variables by which any AWS client finds a server and gets in.

    Args:
        server: The server.
        endpoint: Another endpoint of it than its first.
        ca_bundle: The certificates to trust; None takes the system's.
    """
    endpoint = endpoint or server.endpoint
    found = {
        **dummy_environment(),
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_S3": endpoint,
    }
    if ca_bundle is not None:
        found["AWS_CA_BUNDLE"] = ca_bundle
    return found


def own_environment() -> dict[str, str]:
    """Return this process's environment without what leads to the user's own account, store or proxy."""
    foreign = foreign_variables(os.environ)
    return {name: value for name, value in os.environ.items() if name not in foreign}


def route_environment() -> dict[str, str]:
    """Return what of this process's environment a client needs to reach the user's own store at all."""
    return {name: value for name, value in os.environ.items() if name.lower() in _ROUTE_VARIABLES}


@contextlib.contextmanager
def kept_environment() -> Iterator[None]:
    """Leave this process's environment as it was found, whatever is set or deleted within."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def only_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Let clients made within find what some variables say, and nothing of the user's own account, store or proxy.

    Args:
        values: The variables.
    """
    with kept_environment():
        for name in foreign_variables(os.environ):
            del os.environ[name]
        os.environ.update(values)
        yield


def foreign_variables(environment: Iterable[str]) -> list[str]:
    """Pick the variable names that would lead a client to the user's own account, store or proxy.

    Args:
        environment: Names of environment variables.

    Returns:
        Those that tests must not see, in the order given.
    """
    return [name for name in environment if name.upper().startswith("AWS_") or name.lower() in _PROXY_VARIABLES]
