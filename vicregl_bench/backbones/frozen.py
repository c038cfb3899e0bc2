"""A frozen trunk: folded, channels-last, in inference mode, and provably unchanged."""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def fold_batch_norm(backbone: nn.Module) -> nn.Module:
    """Copy of a backbone in eval mode with every convolution and its BatchNorm folded into one.

    mmcv's `fuse_conv_bn` does it: a BatchNorm goes into the convolution that stands before it among
    its siblings, the order of ResNet blocks. Equal to the plain forward in eval mode up to 1e-5 of
    each map's largest value in float32.
    """
    from mmcv.cnn import fuse_conv_bn

    folded = copy.deepcopy(backbone)
    folded.eval()
    with torch.no_grad():
        fused: nn.Module = fuse_conv_bn(folded)
    return fused


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def state_hash(module: nn.Module) -> str:
    """SHA-256 over name and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(module):
        digest.update(name.encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class FrozenTrunk:
    """Runs a frozen backbone and proves that it stayed so.

    Not an `nn.Module` on purpose: a model that holds it neither trains, saves nor moves it.

    Args:
        backbone: maps images (B, 3, H, W) to a tuple of maps.
        precision: "fp32" or "bf16" (the trunk alone; maps come out in float32), "fp64" for tests.
        device: where to run.
        fold: fold BatchNorm into the convolutions; off only to compare.

    Raises:
        KeyError: no such precision.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        precision: str = "fp32",
        device: torch.device | str = "cpu",
        fold: bool = True,
    ) -> None:
        self.precision = precision
        self.device = torch.device(device)
        self._dtype = PRECISIONS[precision]
        self._out_dtype = torch.float64 if precision == "fp64" else torch.float32
        module = copy.deepcopy(backbone).to(torch.float64 if precision == "fp64" else torch.float32)
        module.eval()
        module = fold_batch_norm(module) if fold else module
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self._module = module.to(self.device, self._dtype).to(memory_format=torch.channels_last)
        self.hash_before = state_hash(self._module)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of every stage, (B, C_i, H / s_i, W / s_i), float32, made in inference mode."""
        return tuple(one.to(self._out_dtype) for one in self._run(self._module, images))

    def pooled(self, images: Tensor) -> Tensor:
        """Vectors (B, D) that classification reads, float32, made in inference mode."""
        vectors: Tensor = self._run(self._module.pooled, images)
        return vectors.to(self._out_dtype)

    def vectors(self, images: Tensor) -> dict[str, Tensor]:
        """Every vector (B, D) that a classifier may read, by name, of one forward, float32."""
        named: dict[str, Tensor] = self._run(self._module.vectors, images)
        return {name: vector.to(self._out_dtype) for name, vector in named.items()}

    @torch.inference_mode()
    def _run(self, forward: Any, images: Tensor) -> Any:
        self._module.eval()
        batch = images.to(self.device, self._dtype, memory_format=torch.channels_last)
        # fp32 means fp32: cuDNN would take TF32 otherwise
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return forward(batch)

    def unchanged(self) -> bool:
        """Whether every parameter and buffer still has the bytes it began with."""
        return state_hash(self._module) == self.hash_before
