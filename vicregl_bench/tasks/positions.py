"""The stream of training pictures: its order, and augmentation seeded by position in it.

mmengine resumes the order of the data but no random state. Here the sampler yields (position,
index), and the data set seeds the augmentation by (seed, position): a resumed run, and any number
of workers, see the very same pictures.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from torch.utils.data import Sampler

_ORDER, _AUGMENTATION = 3, 4


class PositionSampler(Sampler[tuple[int, int]]):
    """Endless shuffled stream of (position, index); epoch e is a permutation seeded by (seed, e).

    Args:
        dataset: its length is what counts.
        seed: of the order.
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        self.size, self.seed, self.start = len(dataset), seed, 0

    def skip(self, num_samples: int) -> None:
        """Begin at an absolute position of the stream (mmengine calls it on resume)."""
        self.start = num_samples

    def _order(self, epoch: int) -> list[int]:
        entropy = np.random.SeedSequence((self.seed, epoch, _ORDER))
        order: list[int] = np.random.default_rng(entropy).permutation(self.size).tolist()
        return order

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start
        while True:
            epoch, offset = divmod(position, self.size)
            for index in self._order(epoch)[offset:]:
                yield position, index
                position += 1

    def __len__(self) -> int:
        return self.size


class SeededByPosition(BaseDataset):  # type: ignore[misc]
    """In front of a data set of mmengine's: its items can be asked for by position too.

    Attributes:
        seed: of the augmentation.
    """

    seed: int

    def __getitem__(self, item: int | tuple[int, int]) -> Any:
        """Sample `index`, or sample (position, index) with augmentation seeded by the position."""
        if not isinstance(item, tuple):
            return super().__getitem__(item)
        position, index = item
        # mmcv's transforms draw from the global generators: lend them a seeded state
        states = np.random.get_state(), random.getstate()
        entropy = np.random.SeedSequence((self.seed, position, _AUGMENTATION)).generate_state(2)
        np.random.seed(int(entropy[0]))
        random.seed(int(entropy[1]))
        try:
            return super().__getitem__(index)
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
