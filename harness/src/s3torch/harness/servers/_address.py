"""The dummy identity that test servers accept, and the environment that makes clients use it."""

from __future__ import annotations

from collections.abc import Iterable

REGION = "us-east-1"
ACCESS_KEY = "testing"
SECRET_KEY = "testing"

_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


def dummy_environment() -> dict[str, str]:
    """Return the variables that give any AWS client a dummy identity and keep it on this machine."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def foreign_variables(environment: Iterable[str]) -> list[str]:
    """Pick the variable names that would lead a client to the user's own account, store or proxy.

    Args:
        environment: Names of environment variables.

    Returns:
        Those that tests must not see, in the order given.
    """
    return [name for name in environment if name.upper().startswith("AWS_") or name.lower() in _PROXY_VARIABLES]
