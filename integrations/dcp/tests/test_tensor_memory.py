from __future__ import annotations

import pytest
import torch

from s3torch.dcp._tensor_memory import byte_view, is_plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_the_view_is_the_memory(dtype: torch.dtype) -> None:
    tensor = torch.zeros(5, 3, dtype=dtype)[1:]
    view = byte_view(tensor)
    assert (view.nbytes, view.format, view.readonly) == (tensor.nbytes, "B", False)
    view[:] = bytes(range(100, 100 + view.nbytes)) if dtype != torch.bool else bytes([1]) * view.nbytes
    assert bytes(tensor.untyped_storage().tolist()[-view.nbytes :]) == bytes(view)


def test_parameters_and_empty_tensors_have_one() -> None:
    assert byte_view(torch.nn.Parameter(torch.ones(2))).nbytes == 8
    assert byte_view(torch.empty(0, 3)).nbytes == 0


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4).t(),
        torch.zeros(3, 4)[:, 1:],
        torch.zeros(3, dtype=torch.complex64).conj(),
        torch.zeros(2, dtype=torch.complex64).conj().imag,
        torch.zeros(3).to_sparse(),
        torch.zeros(3, device="meta"),
    ],
    ids=["transposed", "gaps", "conjugate", "negative", "sparse", "meta"],
)
def test_others_are_refused(tensor: torch.Tensor) -> None:
    assert not is_plain(tensor)
    with pytest.raises(ValueError):
        byte_view(tensor)
