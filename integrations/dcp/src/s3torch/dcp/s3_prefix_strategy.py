"""Where in a checkpoint's folder each rank's objects lie.

S3 scales by key prefix: a job of many ranks that writes under as many prefixes is throttled later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.distributed as dist

__all__ = [
    "BinaryPrefixStrategy",
    "DefaultPrefixStrategy",
    "HexPrefixStrategy",
    "NumericPrefixStrategy",
    "RoundRobinPrefixStrategy",
    "S3PrefixStrategyBase",
]

_DIGITS = "0123456789abcdef"


class S3PrefixStrategyBase(ABC):
    """Names the beginning of each rank's object names; subclasses define `generate_prefix`."""

    def __call__(self, rank: int) -> str:
        """Return `generate_prefix` of a rank."""
        return self.generate_prefix(rank)

    @abstractmethod
    def generate_prefix(self, rank: int) -> str:
        """Return what the names of a rank's objects begin with, relative to the checkpoint's folder.

        Args:
            rank: The rank, from 0.
        """


class DefaultPrefixStrategy(S3PrefixStrategyBase):
    """All ranks side by side in the checkpoint's folder: ``__{rank}_``."""

    def generate_prefix(self, rank: int) -> str:
        """Return ``__{rank}_``."""
        return f"__{rank}_"

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NumericPrefixStrategy(S3PrefixStrategyBase):
    """One sub-folder for each rank, named by a number whose fastest digit comes first.

    ``{number}/epoch_{epoch_num}/__{rank}_``: the number is ``rank % prefix_count``, padded with zeros and reversed, so
    that neighbouring ranks differ in their first character.

    Args:
        base: Base of the number, 2 to 16.
        epoch_num: Number of the epoch; None leaves that folder out.
        min_prefix_length: Digits of the number at least.
        prefix_count: How many numbers there are; None is the world size when a prefix is asked for.

    Raises:
        ValueError: An argument is not an int or out of its range.
    """

    def __init__(
        self,
        base: int,
        epoch_num: int | None = None,
        min_prefix_length: int = 10,
        prefix_count: int | None = None,
    ) -> None:
        _check_int("base", base, 2)
        if base > len(_DIGITS):
            raise ValueError(f"base must be at most {len(_DIGITS)}, got {base}")
        _check_epoch(epoch_num)
        _check_int("min_prefix_length", min_prefix_length, 1)
        if prefix_count is not None:
            _check_int("prefix_count", prefix_count, 1)
        self.base = base
        self.epoch_num = epoch_num
        self.min_prefix_length = min_prefix_length
        self.prefix_count = prefix_count

    def generate_prefix(self, rank: int) -> str:
        """Return ``{reversed number}/epoch_{epoch_num}/__{rank}_``.

        Args:
            rank: The rank, from 0.
        """
        count = _world_size() if self.prefix_count is None else self.prefix_count
        length = max(self.min_prefix_length, len(self._reversed_number(count - 1)))
        number = self._reversed_number(rank % count).ljust(length, "0")
        return number + _after_prefix(self.epoch_num, rank)

    def _reversed_number(self, number: int) -> str:
        digits = ""
        while number or not digits:
            number, digit = divmod(number, self.base)
            digits += _DIGITS[digit]
        return digits

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(epoch_num={self.epoch_num}, min_prefix_length={self.min_prefix_length},"
            f" prefix_count={self.prefix_count})"
        )


class BinaryPrefixStrategy(NumericPrefixStrategy):
    """`NumericPrefixStrategy` in base 2.

    Args:
        epoch_num: Number of the epoch; None leaves that folder out.
        min_prefix_length: Digits of the number at least.
        prefix_count: How many numbers there are; None is the world size when a prefix is asked for.

    Raises:
        ValueError: An argument is not an int or out of its range.
    """

    def __init__(
        self, epoch_num: int | None = None, min_prefix_length: int = 10, prefix_count: int | None = None
    ) -> None:
        super().__init__(2, epoch_num, min_prefix_length, prefix_count)


class HexPrefixStrategy(NumericPrefixStrategy):
    """`NumericPrefixStrategy` in base 16.

    Args:
        epoch_num: Number of the epoch; None leaves that folder out.
        min_prefix_length: Digits of the number at least.
        prefix_count: How many numbers there are; None is the world size when a prefix is asked for.

    Raises:
        ValueError: An argument is not an int or out of its range.
    """

    def __init__(
        self, epoch_num: int | None = None, min_prefix_length: int = 10, prefix_count: int | None = None
    ) -> None:
        super().__init__(16, epoch_num, min_prefix_length, prefix_count)


class RoundRobinPrefixStrategy(S3PrefixStrategyBase):
    """Given prefixes in turn: ``{prefix}/epoch_{epoch_num}/__{rank}_``.

    Args:
        user_prefixes: The prefixes, relative to the checkpoint's folder.
        epoch_num: Number of the epoch; None leaves that folder out.

    Raises:
        ValueError: There is no prefix, one is not a string, empty or begins with a slash, or the epoch is no number.
    """

    def __init__(self, user_prefixes: Sequence[str], epoch_num: int | None = None) -> None:
        if isinstance(user_prefixes, str) or not user_prefixes:
            raise ValueError(f"user_prefixes must be a list with at least one prefix, got {user_prefixes!r}")
        for prefix in user_prefixes:
            _check_prefix(prefix)
        _check_epoch(epoch_num)
        self.user_prefixes = list(user_prefixes)
        self.epoch_num = epoch_num

    def generate_prefix(self, rank: int) -> str:
        """Return ``{prefix}/epoch_{epoch_num}/__{rank}_``.

        Args:
            rank: The rank, from 0.
        """
        prefix = self.user_prefixes[rank % len(self.user_prefixes)]
        return prefix.rstrip("/") + _after_prefix(self.epoch_num, rank)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.user_prefixes!r}, epoch_num={self.epoch_num})"


def _after_prefix(epoch_num: int | None, rank: int) -> str:
    return f"/__{rank}_" if epoch_num is None else f"/epoch_{epoch_num}/__{rank}_"


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str) or not prefix.rstrip("/") or prefix.startswith("/"):
        raise ValueError(f"each prefix must be a non-empty string relative to the folder, got {prefix!r}")


def _check_epoch(epoch_num: object) -> None:
    if epoch_num is not None:
        _check_int("epoch_num", epoch_num)


def _check_int(name: str, value: object, least: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an int, got {value!r}")  # noqa: TRY004  # as in the original
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
