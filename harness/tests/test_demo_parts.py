"""The demo's parts by themselves: options, images, events, and the comparison that is the proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from s3torch.harness.demo.data import CLASSES, SIDE, make_images
from s3torch.harness.demo.events import (
    Ended,
    EpochEnded,
    Failed,
    Held,
    Loaded,
    Saved,
    Started,
    Step,
    Written,
    decode,
    encode,
)
from s3torch.harness.demo.settings import Job, Settings, StoreAddress, check_settings
from s3torch.harness.demo.verdict import RunRecord, compare

ADDRESS = StoreAddress("s3://bucket/demo", "us-east-1", "http://127.0.0.1:9000", None, "direct")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(epochs=2, workers=0, samples=128, engine="boto3"),
        Settings(
            uri="s3://bucket/prefix", endpoint="https://s3.example.org", region="eu-west-1", profile="p", keep=True
        ),
        Settings(uri="s3://bucket"),
    ],
)
def test_good_options_pass(settings: Settings) -> None:
    check_settings(settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(epochs=1), "--epochs"),
        (Settings(epochs=101), "--epochs"),
        (Settings(workers=-1), "--workers"),
        (Settings(samples=127), "--samples"),
        (Settings(engine="memory"), "--engine"),
        (Settings(uri=""), "--uri"),
        (Settings(uri="bucket/prefix"), "--uri"),
        (Settings(uri="s3:///prefix"), "--uri"),
        (Settings(endpoint="http://127.0.0.1"), "--uri"),
        (Settings(region="us-east-1"), "--uri"),
        (Settings(profile="default"), "--uri"),
        (Settings(keep=True), "--uri"),
        (Settings(uri="s3://bucket", endpoint="127.0.0.1:9000"), "--endpoint"),
        (Settings(uri="s3://bucket", endpoint="http://host:port"), "--endpoint"),
        (Settings(uri="s3://bucket", endpoint="http://[::1"), "--endpoint"),
    ],
)
def test_a_bad_option_is_named_in_one_line(settings: Settings, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        check_settings(settings)
    assert "\n" not in str(caught.value)


def test_a_job_survives_the_way_to_its_process() -> None:
    job = Job(ADDRESS, "train", 128, run="r", style="iterable", epochs=2, workers=1, seed=3, hold_at=(2, 1))
    assert Job.from_json(job.to_json()) == job
    assert Job.from_json(replace(job, hold_at=None).to_json()).hold_at is None


@pytest.mark.parametrize(
    ("endpoint", "path_style"),
    [(None, False), ("http://127.0.0.1:9000", True), ("https://s3.eu-west-1.amazonaws.com", False)],
)
def test_stores_outside_amazon_are_addressed_by_path(endpoint: str | None, path_style: bool) -> None:
    assert replace(ADDRESS, endpoint=endpoint).client_config().force_path_style is path_style


@pytest.mark.parametrize(
    "event",
    [
        Written(3, 0.5),
        Started(1, 4),
        Step(1, 2, 0.1 + 0.2, 10.0),
        EpochEnded(1, 0.5, 0.9, 10.0),
        Saved(1, "s3://b/k", 10, 0.1),
        Loaded(1, "s3://b/k", 0.1),
        Held(),
        Ended(1e-300, "abc"),
        Failed("why ä"),
    ],
)
def test_an_event_survives_the_pipe_to_the_last_bit(event: Written | Step | Failed) -> None:
    line = encode(event)
    assert line.count("\n") == 1
    assert decode(line) == event


@pytest.mark.parametrize("line", ["", "hello", "1", '{"event": "Nothing"}', '{"event": "Step"}', "{}"])
def test_what_is_no_event_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_images_are_the_same_every_time_and_tell_their_class() -> None:
    images = list(make_images(6, seed=1))
    assert images == list(make_images(6, seed=1))
    assert images != list(make_images(6, seed=2))
    assert [name for name, _ in images][:4] == [
        "000000-disc.rgb",
        "000001-square.rgb",
        "000002-cross.rgb",
        "000003-disc.rgb",
    ]
    assert {len(data) for _, data in images} == {3 * SIDE * SIDE}


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_a_shape_stands_out_from_the_noise(label: int) -> None:
    name, data = list(make_images(len(CLASSES), seed=0))[label]
    assert CLASSES[label] in name
    image = np.frombuffer(data, np.uint8).reshape(3, SIDE, SIDE)
    bright = (image.mean(axis=0) > 140).mean()
    assert 0.02 < bright < 0.6


def straight_run() -> RunRecord:
    losses = {(epoch, step): 1.0 / (epoch * 4 + step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4)}
    return RunRecord(1, losses, loss=0.25, digest="d")


def resumed_run() -> RunRecord:
    straight = straight_run()
    losses = {place: loss for place, loss in straight.losses.items() if place[0] >= 2}
    return RunRecord(2, losses, loaded=Loaded(1, "s3://b/k", 0.1), loss=0.25, digest="d")


def test_equal_runs_are_equal() -> None:
    verdict = compare(straight_run(), resumed_run())
    assert verdict.is_same
    assert verdict.batches == 8


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"loss": 0.25000000000000006}, "final loss"),
        ({"loss": float("nan")}, "final loss"),
        ({"digest": "e"}, "parameters"),
        ({"digest": ""}, "parameters"),
        ({"loaded": None}, "checkpoint"),
        ({"first_epoch": 1}, "checkpoint"),
        ({"losses": {}}, "other batches"),
        ({"losses": {**resumed_run().losses, (3, 2): 0.5}}, "1 of 8 batches, from epoch 3 step 2"),
    ],
)
def test_any_difference_is_found(change: dict[str, object], found: str) -> None:
    resumed = resumed_run()
    for name, value in change.items():
        setattr(resumed, name, value)
    verdict = compare(straight_run(), resumed)
    assert not verdict.is_same
    assert any(found in difference for difference in verdict.differences)


def test_two_runs_that_never_ended_are_not_equal() -> None:
    assert not compare(RunRecord(), RunRecord()).is_same
