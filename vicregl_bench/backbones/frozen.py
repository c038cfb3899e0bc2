"""A frozen trunk: folded, channels-last, in inference mode, and provably unchanged."""

import copy
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


def fold_batch_norm(backbone: nn.Module) -> nn.Module:
    """Copy of a backbone in eval mode with every convolution and its BatchNorm folded into one.

    A BatchNorm is folded into the convolution that stands right before it among its siblings, the
    order in which ResNet blocks (mmseg, torchvision, timm) define them. Equal to the plain forward
    in eval mode up to 1e-6 relative in float32.
    """
    folded = copy.deepcopy(backbone)
    folded.eval()  # not chained: mmseg's ResNet.train() returns None
    for parent in list(folded.modules()):
        previous: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm) and previous is not None:
                setattr(parent, previous[0], fuse_conv_bn_eval(previous[1], child))
                setattr(parent, name, nn.Identity())
                previous = None
            else:
                previous = (name, child) if isinstance(child, nn.Conv2d) else None
    return folded


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
        with torch.inference_mode():
            self._module.eval()
            batch = images.to(self.device, self._dtype, memory_format=torch.channels_last)
            return tuple(m.to(self._out_dtype) for m in self._module(batch))

    def unchanged(self) -> bool:
        """Whether every parameter and buffer still has the bytes it began with."""
        return state_hash(self._module) == self.hash_before
