"""The tensors taken from a checkpoint: made plain float32, checked, and hashed."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from vicregl_bench.errors import CheckpointError

COUNTER = "num_batches_tracked"
"""BatchNorm's step counter: no parameter, no statistic; evaluation never reads it."""


def is_counter(key: str) -> bool:
    """Whether a key names BatchNorm's step counter."""
    return key == COUNTER or key.endswith("." + COUNTER)


def to_float32(tensor: Tensor, *, where: str) -> Tensor:
    """Return a contiguous float32 copy that shares no memory with the (mapped) file.

    Args:
        tensor: of any floating-point type and shape.
        where: file and key, for the error's text.

    Raises:
        CheckpointError: the tensor is not a dense floating-point one, has more elements than its
            storage holds (a file can claim any number of them), has a NaN or infinity, or is a
            running variance below zero.
    """
    if (
        not tensor.is_floating_point()
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        raise CheckpointError(
            f"{where}: a dense floating-point tensor is needed, the file holds "
            f"{tensor.dtype}, {tensor.layout}, on {tensor.device}; save the weights as float32"
        )
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > stored:
        raise CheckpointError(
            f"{where}: is an expanded view, {tensor.numel():,} elements over {stored:,} values; "
            "save the weights as contiguous tensors"
        )
    plain = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if where.endswith("running_var") and bool((plain < 0).any()):
        raise CheckpointError(
            f"{where}: a variance is negative; the file is damaged, use another checkpoint"
        )
    finite = torch.isfinite(plain)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise CheckpointError(
            f"{where}: {bad} of {plain.numel()} values are NaN or infinite; "
            "the training diverged or the file is damaged, use another checkpoint"
        )
    return plain


def weights_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Return the sha256 of the weights themselves, in hex.

    Hashed are, in sorted order, each tensor's name, shape and values as little-endian float32;
    `num_batches_tracked` is left out. The same weights in another container, under another
    prefix or in half precision (against its float32 cast) have the same hash.
    """
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        if is_counter(key):
            continue
        tensor = state_dict[key]
        digest.update(f"{key} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(values.astype("<f4", copy=False).data)
    return digest.hexdigest()
