"""A suite's scores held against its baseline: what fell, by how much, and what cannot be said."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from vicregl_bench.batch.baseline import Accepted, Baseline, differences, make_entry
from vicregl_bench.batch.job import Job, run_job

LEAST_TOLERANCE = 0.2
"""Points. DESIGN.md: heads of a sweep share the data order, so that their spread is smaller than
that of independent runs, and a tolerance is never below this."""


class Status(StrEnum):
    """What became of one row of a suite."""

    passed = "ok"
    better = "better"
    fell = "fell"
    new = "new"
    incomparable = "not comparable"
    diverged = "diverged"
    crashed = "crashed"


_WELL = (Status.passed, Status.better)
_NOT_MEASURED = (Status.diverged, Status.crashed)


@dataclass(frozen=True)
class Tolerance:
    """How far a score may lie below the baseline's, in points, and where that comes from."""

    points: float
    source: str


@dataclass(frozen=True)
class Measured:
    """What the run of one row left.

    Attributes:
        entry: None where there is no score.
        error: its last words, where there is none.
        seconds: of this call; next to nothing where the record was there already.
        earlier: when the record was made, ISO 8601, where that was before this call.
    """

    name: str
    task: str
    entry: Accepted | None
    record: Path | None = None
    error: str = ""
    diverged: bool = False
    seconds: float = 0.0
    earlier: str | None = None


@dataclass(frozen=True)
class Verdict:
    """One row, judged.

    Attributes:
        difference: measured less baseline, in points, where the two can be compared.
        reason: why it is not well; empty where it is.
        notes: what a reader should know beside.
    """

    measured: Measured
    baseline: Accepted | None
    status: Status
    difference: float | None = None
    tolerance: Tolerance | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether the row holds nothing up."""
        return self.status in _WELL

    @property
    def ran(self) -> bool:
        """Whether there is a score."""
        return self.status not in _NOT_MEASURED


def tolerance(baseline: Accepted, given: float | None = None) -> Tolerance:
    """How far below the baseline a score may lie.

    The largest of three: the baseline's spread over seeds (population standard deviation; 0 of one
    seed), half the width of its 95 % bootstrap interval over val pictures, and 0.2 points. The
    score that is judged has no say: intervals are widest near 50 %, so that a worse one would widen
    its own tolerance.

    Args:
        baseline: accepted earlier.
        given: of the suite, in points; it replaces all of this.
    """
    if given is not None:
        return Tolerance(given, "suite")
    found = (
        Tolerance(_half_width(baseline), "interval"),
        Tolerance(baseline.std, "seeds"),
        Tolerance(LEAST_TOLERANCE, "least"),
    )
    return max(found, key=lambda one: one.points)


def _half_width(entry: Accepted) -> float:
    return round((entry.interval[1] - entry.interval[0]) / 2, 4)


def judge(measured: Measured, baseline: Accepted | None, given: float | None = None) -> Verdict:
    """Hold one score against its baseline.

    It falls where it lies below the baseline by more than the tolerance; by exactly the tolerance
    is within. A row without a baseline is no pass: nobody has said what it should score.

    Args:
        measured: what the run left.
        baseline: None where there is none of that name.
        given: tolerance of the suite, in points.
    """
    entry = measured.entry
    if entry is None:
        status = Status.diverged if measured.diverged else Status.crashed
        return Verdict(measured, baseline, status, reason=measured.error)
    notes = () if measured.earlier is None else (f"measured earlier, {measured.earlier}",)
    if baseline is None:
        reason = "the baseline has no such row: --update takes it in"
        return Verdict(measured, None, Status.new, reason=reason, notes=notes)
    different = differences(entry, baseline)
    if different:
        reason = f"not comparable: {'; '.join(different)}"
        return Verdict(measured, baseline, Status.incomparable, reason=reason, notes=notes)
    allowed = tolerance(baseline, given)
    difference = round(entry.score - baseline.score, 4)
    status, reason = Status.passed, ""
    if difference < -allowed.points:
        status = Status.fell
        reason = (
            f"{entry.metric} fell by {-difference:.2f}, from {baseline.score:.2f} to "
            f"{entry.score:.2f}; {allowed.points:.2f} is tolerated ({allowed.source})"
        )
    elif difference > allowed.points:
        status = Status.better
        notes = ("--update takes the better score", *notes)
    notes = (*_weights_notes(entry, baseline, status is not Status.passed), *notes)
    return Verdict(measured, baseline, status, difference, allowed, reason, notes)


def _weights_notes(entry: Accepted, baseline: Accepted, moved: bool) -> tuple[str, ...]:
    """What is said of the weights: where they are the same, they did not move the score."""
    found = []
    if entry.arch != baseline.arch:
        found.append(f"read as {entry.arch}, the baseline as {baseline.arch}")
    elif moved and entry.weights_sha256 == baseline.weights_sha256:
        changed = [
            f"{name} {baseline.versions.get(name, 'unknown')} -> {version}"
            for name, version in sorted(entry.versions.items())
            if version != baseline.versions.get(name)
        ]
        versions = f" ({', '.join(changed)})" if changed else ""
        found.append(
            f"the weights are the baseline's: it is the code, the card or the machine{versions}"
        )
    return tuple(found)


@dataclass(frozen=True)
class Report:
    """All rows of a suite, in its order.

    Attributes:
        absent: rows of the baseline that the suite no longer has.
    """

    verdicts: tuple[Verdict, ...]
    absent: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether no row holds anything up."""
        return all(one.well for one in self.verdicts)

    @property
    def ran(self) -> bool:
        """Whether every row has a score, so that a baseline can be written."""
        return all(one.ran for one in self.verdicts)

    def baseline(self) -> Baseline:
        """The baseline of what was measured; rows without a score are not in it."""
        return Baseline(
            tasks={
                one.measured.name: one.measured.entry
                for one in self.verdicts
                if one.measured.entry is not None
            }
        )


def guard(
    jobs: Mapping[str, Job],
    baseline: Baseline | None,
    tolerances: Mapping[str, float | None],
    on_begin: Callable[[str, Job], None] = lambda name, job: None,
) -> Report:
    """Run every job, one after the other, and judge each by its row of the baseline.

    A job that crashes or diverges is a row like others, and the rest still run.

    Args:
        jobs: by the names of the suite's rows.
        baseline: None where there is none yet.
        tolerances: in points, by name; None or missing leaves it to what was measured.
        on_begin: told before each.

    Raises:
        RunInterruptedError: Ctrl-C; the same command goes on.
    """
    entries = {} if baseline is None else baseline.tasks
    verdicts = []
    for name, job in jobs.items():
        on_begin(name, job)
        measured = measure(name, job)
        verdicts.append(judge(measured, entries.get(name), tolerances.get(name)))
    absent = tuple(sorted(entries.keys() - jobs.keys()))
    return Report(tuple(verdicts), absent)


def measure(name: str, job: Job) -> Measured:
    """Run the job of one row.

    Raises:
        RunInterruptedError: Ctrl-C.
    """
    began, clock = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    outcome = run_job(job)
    seconds = round(time.monotonic() - clock, 1)
    record = outcome.record
    if record is None or outcome.failure:
        return Measured(name, job.task, None, outcome.path, outcome.failure, seconds=seconds)
    if record.best is None:
        error = "every head diverged: the loss stopped being finite"
        return Measured(name, job.task, None, outcome.path, error, diverged=True, seconds=seconds)
    earlier = record.created if datetime.fromisoformat(record.created) < began else None
    return Measured(
        name, job.task, make_entry(record), outcome.path, seconds=seconds, earlier=earlier
    )
