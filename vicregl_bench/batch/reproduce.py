"""Running what a matrix lacks, one process after another."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vicregl_bench.batch.estimate import duration, estimate, total, total_text
from vicregl_bench.batch.job import Job, JobOutcome, run_job
from vicregl_bench.batch.matrix import TO_RUN, MatrixCell, look_again
from vicregl_bench.errors import RecordError
from vicregl_bench.records import Record

_DIVERGED = "every head diverged: smaller learning rates, in the settings of the data file"


@dataclass(frozen=True)
class Failure:
    """A run without a score, and why."""

    cell: MatrixCell
    words: str


@dataclass(frozen=True)
class Reproduced:
    """A matrix after its runs.

    Attributes:
        cells: in the order they had.
        failures: of this call, and runs that diverged in it or before.
    """

    cells: tuple[MatrixCell, ...]
    failures: tuple[Failure, ...]


def run_missing(
    cells: Sequence[MatrixCell],
    records: Iterable[Record],
    say: Callable[[str], None],
    run: Callable[[Job], JobOutcome] = run_job,
) -> Reproduced:
    """Run what is missing or interrupted, in the order of the cells; a failure stops none.

    Just before a run begins it is looked for again: another process with the same folder of records
    may have made it. One that another process has at work fails with the words of `run`, and does
    not count as failed where its record is there in the end. So several processes (one a GPU) share
    a matrix.

    Args:
        cells: of a matrix.
        records: what times are estimated from; those that are made here are added.
        say: told what is run, and for how long.
        run: runs a job to its end.

    Raises:
        RunInterruptedError: Ctrl-C; the same call resumes.
    """
    known = list(records)
    now = list(cells)
    words: dict[int, str] = {}
    todo = [index for index, cell in enumerate(cells) if cell.state in TO_RUN]
    for turn, index in enumerate(todo):
        try:
            now[index] = cell = look_again(now[index])
        except RecordError as error:
            words[index] = str(error)
            continue
        what = f"{turn + 1} of {len(todo)}: {cell.task} on {cell.entry.name}"
        if cell.state not in TO_RUN:
            say(f"{what}: there by now, from another process")
            continue
        say(what + _times(cell, [now[k] for k in todo[turn:]], known))
        assert cell.job is not None
        outcome = run(cell.job)
        if outcome.failure:
            words[index] = outcome.failure
            say(f"{cell.task} on {cell.entry.name} failed: {outcome.failure}")
        if outcome.record is not None:
            known.append(outcome.record)
            now[index] = _with(cell, outcome)
    return Reproduced(*_looked_through(now, words))


def _times(cell: MatrixCell, left: Sequence[MatrixCell], known: Sequence[Record]) -> str:
    own = estimate(cell, known).seconds
    one = "unknown how long" if own is None else f"about {duration(own)}"
    return f" ({one}; left in all: {total_text(total(estimate(c, known) for c in left))})"


def _with(cell: MatrixCell, outcome: JobOutcome) -> MatrixCell:
    record = outcome.record
    assert record is not None
    return replace(
        cell,
        state="done" if record.status == "complete" else record.status,
        record=record,
        path=outcome.path,
        done=(record.progress.iterations, record.progress.of),
    )


def _looked_through(
    cells: list[MatrixCell], words: dict[int, str]
) -> tuple[tuple[MatrixCell, ...], tuple[Failure, ...]]:
    """The cells as they are in the end, and those without a score."""
    failures = []
    for index, cell in enumerate(cells):
        if index in words:
            try:
                cells[index] = cell = look_again(cell)
            except RecordError as error:
                words[index] = str(error)
        if cell.state == "diverged":
            failures.append(Failure(cell, _DIVERGED))
        elif index in words and cell.state != "done":
            failures.append(Failure(cell, words[index]))
    return tuple(cells), tuple(failures)
