"""Jobs in this process, which has torch and mmseg loaded already."""

import contextlib
import io
from pathlib import Path

from vicregl_bench.batch.job import Job, JobOutcome
from vicregl_bench.cli.main import _guarded
from vicregl_bench.records import read_record


def run_here(job: Job) -> JobOutcome:
    """Stands in for `run_job`."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(said):
        code = _guarded(job.arguments())
    found = [line for line in printed.getvalue().splitlines() if line.startswith("record: ")]
    if not found:
        return JobOutcome(code, None, None, said.getvalue().rpartition("error: ")[2].strip())
    path = Path(found[-1].removeprefix("record: "))
    return JobOutcome(code, read_record(path), path, "")
