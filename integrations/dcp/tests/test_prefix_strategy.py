from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch.distributed as dist

from s3torch.dcp import (
    BinaryPrefixStrategy,
    DefaultPrefixStrategy,
    HexPrefixStrategy,
    NumericPrefixStrategy,
    RoundRobinPrefixStrategy,
    S3PrefixStrategyBase,
)


def test_the_default_puts_all_ranks_side_by_side() -> None:
    assert [DefaultPrefixStrategy()(rank) for rank in (0, 12)] == ["__0_", "__12_"]


@pytest.mark.parametrize(
    ("strategy", "rank", "prefix"),
    [
        (BinaryPrefixStrategy(epoch_num=3, prefix_count=8), 6, "0110000000/epoch_3/__6_"),
        (BinaryPrefixStrategy(prefix_count=8), 6, "0110000000/__6_"),
        (BinaryPrefixStrategy(min_prefix_length=1, prefix_count=8), 6, "011/__6_"),
        (BinaryPrefixStrategy(min_prefix_length=1, prefix_count=8), 1, "100/__1_"),
        (BinaryPrefixStrategy(min_prefix_length=2, prefix_count=4), 6, "01/__6_"),
        (BinaryPrefixStrategy(epoch_num=0, min_prefix_length=3, prefix_count=1), 5, "000/epoch_0/__5_"),
        (HexPrefixStrategy(min_prefix_length=3, prefix_count=5000), 0xABC, "cba0/__2748_"),
        (HexPrefixStrategy(epoch_num=1, prefix_count=300), 0x1F, "f100000000/epoch_1/__31_"),
        (NumericPrefixStrategy(10, min_prefix_length=2, prefix_count=100), 12, "21/__12_"),
    ],
)
def test_numbers_are_padded_and_reversed(strategy: S3PrefixStrategyBase, rank: int, prefix: str) -> None:
    assert strategy.generate_prefix(rank) == strategy(rank) == prefix


def test_numbers_are_those_of_the_world_when_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = BinaryPrefixStrategy(min_prefix_length=1)
    assert strategy(0) == strategy(0)[:1] + "/__0_"
    assert strategy(1).startswith("0/")  # a world of one
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    assert [strategy(rank) for rank in range(4)] == ["00/__0_", "10/__1_", "01/__2_", "11/__3_"]


def test_prefixes_take_turns() -> None:
    strategy = RoundRobinPrefixStrategy(["a", "b/c/"])
    assert [strategy(rank) for rank in range(3)] == ["a/__0_", "b/c/__1_", "a/__2_"]
    assert RoundRobinPrefixStrategy(["a"], epoch_num=7)(1) == "a/epoch_7/__1_"


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoundRobinPrefixStrategy([]),
        lambda: RoundRobinPrefixStrategy("ab"),
        lambda: RoundRobinPrefixStrategy(["a", ""]),
        lambda: RoundRobinPrefixStrategy(["/a"]),
        lambda: RoundRobinPrefixStrategy([1]),  # type: ignore[list-item]  # what is tested
        lambda: RoundRobinPrefixStrategy(["a"], epoch_num=1.5),  # type: ignore[arg-type]  # what is tested
        lambda: BinaryPrefixStrategy(epoch_num="1"),  # type: ignore[arg-type]  # what is tested
        lambda: BinaryPrefixStrategy(epoch_num=True),
        lambda: BinaryPrefixStrategy(min_prefix_length=0),
        lambda: HexPrefixStrategy(prefix_count=0),
        lambda: HexPrefixStrategy(prefix_count=True),
        lambda: HexPrefixStrategy(prefix_count=1.5),  # type: ignore[arg-type]  # what is tested
        lambda: NumericPrefixStrategy(1),
        lambda: NumericPrefixStrategy(17),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "strategy",
    [
        DefaultPrefixStrategy(),
        NumericPrefixStrategy(3, 1, 2, 30),
        BinaryPrefixStrategy(1, 2, 3),
        HexPrefixStrategy(epoch_num=1, prefix_count=40),
        RoundRobinPrefixStrategy(["a", "b"], 2),
    ],
)
def test_they_pickle(strategy: S3PrefixStrategyBase) -> None:
    copy = pickle.loads(pickle.dumps(strategy))
    assert [copy(rank) for rank in range(5)] == [strategy(rank) for rank in range(5)]
    assert type(strategy).__name__ in repr(copy)
