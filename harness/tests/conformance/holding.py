"""Holds an engine in memory to one law, outside of pytest: to see what a law finds."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from s3torch.client import S3Client, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torch.harness.conformance import MemoryArrangement

__all__ = ["Good", "hold"]


class Good(MemoryEngine):
    """Obeys all laws."""


def hold(law: Callable[..., None], engine: type[Good], arguments: tuple[Any, ...]) -> str | None:
    """Hold an engine to a law; return what it finds."""
    endpoint = f"memory://{uuid.uuid4().hex}"
    store = MemoryStore.named(endpoint)
    arrangement = MemoryArrangement(store)

    def connect(*, endpoint: str | None = endpoint, **options: Any) -> S3Client:
        return S3Client("us-east-1", endpoint=endpoint, s3client_config=S3ClientConfig(engine=engine, **options))

    supplied = {
        "arrangement": arrangement,
        "bucket": arrangement.create_bucket(),
        "client": connect(),
        "connect": connect,
    }
    code = law.__func__.__code__  # type: ignore[attr-defined]  # of a bound method
    names = code.co_varnames[1 : code.co_argcount]
    values = iter(arguments)
    try:
        law(**{name: supplied[name] if name in supplied else next(values) for name in names})
    except BaseException as error:  # noqa: BLE001  # a failed assertion, or what pytest.raises raises
        return repr(error)
    finally:
        store.clear()
    return None
