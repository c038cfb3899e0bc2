"""Ends of a running task at a given step: Ctrl-C, kill -9, another process's record."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reporter import Silent
from vicregl_bench.engine import stop as engine
from vicregl_bench.records import Record, read_record, write_record

ROOT = Path(__file__).parents[2]
LATER = "2999-01-01T00:00:00+00:00"

PROGRAM = """
import importlib, json, os, signal, sys
from pathlib import Path
import tests.conftest  # installs what mmseg is imported with
import torch
from tests.reporter import Silent

module, root, out, task, changes, stage, step, threads = sys.argv[1:]

def on_step(name, done):
    print(name, done, sep="|", flush=True)
    if name == stage and done == int(step):
        os.kill(os.getpid(), signal.SIGKILL)

class Told(Silent):
    def warn(self, text):
        print(text, flush=True)

torch.set_num_threads(int(threads))
run = importlib.import_module(module).run
run(Path(root), Path(out), task, reporter=Told(on_step), **json.loads(changes))
"""


def stop_after(monkeypatch: pytest.MonkeyPatch, stage: str, step: int) -> Silent:
    """A reporter that asks every running task to stop, as Ctrl-C does, after a step of a stage."""
    flags = watch_flags(monkeypatch)

    def on_step(name: str, done: int) -> None:
        if name == stage and done == step:
            flags[-1].requested = True

    return Silent(on_step)


def watch_flags(monkeypatch: pytest.MonkeyPatch) -> list[engine.StopFlag]:
    """The flags of all tasks begun from now on."""
    flags: list[engine.StopFlag] = []
    original = engine.StopFlag.__init__

    def remember(self: engine.StopFlag) -> None:
        original(self)
        flags.append(self)

    monkeypatch.setattr(engine.StopFlag, "__init__", remember)
    return flags


def command(
    module: str, root: Path, out: Path, task: str, stage: str = "", step: int = 0, **changes: Any
) -> list[str]:
    """Words of a process that calls the `run` of a test module.

    It prints `stage|step` lines, and warnings as they are.

    Args:
        module: name of the test module.
        root: the data root.
        out: the folder of records.
        task: the task's name.
        stage: at whose step the process is killed (SIGKILL); empty for never.
        step: of that stage.
        changes: of the request, as JSON can tell them.
    """
    words = [module, str(root), str(out), task, json.dumps(changes)]
    words += [stage, str(step), str(torch.get_num_threads())]
    return [sys.executable, "-c", PROGRAM, *words]


def kill_at(*words: Any, **changes: Any) -> None:
    """Run a `command` to the step at which it is killed."""
    done = subprocess.run(
        command(*words, **changes), cwd=ROOT, check=False, capture_output=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def leave_record(finished: Path, out: Path) -> Record:
    """Do as a process that has just completed the same run: copy its record, dated later."""
    record = read_record(finished).model_copy(update={"created": LATER})
    write_record(out, record)
    return record
