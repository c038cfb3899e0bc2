"""Streams of random numbers: each follows from some integers alone, whatever ran before."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

INITIALISATION, DROPOUT, SAMPLING, AUGMENTATION = 1, 2, 3, 4  # what random numbers are for


def stream_seed(*entropy: int) -> int:
    """Seed made of non-negative integers, independent for any two tuples of one length."""
    state = np.random.SeedSequence(entropy).generate_state(2, dtype=np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1


def stream_generator(*entropy: int) -> torch.Generator:
    """CPU generator with the seed that `stream_seed` makes of these integers."""
    return torch.Generator().manual_seed(stream_seed(*entropy))


@contextmanager
def seeded(device: torch.device, *entropy: int) -> Iterator[None]:
    """Seed torch's default generators of the CPU and of that device, and restore them after.

    Args:
        device: a CPU or CUDA device. Its numbers follow from the seed; those of the CPU and of CUDA
            differ.
        entropy: non-negative integers, from which `stream_seed` makes the seed.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed() would seed the GPUs that are not forked as well
        torch.default_generator.manual_seed(stream_seed(*entropy))
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(stream_seed(*entropy))
        yield
