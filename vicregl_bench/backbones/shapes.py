"""Shapes of an architecture from a shallow module: building a hundred deep ones takes too long."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from vicregl_bench.backbones.contract import Shapes


def shapes_of(build: Callable[[], nn.Module], blocks: Mapping[str, int]) -> Shapes:
    """Shapes of a module's state dict, its stages lengthened to their full number of blocks.

    Args:
        build: makes the module with shallow stages; called on the meta device.
        blocks: stage, with its final dot (`layer1.`), -> its number of blocks. The last block of
            the shallow stage is the one repeated.
    """
    with torch.device("meta"):
        state = build().state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    keys = list(state)
    for key, following in zip(keys, [*keys[1:], ""], strict=True):
        shapes[key] = tuple(state[key].shape)
        stage = next((name for name in blocks if key.startswith(name)), None)
        if stage is None or following.startswith(stage):
            continue
        last = int(key.removeprefix(stage).partition(".")[0])
        template = f"{stage}{last}."
        inside = [name.removeprefix(template) for name in keys if name.startswith(template)]
        for number in range(last + 1, blocks[stage]):
            shapes |= {
                f"{stage}{number}.{name}": tuple(state[template + name].shape) for name in inside
            }
    return shapes
