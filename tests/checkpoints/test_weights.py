import hashlib
import struct

import pytest
import torch
from torch import Tensor

from vicregl_bench.checkpoints import weights_sha256
from vicregl_bench.checkpoints.weights import to_float32
from vicregl_bench.errors import CheckpointError


def test_hash_is_over_name_shape_and_little_endian_float32() -> None:
    state = {"b": torch.tensor([[1.0], [2.0]]), "a": torch.tensor(0.5)}
    wanted = b"a ()\n" + struct.pack("<f", 0.5) + b"b (2, 1)\n" + struct.pack("<2f", 1.0, 2.0)
    assert weights_sha256(state) == hashlib.sha256(wanted).hexdigest()


def test_hash_ignores_order_counters_precision_and_layout(resnet18: dict[str, Tensor]) -> None:
    wanted = weights_sha256(resnet18)
    half = {
        key: value.half() if value.is_floating_point() else value + 1
        for key, value in reversed(resnet18.items())
    }
    assert weights_sha256(half) == wanted
    del half["bn1.num_batches_tracked"]
    assert weights_sha256(half) == wanted
    swapped = resnet18 | {
        "conv1.weight": resnet18["conv1.weight"].to(memory_format=torch.channels_last)
    }
    assert weights_sha256(swapped) == wanted


def test_hash_sees_values_names_and_shapes(resnet18: dict[str, Tensor]) -> None:
    seen = {weights_sha256(resnet18)}
    bias = resnet18["bn1.bias"].clone()
    bias[0] += 1
    seen.add(weights_sha256(resnet18 | {"bn1.bias": bias}))
    seen.add(weights_sha256(resnet18 | {"bn1.bias": resnet18["bn1.bias"][:, None]}))
    seen.add(weights_sha256({"x" + key: value for key, value in resnet18.items()}))
    assert len(seen) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float32_copy(dtype: torch.dtype) -> None:
    stored = torch.arange(6, dtype=dtype).reshape(2, 3).t()
    plain = to_float32(stored, where="f: w")
    assert plain.dtype == torch.float32 and plain.is_contiguous()
    assert plain.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert plain.data_ptr() != stored.data_ptr()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_values_are_named(bad: float) -> None:
    with pytest.raises(CheckpointError, match=r"f: bn1\.bias: 1 of 2 values are NaN or infinite"):
        to_float32(torch.tensor([1.0, bad]), where="f: bn1.bias")


def test_float64_beyond_float32_is_refused() -> None:
    with pytest.raises(CheckpointError, match="infinite"):
        to_float32(torch.tensor([1e300], dtype=torch.float64), where="f: w")


@pytest.mark.parametrize("tensor", [torch.ones(2, dtype=torch.int8), torch.ones(2).to_sparse()])
def test_other_tensors_are_refused(tensor: Tensor) -> None:
    with pytest.raises(CheckpointError, match="dense floating-point"):
        to_float32(tensor, where="f: w")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(1).expand(10**6, 10**6),
        torch.ones(4).as_strided((3, 2), (1, 1)),
        torch.ones(1, dtype=torch.float16).expand(2),
    ],
)
def test_expanded_views_are_refused_before_they_are_copied(tensor: Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"f: w: is an expanded view, [\d,]+ elements over"):
        to_float32(tensor, where="f: w")


def test_parts_of_a_storage_are_no_expanded_views() -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    assert to_float32(whole[:, 1], where="f: w").tolist() == [1, 4]
    assert to_float32(whole.new_zeros(0, 5), where="f: w").shape == (0, 5)
    assert to_float32(whole[0, 2], where="f: w").item() == 2
