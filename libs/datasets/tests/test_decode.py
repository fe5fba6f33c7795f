from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save
from torch.utils.data import DataLoader

from s3torch.client import ObjectNotFoundError
from s3torch.datasets import S3IterableDataset, S3MapDataset, decode
from s3torch.readers import S3ReaderConstructor

if TYPE_CHECKING:
    from libs.datasets.tests.conftest import Place, Served


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


# A picture in RGB: channels x rows x columns.
PIXELS = torch.tensor(
    [[[10 * (3 * row + column) + band for column in range(3)] for row in range(2)] for band in range(3)],
    dtype=torch.uint8,
)


def picture(mode: str = "RGB", form: str = "PNG", **options: Any) -> bytes:
    pixels = PIXELS.numpy()
    image = PIL.Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if mode == "RGB" else pixels[0])
    return written(lambda file: image.save(file, form, **options))


STATE: dict[str, Any] = {"w": torch.arange(6.0).reshape(2, 3), "step": 3}

SAMPLES: list[tuple[Any, bytes, Any]] = [
    (decode.Raw(), b"bytes", b"bytes"),
    (decode.Tensor(), b"\0\1\xff", torch.tensor([0, 1, 255], dtype=torch.uint8)),
    (decode.Tensor(), b"", torch.empty(0, dtype=torch.uint8)),
    (decode.Tensor(shared=True), b"\0\1\xff", torch.tensor([0, 1, 255], dtype=torch.uint8)),
    (decode.Tensor(shared=True), b"", torch.empty(0, dtype=torch.uint8)),
    (decode.Text(), "Grüße".encode(), "Grüße"),
    (decode.Text("latin-1"), "Grüße".encode("latin-1"), "Grüße"),
    (decode.Json(), b'{"a": [1, null]}', {"a": [1, None]}),
    (decode.Numpy(), written(lambda file: np.save(file, np.arange(4))), np.arange(4)),
    (
        decode.Numpy(),
        written(lambda file: np.savez(file, a=np.arange(4), b=np.eye(2))),
        {"a": np.arange(4), "b": np.eye(2)},
    ),
    (decode.TorchLoad(), written(lambda file: torch.save(STATE, file)), STATE),
    (decode.Safetensors(), save({"w": STATE["w"]}), {"w": STATE["w"]}),
    (decode.Image(), picture(), PIXELS),
    (decode.Image(), picture(form="TIFF"), PIXELS),
    (decode.Image("L"), picture("L"), PIXELS[:1]),
    (decode.Compose(decode.Json(), len, str), b"[1, 2, 3]", "3"),
]


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return set(found) == set(expected) and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    return type(found) is type(expected) and bool(found == expected)


def dataset_of(memory: Place, objects: dict[str, bytes], transform: Any, **options: Any) -> S3MapDataset:
    memory.fill(objects)
    return S3MapDataset.from_prefix(
        "s3://bucket", region="us-east-1", transform=transform, s3client_config=memory.config(), **options
    )


@pytest.mark.parametrize(
    ("decoder", "data", "expected"), SAMPLES, ids=[repr(each[0]) + str(i) for i, each in enumerate(SAMPLES)]
)
def test_every_format(memory: Place, decoder: Any, data: bytes, expected: Any) -> None:
    dataset = dataset_of(memory, {"a/key": data}, decoder)
    assert same(dataset[0], expected)
    assert same(dataset.__getitems__([0])[0], expected)
    assert same(pickle.loads(pickle.dumps(decoder))(next(iter(readers(memory)))), expected)


def readers(memory: Place) -> S3IterableDataset:
    return S3IterableDataset.from_prefix("s3://bucket", region="us-east-1", s3client_config=memory.config())


@pytest.mark.parametrize("constructor", [S3ReaderConstructor.sequential(), S3ReaderConstructor.range_based()])
def test_any_reader_will_do(memory: Place, constructor: Any) -> None:
    dataset = dataset_of(memory, {"key": bytes(range(256)) * 5000}, decode.Tensor(), reader_constructor=constructor)
    assert dataset[0].numpy().tobytes() == bytes(range(256)) * 5000


def test_a_tensor_can_be_written_to_and_owns_its_memory(memory: Place) -> None:
    dataset = dataset_of(memory, {"key": b"\1\2"}, decode.Tensor())
    first, second = dataset.__getitems__([0, 0])
    first += 1
    assert first.tolist() == [2, 3]
    assert second.tolist() == [1, 2]


def test_shared_means_shared(memory: Place) -> None:
    assert dataset_of(memory, {"key": b"\1\2"}, decode.Tensor(shared=True))[0].is_shared()
    assert not dataset_of(memory, {"key": b"\1\2"}, decode.Tensor())[0].is_shared()


def test_an_image_is_turned_as_it_says(memory: Place) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    data = picture(form="PNG", exif=exif.tobytes())
    upright = torch.rot90(PIXELS, -1, (1, 2))
    assert torch.equal(dataset_of(memory, {"key": data}, decode.Image())[0], upright)


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        (decode.Json(), b"{"),
        (decode.Text(), b"\xff"),
        (decode.Numpy(), b"no array"),
        (decode.Numpy(), written(lambda file: np.save(file, np.array([{}]), allow_pickle=True))),
        (decode.TorchLoad(), b"no archive"),
        (decode.TorchLoad(), written(lambda file: torch.save(readers, file))),
        (decode.Safetensors(), b"1234567890"),
        (decode.Image(), b"no image"),
        (decode.Image(), picture()[:40]),
    ],
)
def test_what_cannot_be_decoded_is_named_in_one_line(memory: Place, decoder: Any, data: bytes) -> None:
    with pytest.raises(decode.DecodeError, match=r"^s3://bucket/a/key is not ") as caught:
        dataset_of(memory, {"a/key": data}, decoder)[0]
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


