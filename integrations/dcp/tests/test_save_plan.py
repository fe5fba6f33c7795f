from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from s3torch.dcp._attempt import Names
from s3torch.dcp._save_plan import is_bytes, item_size, plan_files

NAMES = Names("__0_", "abc", "t")


def tensor_item(name: str, size: int, offset: int = 0) -> WriteItem:
    chunk = ChunkStorageMetadata(torch.Size([offset]), torch.Size([size]))
    data = TensorWriteData(chunk, TensorProperties(dtype=torch.float32), torch.Size([offset + size]))
    return WriteItem(MetadataIndex(name, [offset]), WriteItemType.TENSOR, tensor_data=data)


def bytes_item(name: str) -> WriteItem:
    return WriteItem(MetadataIndex(name), WriteItemType.BYTE_IO)


ITEMS = st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=30).map(
    lambda sizes: [
        bytes_item(f"b{number}") if size is None else tensor_item(f"t{number}", size)
        for number, size in enumerate(sizes)
    ]
)


@given(items=ITEMS, threads=st.integers(1, 6), single=st.booleans(), safetensors=st.booleans())
def test_every_item_is_written_once(items: list[WriteItem], threads: int, single: bool, safetensors: bool) -> None:
    files = plan_files(items, NAMES, thread_count=threads, single_file_per_rank=single, safetensors=safetensors)
    assert sorted(item.index.fqn for file in files for item in file.items) == sorted(item.index.fqn for item in items)
    assert len({file.name for file in files}) == len(files)
    assert all(file.items for file in files)
    if not safetensors:
        assert len(files) == (min(threads, len(items)) if single else len(items))
        assert [file.name for file in files] == [f"__0_abc_{number}.distcp" for number in range(len(files))]
    for file in files:
        assert file.is_safetensors == file.name.endswith(".safetensors")
        assert not (file.is_safetensors and any(is_bytes(item) for item in file.items))


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=40), threads=st.integers(1, 5))
def test_files_are_about_equal(sizes: list[int], threads: int) -> None:
    items = [tensor_item(f"t{number}", size) for number, size in enumerate(sizes)]
    files = plan_files(items, NAMES, thread_count=threads)
    filled = [sum(item_size(item) for item in file.items) for file in files]
    # Giving the largest to whom has least is at most a third above the best there is.
    assert max(filled) <= max(4 * max(sizes), 4 / 3 * -(-4 * sum(sizes) // threads) + 4 * max(sizes) / 3)
    for file in files:
        order = [items.index(item) for item in file.items]
        assert order == sorted(order)


def test_shards_of_one_tensor_do_not_share_a_safetensors_file() -> None:
    items = [tensor_item("a", 2), tensor_item("b", 2), tensor_item("a", 2, offset=2), bytes_item("c")]
    files = plan_files(items, NAMES, safetensors=True)
    assert [[item.index.fqn for item in file.items] for file in files] == [["c"], ["a", "b"], ["a"]]


def test_sizes_are_those_of_the_shard() -> None:
    assert item_size(tensor_item("a", 7, offset=100)) == 28
    assert item_size(tensor_item("a", 0)) == item_size(bytes_item("b")) == 0
