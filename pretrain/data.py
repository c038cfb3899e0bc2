"""The stream of training views: every picture decoded once for all its views.

Position p of the stream names an epoch, a picture in that epoch's order and a random state of its
own, so that a run resumed at any step sees what it would have seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pretrain.augment import ViewMaker
from pretrain.distributed import rank, world_size
from pretrain.pictures import PictureList, read_picture
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.errors import DataError

_ORDER, _VIEWS = 0, 1  # names of random streams
_TRIES = 100  # unreadable pictures on end


class ViewStream(Dataset[dict[str, Any]]):
    """Views of (position, picture) pairs.

    An unreadable picture is replaced by the next one in the list, and named in `unreadable`.

    Args:
        pictures: the list.
        make_views: see augment.ViewMaker.
        seed: of the run.
    """

    def __init__(self, pictures: PictureList, make_views: ViewMaker, seed: int) -> None:
        self.pictures, self.make_views, self.seed = pictures, make_views, seed

    def __len__(self) -> int:
        return len(self.pictures.names)

    def __getitem__(self, where: tuple[int, int]) -> dict[str, Any]:
        position, index = where
        unreadable: list[str] = []
        for step in range(min(len(self), _TRIES)):
            name = self.pictures.names[(index + step) % len(self)]
            try:
                picture = read_picture(self.pictures.root / name)
                break
            except DataError:
                unreadable.append(name)
        else:
            raise DataError(
                f"{self.pictures.root}: {len(unreadable)} pictures on end cannot be read, the "
                f"first is {unreadable[0]}: is the folder still there?"
            )
        entropy = np.random.SeedSequence((self.seed, position, _VIEWS)).generate_state(1, np.uint64)
        views = self.make_views(picture, int(entropy[0] >> 1))
        return {
            "large": views.large,
            "small": views.small,
            "crops": views.crops,
            "unreadable": unreadable,
        }


def stack(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch: views first, large (L, B, 3, S, S), crops (L + N, B, 5)."""
    small = samples[0]["small"]
    return {
        "large": torch.stack([sample["large"] for sample in samples], dim=1),
        "small": None
        if small is None
        else torch.stack([sample["small"] for sample in samples], dim=1),
        "crops": torch.stack([sample["crops"] for sample in samples], dim=1),
        "unreadable": sorted({name for sample in samples for name in sample["unreadable"]}),
    }


class StreamSampler(Sampler[tuple[int, int]]):
    """Endless (position, picture) pairs of this process.

    Epoch e is a permutation seeded by (seed, e), cut to whole batches. A batch of the stream is
    dealt out to the processes in blocks, so that W processes together see what one would.

    Args:
        pictures: how many there are.
        batch: pictures in a batch over all processes.
        seed: of the run.
    """

    def __init__(self, pictures: int, batch: int, seed: int) -> None:
        self.pictures, self.batch, self.seed = pictures, batch, seed
        self.steps_per_epoch = pictures // batch
        self.own = batch // world_size()
        self.start = 0

    def skip(self, num_samples: int) -> None:
        """Begin after this many samples of this process (mmengine calls it on resume)."""
        self.start = num_samples

    def _order(self, epoch: int) -> list[int]:
        entropy = np.random.SeedSequence((self.seed, epoch, _ORDER))
        order: list[int] = np.random.default_rng(entropy).permutation(self.pictures).tolist()
        return order

    def __iter__(self) -> Iterator[tuple[int, int]]:
        step = self.start // self.own
        while True:
            epoch, within = divmod(step, self.steps_per_epoch)
            order = self._order(epoch)
            for s in range(within, self.steps_per_epoch):
                first = s * self.batch + rank() * self.own
                for k in range(first, first + self.own):
                    yield (epoch * self.steps_per_epoch * self.batch + k, order[k])
            step = (epoch + 1) * self.steps_per_epoch

    def __len__(self) -> int:
        return self.steps_per_epoch * self.own


def _one_thread(worker_id: int) -> None:
    leave_process_group(worker_id)
    torch.set_num_threads(1)


def make_loader(
    stream: ViewStream, *, batch: int, seed: int, workers: int, pin: bool
) -> DataLoader[dict[str, Any]]:
    """The loader of this process.

    Args:
        stream: of views.
        batch: pictures in a batch over all processes, divisible by their number.
        seed: of the order.
        workers: processes that decode and augment.
        pin: page-locked memory, for copies to a GPU.
    """
    sampler = StreamSampler(len(stream), batch, seed)
    return DataLoader(
        stream,
        batch_size=sampler.own,
        sampler=sampler,
        num_workers=workers,
        collate_fn=stack,
        pin_memory=pin,
        drop_last=True,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # the loader's own draws leave the model's stream alone
    )


def normalise(views: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (..., 3, H, W) to float, channel by channel; mean and std on [0, 1] pixels."""
    shape = (3, 1, 1)
    scale = torch.tensor([1.0 / (255.0 * s) for s in std], device=views.device).view(shape)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=views.device)
    return views.float().mul_(scale).add_(shift.view(shape))
