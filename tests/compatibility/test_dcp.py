"""``s3torchconnector.dcp``: names, calls and results as code written for the original relies on them."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.compatibility.test_contract import check_accepts, find, signature_of

import s3torch.dcp
from s3torch.client import EngineContext, S3ClientConfig
from s3torch.client.memory import MemoryEngine, MemoryStore
from s3torchconnector import S3ReaderConstructor
from s3torchconnector.dcp import (
    BinaryPrefixStrategy,
    DefaultPrefixStrategy,
    HexPrefixStrategy,
    NumericPrefixStrategy,
    RoundRobinPrefixStrategy,
    S3FileSystem,
    S3PrefixStrategyBase,
    S3StorageReader,
    S3StorageWriter,
)

REGION, PATH = "us-east-1", "s3://bucket/run/step-1"
STORAGE = ("S3FileSystem", "S3StorageReader", "S3StorageWriter")
STRATEGIES = (
    "BinaryPrefixStrategy",
    "DefaultPrefixStrategy",
    "HexPrefixStrategy",
    "NumericPrefixStrategy",
    "RoundRobinPrefixStrategy",
    "S3PrefixStrategyBase",
)
NUMERIC = "epoch_num=None, min_prefix_length=10, prefix_count=None"
SIGNATURES = {
    "S3FileSystem": "region, s3_client=None, s3client_config=None, reader_constructor=None",
    "S3FileSystem.create_stream": "self, path, mode",
    "S3FileSystem.concat_path": "self, path, suffix",
    "S3FileSystem.init_path": "self, path",
    # torch names the first one ``path``, and calls by position.
    "S3FileSystem.rename": "self, old_path, new_path, /",
    "S3FileSystem.mkdir": "self, path",
    "S3FileSystem.exists": "self, path",
    "S3FileSystem.rm_file": "self, path",
    "S3FileSystem.validate_checkpoint_id": "checkpoint_id",
    "S3StorageWriter": "region, path, s3client_config=None, prefix_strategy=None, thread_count=1",
    "S3StorageWriter.validate_checkpoint_id": "checkpoint_id",
    "S3StorageReader": "region, path, s3client_config=None, reader_constructor=None",
    "S3StorageReader.validate_checkpoint_id": "checkpoint_id",
    "S3PrefixStrategyBase.generate_prefix": "self, rank",
    "NumericPrefixStrategy": f"base, {NUMERIC}",
    "BinaryPrefixStrategy": NUMERIC,
    "HexPrefixStrategy": NUMERIC,
    "RoundRobinPrefixStrategy": "user_prefixes, epoch_num=None",
}


@pytest.mark.parametrize(
    ("module", "names"),
    [("", STORAGE + STRATEGIES), (".s3_file_system", STORAGE), (".s3_prefix_strategy", STRATEGIES)],
)
def test_a_name_is_where_the_original_has_it(module: str, names: tuple[str, ...]) -> None:
    found: Any = importlib.import_module(f"s3torchconnector.dcp{module}")
    assert sorted(found.__all__) == sorted(names)
    for name in names:
        assert getattr(found, name) is getattr(s3torch.dcp, name)


@pytest.mark.parametrize(("path", "parameters"), SIGNATURES.items())
def test_calls_mean_what_they_mean_to_the_original(path: str, parameters: str) -> None:
    check_accepts(inspect.signature(find(f"s3torchconnector.dcp.{path}")), signature_of(parameters))


@pytest.mark.parametrize("name", STORAGE)
def test_an_endpoint_can_be_given(name: str) -> None:
    assert "endpoint" in inspect.signature(getattr(s3torch.dcp, name)).parameters


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".dcp")[0] == "s3torchconnector"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "s3torch.dcp", None)
    with pytest.raises(ImportError, match=r'pip install "s3torch\[dcp\]"'):
        importlib.import_module("s3torchconnector.dcp")


# ------------------------------------------------------------------------------------------------------------ prefixes


@pytest.mark.parametrize(
    ("strategy", "rank", "prefix"),
    [
        (DefaultPrefixStrategy(), 3, "__3_"),
        (BinaryPrefixStrategy(prefix_count=8), 1, "1000000000/__1_"),
        (BinaryPrefixStrategy(prefix_count=8), 6, "0110000000/__6_"),
        (BinaryPrefixStrategy(epoch_num=4, min_prefix_length=3, prefix_count=4), 5, "100/epoch_4/__5_"),
        (BinaryPrefixStrategy(min_prefix_length=1, prefix_count=16), 3, "1100/__3_"),
        (HexPrefixStrategy(epoch_num=0, prefix_count=300), 0x10A, "a010000000/epoch_0/__266_"),
        (HexPrefixStrategy(min_prefix_length=2, prefix_count=17), 16, "01/__16_"),
        (RoundRobinPrefixStrategy(["a", "b"]), 3, "b/__3_"),
        (RoundRobinPrefixStrategy(["a", "b"], epoch_num=2), 2, "a/epoch_2/__2_"),
    ],
)
def test_prefixes_are_those_of_the_original(strategy: S3PrefixStrategyBase, rank: int, prefix: str) -> None:
    assert strategy(rank) == strategy.generate_prefix(rank) == prefix


@pytest.mark.parametrize(
    "make",
    [
        lambda: BinaryPrefixStrategy(min_prefix_length=0),
        lambda: BinaryPrefixStrategy(epoch_num="1"),  # type: ignore[arg-type]  # what is refused
        lambda: HexPrefixStrategy(prefix_count=0),
        lambda: RoundRobinPrefixStrategy([]),
    ],
)
def test_bad_arguments_are_value_errors(make: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        make()


def test_own_strategies_are_classes_of_these() -> None:
    class ByHost(S3PrefixStrategyBase):
        def __init__(self) -> None:
            super().__init__()

        def generate_prefix(self, rank: int) -> str:
            return f"host-{rank // 8}/__{rank}_"

    assert ByHost()(9) == "host-1/__9_"
    assert issubclass(HexPrefixStrategy, NumericPrefixStrategy)


# ------------------------------------------------------------------------------------------------------------- storage


@pytest.fixture
def config() -> S3ClientConfig:
    store = MemoryStore()
    store.create_bucket("bucket")

    def make_engine(context: EngineContext) -> MemoryEngine:
        return MemoryEngine(context, store)

    return S3ClientConfig(engine=make_engine)


def make_state() -> dict[str, Any]:
    return {"weight": torch.arange(1000.0).reshape(10, 100), "step": 7, "nested": {"bias": torch.ones(3)}}


def make_empty() -> dict[str, Any]:
    return {"weight": torch.zeros(10, 100), "step": 0, "nested": {"bias": torch.zeros(3)}}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    "constructor",
    [
        None,
        S3ReaderConstructor.dcp_optimized(),
        S3ReaderConstructor.sequential(),
        S3ReaderConstructor.range_based(),
        S3ReaderConstructor.default(),
    ],
    ids=["none", "dcp_optimized", "sequential", "range_based", "default"],
)
def test_saves_and_loads_as_the_originals_users_call_it(config: S3ClientConfig, constructor: Any) -> None:
    writer = S3StorageWriter(REGION, PATH, config, HexPrefixStrategy(epoch_num=1), 2)
    dcp.save(make_state(), storage_writer=writer)
    found = make_empty()
    dcp.load(found, storage_reader=S3StorageReader(REGION, PATH, config, constructor))
    expected = make_state()
    assert torch.equal(found["weight"], expected["weight"])
    assert torch.equal(found["nested"]["bias"], expected["nested"]["bias"])
    assert found["step"] == 7


def test_a_checkpoint_is_in_s3_or_a_path_of_it() -> None:
    for name in ("S3FileSystem", "S3StorageReader", "S3StorageWriter"):
        validate = getattr(s3torch.dcp, name).validate_checkpoint_id
        assert validate("s3://bucket/run")
        assert validate(Path("s3://bucket/run"))
        assert not validate("gs://bucket/run")


def test_a_file_system_reads_what_it_writes(config: S3ClientConfig) -> None:
    files = S3FileSystem(REGION, s3client_config=config)
    path = files.concat_path("s3://bucket/folder", "name")
    with files.create_stream(path, "wb") as stream:
        stream.write(pickle.dumps([1, 2]))
    assert files.exists(path)
    files.rename(path, "s3://bucket/folder/other")
    assert not files.exists(path)
    with files.create_stream("s3://bucket/folder/other", "rb") as stream:
        assert pickle.loads(stream.read()) == [1, 2]  # what has just been written
    files.rm_file("s3://bucket/folder/other")
    assert not files.exists("s3://bucket/folder/other")
    with pytest.raises(ValueError, match="mode"), files.create_stream(path, "r"):
        pass
