"""How long a run will take, from what like runs took; unknown where nothing like it was measured.

Two rules, in this order, over complete records of the same task, protocol version, architecture,
device and precision:

1. equal settings and numbers of pictures: the wall-clock of the record; the median of several (of
   probes, which are quick where features are cached, the largest);
2. settings that are equal but for the schedule and, with as many heads, the sweep (in fine-tuning,
   any sweep): the pictures that this run trains on over the record's pictures a second in training;
   and what the record took beside training, times the val pictures and the trainings of this run
   over those of the record.

An interrupted run has its share still to do. Where neither rule applies, it goes on at its own pace
in training, so what it takes in the end to score is not in the estimate.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicregl_bench.batch.matrix import TO_RUN, MatrixCell, Planned
from vicregl_bench.records import Record


@dataclass(frozen=True)
class Estimate:
    """Seconds left of a run, and what they were taken from.

    Attributes:
        seconds: None where nothing is known.
        basis: what it was taken from, or what else is known.
    """

    seconds: float | None
    basis: str


@dataclass(frozen=True)
class Total:
    """What is left of many runs.

    Attributes:
        seconds: of those that are known.
        unknown: how many others there are.
    """

    seconds: float
    unknown: int


def estimate(cell: MatrixCell, records: Iterable[Record]) -> Estimate:
    """What is left of a cell's run; 0 of one that is not to be run.

    Args:
        cell: of a matrix.
        records: of any runs.
    """
    planned = cell.planned
    if planned is None or cell.state not in TO_RUN:
        return Estimate(0.0, "")
    alike = [record for record in records if _alike(record, cell.task, planned)]
    whole = _equal(alike, planned) or _scaled(alike, planned)
    if whole is not None and whole.seconds is not None:
        return Estimate(whole.seconds * _share_left(cell), whole.basis)
    return _own_pace(cell, planned) or Estimate(None, f"the protocol says: {planned.cost}")


def total(estimates: Iterable[Estimate]) -> Total:
    """The sum of those that are known, and the number of the others."""
    seconds = [one.seconds for one in estimates]
    return Total(sum(s for s in seconds if s is not None), seconds.count(None))


def duration(seconds: float) -> str:
    """A time for people: "40 s", "4 min", "3.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def total_text(left: Total) -> str:
    """A total for people."""
    unknown = f"{left.unknown} of unknown length" if left.unknown else ""
    known = f"about {duration(left.seconds)}" if left.seconds or not left.unknown else ""
    return " and ".join(filter(None, [known, unknown]))


def _alike(record: Record, task: str, planned: Planned) -> bool:
    return (
        record.status == "complete"
        and (record.task.name, record.task.version) == (task, planned.version)
        and record.checkpoint.arch == planned.arch
        and record.environment.device == planned.device
        and record.environment.precision == planned.precision
    )


def _equal(records: Sequence[Record], planned: Planned) -> Estimate | None:
    """From runs of equal settings on as many pictures."""
    same = [
        record
        for record in records
        if record.task.settings == planned.settings
        and (record.data.train, record.data.val) == (planned.train, planned.val)
    ]
    if not same:
        return None
    times = [record.cost.wall_s for record in same]
    seconds = max(times) if planned.iterations is None else statistics.median(times)
    return Estimate(seconds, f"{_count(same)} with these settings")


def _scaled(records: Sequence[Record], planned: Planned) -> Estimate | None:
    """From the training throughput of runs that differ in length alone."""
    if planned.iterations is None:
        return None
    wanted = _shape(planned.settings, planned.frozen)
    found, seconds = [], []
    for record in records:
        rate = record.cost.pictures_per_second
        if (
            not rate
            or not record.data.val
            or _shape(record.task.settings, planned.frozen) != wanted
        ):
            continue
        pictures = planned.iterations * planned.runs * planned.batch
        runs = 1 if planned.frozen else max(1, len(record.results))
        more = planned.val / record.data.val * planned.runs / runs
        beside = max(0.0, record.cost.wall_s - record.cost.train_s)
        found.append(record)
        seconds.append(pictures / rate + beside * more)
    if not found:
        return None
    return Estimate(
        statistics.median(seconds), f"the throughput of {_count(found)} of other length"
    )


def _shape(settings: Mapping[str, Any], frozen: bool) -> dict[str, Any]:
    """The settings that decide the time an iteration takes a picture.

    All heads of a frozen task share its iterations, so their number does; fine-tuned ones are runs
    of their own.
    """
    shape = {name: part for name, part in settings.items() if name not in ("schedule", "sweep")}
    sweep = settings.get("sweep", {})
    heads = len(sweep.get("lrs", ())) * len(sweep.get("warmups", (1,))) * sweep.get("seeds", 1)
    return {**shape, "heads": heads} if frozen else shape


def _share_left(cell: MatrixCell) -> float:
    if cell.done is None or not cell.done[1]:
        return 1.0
    return max(0.0, 1.0 - cell.done[0] / cell.done[1])


def _own_pace(cell: MatrixCell, planned: Planned) -> Estimate | None:
    """From what an interrupted run took so far, on this device."""
    record = cell.record
    if record is None or not record.progress.iterations:
        return None
    if record.environment.device != planned.device:
        return None
    seconds = (record.cost.train_s or record.cost.wall_s) / record.progress.iterations
    left = record.progress.of - record.progress.iterations
    return Estimate(seconds * left, "its own pace so far")


def _count(records: Sequence[Record]) -> str:
    return "1 record" if len(records) == 1 else f"{len(records)} records"
