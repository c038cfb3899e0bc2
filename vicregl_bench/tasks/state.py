"""The folder in which a run is kept while it is not complete: checkpoints, and what it took."""

import json
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from vicregl_bench.atomic import write_atomic
from vicregl_bench.records import Cost
from vicregl_bench.records.environment import peak_memory_mib

_POINTER, _SPENT = "last_checkpoint", "spent.json"


@dataclass(frozen=True)
class Spent:
    """What a run took so far, its interrupted parts together."""

    iterations: int = 0
    wall_s: float = 0.0
    train_s: float = 0.0
    pictures: int = 0  # trained on in `train_s`
    peak_memory_mib: float = 0.0

    def cost(self) -> Cost:
        """The same as a part of a record."""
        return Cost(
            wall_s=round(self.wall_s, 2),
            train_s=round(self.train_s, 2),
            pictures_per_second=round(self.pictures / self.train_s, 2) if self.pictures else None,
            peak_memory_mib=round(self.peak_memory_mib, 1),
        )


def read_spent(work: Path) -> Spent:
    """What a run took so far; nothing where it has not begun or the note is damaged."""
    try:
        return Spent(**json.loads((work / _SPENT).read_text()))
    except (OSError, ValueError, TypeError):
        return Spent()


class Clock:
    """Counts what a run takes, beginning with what its earlier parts left in its folder.

    As a context it leaves the same there when it ends. Where it ends by an error, iterations that
    no checkpoint has are to be made again and do not count; their time and pictures do.

    Args:
        work: the run's folder.
        device: whose memory is meant; of a CPU, the process's.
    """

    def __init__(self, work: Path, device: torch.device) -> None:
        self.work, self.device = work, device
        self.earlier = read_spent(work)
        self._begun = time.monotonic()
        self._training: float | None = None
        self._train_s, self._pictures, self._peak_bytes = 0.0, 0, 0
        self._iterations = self._saved = self.earlier.iterations

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._iterations = self._saved
        self.save()

    def begin_training(self) -> None:
        """From now on it trains."""
        self._training = time.monotonic()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def step(self, iterations: int, pictures: int) -> None:
        """An iteration is done, the last of `iterations`, on so many pictures."""
        assert self._training is not None
        # a run that went on from an earlier checkpoint than its last, or began again
        self._saved = min(self._saved, iterations - 1)
        self._iterations = iterations
        self._pictures += pictures
        self._train_s = time.monotonic() - self._training
        if self.device.type == "cuda":
            # mmengine's logging resets torch's own peak
            peak = torch.cuda.max_memory_allocated(self.device)
            self._peak_bytes = max(self._peak_bytes, peak)

    def spent(self) -> Spent:
        """Everything so far."""
        cuda = self.device.type == "cuda"
        peak = self._peak_bytes / 2**20 if cuda else peak_memory_mib()
        return Spent(
            iterations=self._iterations,
            wall_s=self.earlier.wall_s + time.monotonic() - self._begun,
            train_s=self.earlier.train_s + self._train_s,
            pictures=self.earlier.pictures + self._pictures,
            peak_memory_mib=max(self.earlier.peak_memory_mib, peak),
        )

    def save(self) -> None:
        """A checkpoint has all iterations so far: leave what they took in the folder.

        Raises:
            OSError: as the file system says.
        """
        self._saved = self._iterations
        write_atomic(self.work / _SPENT, json.dumps(asdict(self.spent())).encode())


def resumes(work: Path, warn: Callable[[str], None]) -> bool:
    """Whether there is a checkpoint to go on from.

    A checkpoint that is not whole (the machine went down while it was written) is given up with a
    warning, for the one before it if that is whole. mmengine notes where a checkpoint is; the note
    follows where the folder was moved.
    """
    pointer = work / _POINTER
    if not pointer.exists():
        return False
    noted = pointer.read_text(errors="replace").replace("\0", "").strip()
    checkpoint = work / Path(noted or "none").name
    if not zipfile.is_zipfile(checkpoint):
        before = _newest_whole(work)
        if before is None:
            warn(f"the state in {work} is not whole: this run begins again")
            forget_state(work)
            return False
        warn(f"the last state in {work} is not whole: this run goes on from {before.name}")
        if checkpoint.is_file():
            checkpoint.unlink()
        checkpoint = before
    write_atomic(pointer, str(checkpoint).encode())
    return True


def _newest_whole(work: Path) -> Path | None:
    """The checkpoint of mmengine's with the most iterations among those that are whole."""
    found = {
        int(number): path
        for path in work.glob("iter_*.pth")
        if (number := path.stem.removeprefix("iter_")).isdecimal() and zipfile.is_zipfile(path)
    }
    return found[max(found)] if found else None


def forget_state(work: Path, *, but_spent: bool = False) -> None:
    """Remove what a run needs to go on; its logs stay, and what it took if that is asked for."""
    gone = [*work.glob("*.pth"), work / _POINTER]
    for path in gone if but_spent else [*gone, work / _SPENT]:
        path.unlink(missing_ok=True)
    for folder in work.glob("*/vis_data"):
        shutil.rmtree(folder, ignore_errors=True)
