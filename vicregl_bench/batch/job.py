"""One `vicregl-bench run` as a process of its own, so that its crash is its own."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from vicregl_bench.errors import EXIT_INTERRUPTED, RecordError, RunInterruptedError
from vicregl_bench.records import Record, read_record

_FOUND = "record: "  # what `run` prints before the path of its record
_ERROR = "error: "


@dataclass(frozen=True)
class Weights:
    """A checkpoint, and how it is read, as options of `vicregl-bench run`.

    Attributes:
        ckpt: a file, or random:ARCH.
    """

    ckpt: str
    arch: str | None = None
    method: str | None = None
    prefix: str | None = None
    trust_pickle: bool = False

    def options(self) -> list[str]:
        """The options, without those that are not given."""
        named = {"--arch": self.arch, "--method": self.method, "--prefix": self.prefix}
        words = ["--ckpt", self.ckpt]
        words += [word for name, value in named.items() if value for word in (name, value)]
        return [*words, "--trust-pickle"] if self.trust_pickle else words


@dataclass(frozen=True)
class Job:
    """One run of one task on one checkpoint.

    Attributes:
        options: further options of `vicregl-bench run`, name without dashes -> value.
        overrides: what `--set` is given.
    """

    weights: Weights
    task: str
    data_root: Path
    out: Path
    profile: str = "paper"
    options: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """Of `vicregl-bench`."""
        words = ["run", *self.weights.options(), "--task", self.task]
        words += ["--data-root", str(self.data_root), "--profile", self.profile]
        words += ["--out", str(self.out)]
        words += [word for name, value in self.options.items() for word in (f"--{name}", value)]
        for key, value in self.overrides.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        return words

    def command(self) -> str:
        """What a user would type."""
        return shlex.join(["vicregl-bench", *self.arguments()])


@dataclass(frozen=True)
class JobOutcome:
    """What a job left.

    Attributes:
        code: exit code of `vicregl-bench run`, negative where a signal killed it.
        path: file of the record, None where there is none.
        error: its last words, empty where there is a record.
    """

    code: int
    record: Record | None
    path: Path | None
    error: str


def run_job(job: Job) -> JobOutcome:
    """Run a job to its end; its progress goes on to stderr.

    Raises:
        RunInterruptedError: Ctrl-C or SIGTERM, which the job is given too: it keeps what it has
            done, and the same command resumes.
    """
    command = [sys.executable, "-m", "vicregl_bench", *job.arguments()]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        process = subprocess.Popen(
            command,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # out of the terminal's group: a Ctrl-C reaches it once, through us, since a second one
            # ends a run without saving
            process_group=0 if os.name == "posix" else None,
        )
        with process, _handing_on(process) as stopped:
            last = _passed_on(process)
            code = process.wait()
        if stopped or code == EXIT_INTERRUPTED:
            raise RunInterruptedError(
                f"interrupted in {job.task} on {job.weights.ckpt}; run the same command again to "
                "resume"
            )
        printed.seek(0)
        found = [line for line in printed.read().splitlines() if line.startswith(_FOUND)]
    if not found:
        return JobOutcome(code, None, None, _last_words(code, last))
    path = Path(found[-1].removeprefix(_FOUND))
    try:
        return JobOutcome(code, read_record(path), path, "")
    except RecordError as error:
        return JobOutcome(code, None, path, str(error))


@contextlib.contextmanager
def _handing_on(process: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on to a process while inside; gives those that came.

    Signals are the main thread's; elsewhere nothing is handed on.
    """
    came: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    previous = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _passed_on(process: "subprocess.Popen[str]") -> str:
    """Pass the job's stderr on as it comes; its error, else the last line that says something."""
    assert process.stderr is not None
    last = error = ""
    for line in process.stderr:
        sys.stderr.write(line)
        sys.stderr.flush()
        last = line.strip() or last
        if line.startswith(_ERROR):
            error = line.removeprefix(_ERROR).strip()
    return error or last


def _last_words(code: int, last: str) -> str:
    if code >= 0:
        return last or f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{memory}" + (f" after: {last}" if last else "")
