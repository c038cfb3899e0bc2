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

from vicregl_bench.batch.weights import Weights
from vicregl_bench.errors import EXIT_INTERRUPTED, RecordError, RunInterruptedError
from vicregl_bench.records import Record, read_record

_FOUND = "record: "  # what `run` prints before the path of its record
_ERROR = "error: "


@dataclass(frozen=True)
class Job:
    """One run of one task on one checkpoint.

    Attributes:
        options: further options of `vicregl-bench run`, name without dashes -> value.
        overrides: what `--set` is given.
        force: run it again where its record is there.
    """

    weights: Weights
    task: str
    data_root: Path
    out: Path
    profile: str = "paper"
    options: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    def arguments(self) -> list[str]:
        """Of `vicregl-bench`."""
        words = ["run", *self.weights.options(), "--task", self.task]
        words += ["--data-root", str(self.data_root), "--profile", self.profile]
        words += ["--out", str(self.out)]
        words += [word for name, value in self.options.items() for word in (f"--{name}", value)]
        for key, value in self.overrides.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        return [*words, "--force"] if self.force else words

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

    @property
    def failure(self) -> str:
        """Why there is no finished record; empty where there is one."""
        if self.record is not None and self.record.status != "interrupted":
            return ""
        killed = f"; killed by signal {-self.code}" if self.code < 0 else ""
        return self.error or f"it left no finished record{killed}"


def run_job(job: Job) -> JobOutcome:
    """Run a job to its end; its progress goes on to stderr.

    Raises:
        RunInterruptedError: Ctrl-C, SIGTERM or a closed terminal, of which the job is told too: it
            keeps what it has done, and the same command resumes.
    """
    command = [sys.executable, "-m", "vicregl_bench", *job.arguments()]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed,
        _handing_on() as signals,
    ):
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
        with process:
            signals.to(process)
            error, last = _passed_on(process)
            code = process.wait()
        if signals.came or code == EXIT_INTERRUPTED:
            # what else went wrong in it, such as a full disk, is not to be lost
            other = f": {error}" if error and code != EXIT_INTERRUPTED else ""
            raise RunInterruptedError(
                f"interrupted in {job.task} on {job.weights.ckpt}{other}; run the same command "
                "again to resume"
            )
        printed.seek(0)
        found = [line for line in printed.read().splitlines() if line.startswith(_FOUND)]
    if not found:
        return JobOutcome(code, None, None, _last_words(code, error or last))
    path = Path(found[-1].removeprefix(_FOUND))
    try:
        return JobOutcome(code, read_record(path), path, "")
    except RecordError as unreadable:
        return JobOutcome(code, None, path, str(unreadable))


class _Signals:
    """Signals that a process is told of; those that come before it is there are kept for it.

    Attributes:
        came: whether there was one.
    """

    def __init__(self) -> None:
        self.came = False
        self._waiting: list[int] = []
        self._process: subprocess.Popen[str] | None = None

    def to(self, process: "subprocess.Popen[str]") -> None:
        """Send what came, and what comes from now on."""
        self._process = process
        while self._waiting:
            process.send_signal(self._waiting.pop(0))

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Of a signal."""
        self.came = True
        # runs end well on SIGTERM; of a closed terminal they know nothing
        passed = number if number == signal.SIGINT else signal.SIGTERM
        if self._process is None:
            self._waiting.append(passed)
        else:
            self._process.send_signal(passed)


@contextlib.contextmanager
def _handing_on() -> Iterator[_Signals]:
    """Catch Ctrl-C, SIGTERM and SIGHUP while inside.

    Signals are the main thread's; elsewhere none is caught. Below `nohup` SIGHUP stays ignored.
    """
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    heard = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    previous = {number: signal.signal(number, signals.handle) for number in heard}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _passed_on(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Pass the job's stderr on as it comes, but for its error, which whoever runs it tells.

    Returns:
        The error without its mark, and the last line that says something; either may be empty.
    """
    assert process.stderr is not None
    last = error = ""
    for line in process.stderr:
        last = line.strip() or last
        if line.startswith(_ERROR):
            error = line.removeprefix(_ERROR).strip()
        else:
            sys.stderr.write(line)
            sys.stderr.flush()
    return error, last


def _last_words(code: int, last: str) -> str:
    if code >= 0:
        return last or f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{memory}" + (f" after: {last}" if last else "")
