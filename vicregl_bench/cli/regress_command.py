"""`vicregl-bench regress`: a model's scores held against a baseline, for CI."""

import contextlib
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vicregl_bench.cli.output import print_json, print_rows, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.cli.targets import require_file, require_folder
from vicregl_bench.errors import EXIT_CHECK_FAILED, ConfigError

if TYPE_CHECKING:
    from vicregl_bench.batch.baseline import Accepted
    from vicregl_bench.batch.guard import Report, Verdict
    from vicregl_bench.batch.weights import WeightsGiven

_OUT = Path("runs")
_COLUMNS = ["task", "metric", "score", "baseline", "difference", "tolerated", "status"]


class _Format(StrEnum):
    text = "text"
    markdown = "markdown"


def _format(word: str) -> _Format:
    try:
        return _Format(word)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(_Format)}") from None


def regress(
    suite: Annotated[Path, typer.Option(help="YAML file of tasks and data (docs/regression.md).")],
    baseline: Annotated[Path, typer.Option(help="JSON file of the accepted scores.")],
    ckpt: Annotated[
        str | None, typer.Option(help="Checkpoint file, or random:ARCH; wins over the suite's.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Architecture; wins over the suite's.")] = None,
    method: Annotated[str | None, typer.Option(help="Reader; wins over the suite's.")] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Key prefix of the backbone; wins over the suite's.")
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Unpickle foreign objects; they may run code.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder of records; made-up pictures go to its data/.")
    ] = _OUT,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file to write.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Accept what is measured: write the baseline.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Data loading processes.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again what is in --out.")] = False,
    form: Annotated[
        _Format, typer.Option("--format", parser=_format, metavar="[text|markdown]")
    ] = _Format.text,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Run a suite of tasks and hold the scores against a baseline. Exit 1 if one fell."""
    require_folder("--out", out)
    require_file("--baseline", baseline)
    if junit is not None:
        require_file("--junit", junit)
        if junit.resolve() in (baseline.resolve(), suite.resolve()):
            raise ConfigError(f"--junit: {junit} is the suite or the baseline; name another file")
    given = _given(ckpt=ckpt, arch=arch, method=method, prefix=prefix, trust_pickle=trust_pickle)
    options = {"device": device} | ({} if workers is None else {"workers": str(workers)})
    report = _report(suite, baseline, given, out, options, update=update, force=force)
    written = update and report.ran
    _leave(report, suite, baseline if written else None, junit)
    if as_json:
        print_json(_document(report, suite, baseline, written))
    else:
        _print(report, baseline, form, update)
    if not (written or (report.well and not update)):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _given(**options: str | bool | None) -> "WeightsGiven":
    """The weights of the command line.

    Raises:
        ConfigError: an option without a value.
    """
    from pydantic import ValidationError

    from vicregl_bench.batch.weights import WeightsGiven
    from vicregl_bench.batch.yaml_file import first_problem

    try:
        return WeightsGiven.model_validate(options)
    except ValidationError as error:
        raise ConfigError(f"--{first_problem(error)}") from None


def _report(
    suite: Path,
    baseline: Path,
    given: "WeightsGiven",
    out: Path,
    options: dict[str, str],
    *,
    update: bool,
    force: bool,
) -> "Report":
    """Run the suite and judge every row; files are checked before the first run.

    Raises:
        ConfigError: a suite or an option that is impossible, or no baseline without `update`.
        CheckpointError: weights that cannot be read.
        RecordError: a baseline that cannot be read.
        RunInterruptedError: Ctrl-C.
    """
    from vicregl_bench.batch.baseline import read_baseline
    from vicregl_bench.batch.guard import guard
    from vicregl_bench.batch.suite import (
        chosen_weights,
        read_suite,
        require_possible_suite,
        require_weights,
        suite_jobs,
    )

    accepted = read_baseline(baseline)
    if accepted is None and not update:
        raise ConfigError(f"no baseline at {baseline}: --update writes the first one")
    wanted = read_suite(suite)
    weights = chosen_weights(wanted, given)
    require_possible_suite(suite, wanted)
    with contextlib.redirect_stdout(sys.stderr):
        require_weights(suite, wanted, weights)
    jobs = suite_jobs(wanted, weights, out, options, force=force)
    console, total = StderrReporter().console, len(jobs)
    order = {name: number for number, name in enumerate(jobs, start=1)}
    return guard(
        jobs,
        accepted,
        {row.name: wanted.tolerance_of(row) for row in wanted.tasks},
        lambda name, job: console.print(
            f"{order[name]}/{total} {name}: {job.command()}", soft_wrap=True
        ),
    )


def _leave(report: "Report", suite: Path, baseline: Path | None, junit: Path | None) -> None:
    """Write the files that are asked for."""
    from vicregl_bench.batch.baseline import write_baseline
    from vicregl_bench.batch.junit import write_junit

    if baseline is not None:
        write_baseline(baseline, report.baseline())
    if junit is not None:
        write_junit(junit, report, suite.stem)


def _document(report: "Report", suite: Path, baseline: Path, written: bool) -> dict[str, Any]:
    return {
        "suite": str(suite),
        "baseline": str(baseline),
        "well": report.well,
        "updated": written,
        "absent": list(report.absent),
        "rows": [_row_document(one) for one in report.verdicts],
    }


def _row_document(verdict: "Verdict") -> dict[str, Any]:
    measured, allowed = verdict.measured, verdict.tolerance

    def dump(entry: "Accepted | None") -> dict[str, Any] | None:
        return None if entry is None else entry.model_dump(mode="json")

    return {
        "name": measured.name,
        "task": measured.task,
        "status": verdict.status.value,
        "reason": verdict.reason,
        "notes": list(verdict.notes),
        "difference": verdict.difference,
        "tolerance": None if allowed is None else asdict(allowed),
        "seconds": measured.seconds,
        "record": None if measured.record is None else str(measured.record),
        "measured": dump(measured.entry),
        "baseline": dump(verdict.baseline),
    }


def _score(entry: "Accepted | None") -> str:
    if entry is None:
        return "–"
    return f"{entry.score:.2f}" + (f" ± {entry.std:.2f}" if entry.seeds > 1 else "")


def _cells(verdict: "Verdict") -> list[str]:
    from vicregl_bench.records.metrics import metric_title

    measured, allowed = verdict.measured, verdict.tolerance
    known = measured.entry or verdict.baseline
    return [
        measured.name,
        "–" if known is None else metric_title(known.metric),
        _score(measured.entry),
        _score(verdict.baseline),
        "–" if verdict.difference is None else f"{verdict.difference:+.2f}",
        "–" if allowed is None else f"{allowed.points:.2f} ({allowed.source})",
        verdict.status.value,
    ]


def _print(report: "Report", baseline: Path, form: _Format, update: bool) -> None:
    rows = [_cells(one) for one in report.verdicts]
    if form is _Format.text:
        print_rows(_COLUMNS, rows)
    else:
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
        print_text("\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines))
    written = update and report.ran
    said = [
        f"{one.measured.name}: {text}"
        for one in report.verdicts
        for text in (_change(one) if written else one.reason, *one.notes)
        if text
    ]
    said += [f"{name}: in the baseline, no longer in the suite" for name in report.absent]
    said.append(_summary(report, baseline, update))
    if form is _Format.text:
        print_text("\n".join(said))
    else:
        print_text("\n" + "\n".join(f"- {_escape(line)}" for line in said))


def _change(verdict: "Verdict") -> str:
    """What --update wrote of a row."""
    old, new = verdict.baseline, verdict.measured.entry
    if verdict.status is verdict.status.incomparable:
        return f"{_score(old)} -> {_score(new)} ({verdict.reason})"
    return f"{_score(old)} -> {_score(new)}"


def _summary(report: "Report", baseline: Path, update: bool) -> str:
    if update and report.ran:
        return f"baseline written: {baseline}"
    bad = [one.measured.name for one in report.verdicts if not one.well]
    if update:
        lost = [one.measured.name for one in report.verdicts if not one.ran]
        return f"baseline left as it is: no score of {', '.join(lost)}"
    if bad:
        return f"{len(bad)} of {len(report.verdicts)} failed: {', '.join(bad)}"
    return f"all {len(report.verdicts)} well"


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(regress)