def test_what_s3_says_stays_what_it_is(memory: Place) -> None:
    memory.fill({"other": b""})
    dataset = S3MapDataset.from_objects(
        "s3://bucket/missing", region="us-east-1", transform=decode.Json(), s3client_config=memory.config()
    )
    with pytest.raises(ObjectNotFoundError):
        dataset[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: decode.Image("CMYK"), "mode must be one of RGB, L, RGBA, got 'CMYK'"),  # type: ignore[arg-type]
        (lambda: decode.Text("klingon"), "klingon"),
        (lambda: decode.FolderLabel([]), "classes must be"),
        (lambda: decode.FolderLabel(["a", "a"]), "classes must be"),
        (lambda: decode.ByExtension({"png": 3}), "decoder of 'png' must be callable"),  # type: ignore[dict-item]
        (lambda: decode.Compose(decode.Raw(), 3), "takes functions"),  # type: ignore[arg-type]
    ],
)
def test_bad_options_fail_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, TypeError, LookupError), match=message):
        make()


# By extension -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "data", "expected"),
    [
        ("a.b/x.JSON", b"3", 3),
        ("x.meta.json", b"3", 3),
        ("x.txt", b"3", "3"),
        ("x.cls", b"3", 3),
        ("x", b"3", b"3"),
        ("x.json.unknown", b"3", b"3"),
        ("x.own", b"3", 1),
        ("x.own.json", b"3", "own"),
    ],
)
def test_the_longest_extension_that_is_known_decides(memory: Place, key: str, data: bytes, expected: Any) -> None:
    decoder = decode.ByExtension({".own": lambda reader: len(reader.read()), "own.json": lambda _: "own"})
    assert same(dataset_of(memory, {key: data}, decoder)[0], expected)


def test_only_those_given() -> None:
    decoder = decode.ByExtension({"txt": decode.Text()}, usual=False)
    assert decoder({"__key__": "k", "a.json": b"3", "txt": b"3"}) == {"__key__": "k", "a.json": b"3", "txt": "3"}


def test_the_fields_of_a_tar_sample() -> None:
    sample = {
        "__key__": "n/1",
        "__url__": "s3://bucket/shard.tar",
        "png": picture(),
        "cls": memoryview(b"7"),
        "seg.png": picture("L"),
    }
    decoded = pickle.loads(pickle.dumps(decode.ByExtension({"seg.png": decode.Image("L")})))(sample)
    assert same(decoded, {**sample, "png": PIXELS, "cls": 7, "seg.png": PIXELS[:1]})


def test_a_bad_field_is_named() -> None:
    with pytest.raises(decode.DecodeError, match=r"^s3://bucket/a/shard\.tar/n/1\.json is not JSON: "):
        decode.ByExtension()({"__key__": "n/1", "__url__": "s3://bucket/a/shard.tar", "json": b"{"})


# Labels -------------------------------------------------------------------------------------------------------------


def test_labels_from_folders(memory: Place) -> None:
    objects = {"train/cat/1.json": b"1", "train/dog/2.json": b"2"}
    decoder = decode.WithLabel(decode.Json(), decode.FolderLabel(["cat", "dog"]))
    assert dataset_of(memory, objects, decoder).__getitems__([1, 0]) == [(2, 1), (1, 0)]


def test_a_label_that_is_none_names_the_object(memory: Place) -> None:
    decoder = decode.WithLabel(decode.Json(), decode.FolderLabel(["cat"]))
    with pytest.raises(
        decode.DecodeError, match=r"s3://bucket/train/cow/1 has no label: .*'cow' is none of the 1 classes"
    ):
        dataset_of(memory, {"train/cow/1": b"1"}, decoder)[0]


# Batches ------------------------------------------------------------------------------------------------------------


def test_equal_tensors_are_stacked() -> None:
    batch = decode.collate([(torch.tensor([1, 2]), 5), (torch.tensor([3, 4]), 6)])
    assert same(dict(enumerate(batch)), {0: torch.tensor([[1, 2], [3, 4]]), 1: torch.tensor([5, 6])})


def test_others_lie_in_one_block() -> None:
    samples = [torch.arange(3), torch.arange(4).reshape(2, 2), torch.empty(0, dtype=torch.int64), torch.tensor(7)]
    packed = decode.collate(samples)
    assert all(same(found, sample) for found, sample in zip(packed, samples, strict=True))
    assert len({each.untyped_storage().data_ptr() for each in packed}) == 1


def test_different_types_are_left_alone() -> None:
    samples = [torch.arange(3), torch.arange(3.0)]
    assert all(found is sample for found, sample in zip(decode.collate(samples), samples, strict=True))


@pytest.mark.usefixtures("dummy_aws_env")
@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("shared", [False, True])
def test_batches_from_workers(served: Served, context: str, shared: bool) -> None:
    dataset = S3MapDataset.from_prefix(
        served.uri, region=served.region, endpoint=served.endpoint, transform=decode.Tensor(shared=shared)
    )
    loader = DataLoader(
        dataset, batch_size=9, num_workers=1, collate_fn=decode.collate, multiprocessing_context=context
    )
    batches = list(loader)
    assert [len(batch) for batch in batches] == [9, 9, 5]
    assert [each.numpy().tobytes() for batch in batches for each in batch] == list(served.objects.values())
    assert all(each.is_shared() for batch in batches for each in batch)


def test_json_by_hand_is_what_json_says(memory: Place) -> None:
    document = {"a": 1.5, "b": ["x", None, True]}
    assert dataset_of(memory, {"k": json.dumps(document).encode("utf-16")}, decode.Json())[0] == document
