"""When to try again: the policy alone, with its randomness in hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3torch.client.retry import RetryBudget, RetryPolicy


def longest(low: float, high: float) -> float:
    assert low == 0
    return high


def test_waits_grow_to_a_cap() -> None:
    policy = RetryPolicy(max_attempts=12, base_s=0.1, cap_s=2.0, uniform=longest)
    assert [policy.delay(attempt) for attempt in range(1, 8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_waits_are_longer_where_the_store_asked_to_slow_down() -> None:
    policy = RetryPolicy(max_attempts=12, throttled_base_s=0.5, throttled_cap_s=4.0, uniform=longest)
    assert [policy.delay(attempt, is_throttled=True) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize("most", [1, 2, 10])
def test_the_last_attempt_is_the_last(most: int) -> None:
    policy = RetryPolicy(max_attempts=most)
    assert [policy.delay(attempt) is None for attempt in range(1, most + 2)] == [False] * (most - 1) + [True, True]


def test_the_stores_own_wait_is_kept_up_to_the_cap() -> None:
    policy = RetryPolicy(max_attempts=5, throttled_cap_s=20.0, uniform=lambda low, high: 0.01)
    assert policy.delay(1, retry_after_s=3.0) == 3.0
    assert policy.delay(1, retry_after_s=0.0) == 0.01
    assert policy.delay(1, retry_after_s=3600.0) == 20.0
    assert policy.delay(5, retry_after_s=3.0) is None


@settings(deadline=None)
@given(
    attempt=st.integers(1, 10_000),
    is_throttled=st.booleans(),
    retry_after=st.none() | st.floats(0, allow_nan=False),
    seed=st.integers(0, 1000),
)
def test_every_wait_is_bounded(*, attempt: int, is_throttled: bool, retry_after: float | None, seed: int) -> None:
    policy = RetryPolicy(max_attempts=20_000, uniform=random.Random(seed).uniform)
    delay = policy.delay(attempt, is_throttled=is_throttled, retry_after_s=retry_after)
    assert delay is not None
    assert 0 <= delay <= policy.throttled_cap_s
    if retry_after is None and not is_throttled:
        assert delay <= policy.cap_s


def test_waits_of_two_clients_differ() -> None:
    policies = [RetryPolicy(max_attempts=50, uniform=random.Random(seed).uniform) for seed in (1, 2)]
    assert policies[0].delay(5) != policies[1].delay(5)
    assert RetryPolicy(max_attempts=50).delay(5) != RetryPolicy(max_attempts=50).delay(5)


def test_the_budget_is_spent_and_refilled() -> None:
    budget = RetryBudget(12)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    assert budget.tokens == 2
    for _ in range(3):
        budget.refund()
    assert budget.take()
    for _ in range(100):
        budget.refund()
    assert budget.tokens == 12, "never more than it began with"
    assert not budget.take(13)
