"""Pictures loaded in batches, in this process or in several; what cannot be read stops in words."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from vicregl_bench.data.reading import read_rgb
from vicregl_bench.engine.workers import leave_process_group
from vicregl_bench.errors import DataError

Make = Callable[[Image.Image, int], Any]
"""An RGB picture and its index -> a tensor, or a tuple of tensors."""


def load_pictures(
    paths: Sequence[Path], batches: Sequence[range], make: Make, *, workers: int
) -> Generator[Any, None, None]:
    """What is made of the pictures of every batch of indices, stacked.

    Args:
        paths: of the pictures.
        batches: indices into them.
        make: of every picture.
        workers: data loading processes; 0 loads in this one.

    Raises:
        DataError: a picture cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        _Made(paths, make),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=workers,
        worker_init_fn=leave_process_group if workers else None,
        collate_fn=_together,
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


class _Made(Dataset[Any]):
    """An error is handed over, since torch would bury it in a worker's traceback."""

    def __init__(self, paths: Sequence[Path], make: Make) -> None:
        self.paths, self.make = tuple(paths), make

    def __getitem__(self, index: int) -> Any:
        try:
            picture = read_rgb(self.paths[index])
        except DataError as error:
            return error
        return self.make(picture, index)


def _together(items: Sequence[Any]) -> Any:
    """A batch, or the first error in it."""
    errors = (item for item in items if isinstance(item, DataError))
    return next(errors, None) or default_collate(list(items))
