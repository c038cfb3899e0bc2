import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.made_record import make_record
from vicregl_bench.batch import job
from vicregl_bench.batch.job import Job, JobOutcome, run_job
from vicregl_bench.batch.weights import Weights
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.records import write_record

JOB = Job(Weights(ckpt="a b.pth", arch="resnet50_v1"), "voc_linear", Path("data"), Path("out"))


@pytest.fixture()
def plays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "list[str]":
    """A program that runs in place of vicregl-bench; put its lines into the list."""
    lines: list[str] = []

    def command(self: Job) -> Sequence[str]:
        (tmp_path / "vicregl_bench.py").write_text("\n".join(lines))
        return []

    monkeypatch.setattr(Job, "arguments", command)
    monkeypatch.chdir(tmp_path)  # `-m` looks here first
    return lines


def test_arguments_are_those_of_run() -> None:
    weights = Weights(ckpt="w.pth", method="vicregl", prefix="model.", trust_pickle=True)
    words = Job(
        weights,
        "voc_linear",
        Path("data"),
        Path("out"),
        "ci",
        options={"select": "holdout"},
        overrides={"schedule.iters": 2, "sweep.lrs": [0.1], "data.variant": "voc12"},
    ).arguments()
    assert words == [
        *("run", "--ckpt", "w.pth", "--method", "vicregl", "--prefix", "model.", "--trust-pickle"),
        *("--task", "voc_linear", "--data-root", "data", "--profile", "ci", "--out", "out"),
        *("--select", "holdout", "--set", "schedule.iters=2", "--set", "sweep.lrs=[0.1]"),
        *("--set", 'data.variant="voc12"'),
    ]
    assert JOB.command().startswith("vicregl-bench run --ckpt 'a b.pth' --arch resnet50_v1 ")


def test_a_record_is_found_whatever_else_is_printed(
    plays: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_record(tmp_path, make_record())
    plays += [
        "import sys",
        "print('x' * 300_000)",  # more than a pipe holds
        "sys.stderr.write('training: 1/1\\n')",
        f"print('record: {path}')",
    ]
    assert run_job(JOB) == JobOutcome(0, make_record(), path, "")
    captured = capfd.readouterr()
    assert captured.err == "training: 1/1\n"
    assert captured.out == ""


def test_a_crash_leaves_its_last_words(plays: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    plays += ["import sys", "sys.stderr.write('error: no such thing\\nafter\\n')", "sys.exit(2)"]
    assert run_job(JOB) == JobOutcome(2, None, None, "no such thing")
    assert capfd.readouterr().err == "after\n"  # the error is told by whoever runs the job
    plays[:] = ["raise RuntimeError('broken')"]
    assert run_job(JOB).error == "RuntimeError: broken"
    plays[:] = ["import sys", "sys.exit(3)"]
    assert run_job(JOB).error == "ended with exit code 3"
    plays[:] = ["import os", "os.kill(os.getpid(), 9)"]
    assert run_job(JOB) == JobOutcome(-9, None, None, "killed by SIGKILL (out of memory?)")


def test_a_record_that_cannot_be_read_is_an_error(plays: list[str], tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text("{")
    plays += ["print('record: half.json')"]
    outcome = run_job(JOB)
    assert outcome.record is None
    assert "half-written" in outcome.error


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "given"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),  # which a run knows: it saves
    ],
)
def test_a_signal_is_handed_on_once_and_the_job_may_save(
    number: int, given: int, plays: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plays += [
        "import os, signal, sys, pathlib",
        "came = []",
        f"signal.signal({int(given)}, lambda n, f: came.append(n))",
        "assert os.getpgid(0) != os.getpgid(os.getppid())",  # the terminal's Ctrl-C misses it
        "sys.stderr.write('ready\\n'); sys.stderr.flush()",
        "while not came: signal.pause()",
        "pathlib.Path('saved').write_text(str(len(came)))",
        "sys.exit(130)",
    ]
    before = signal.getsignal(number)

    class Listener:
        """Sends the signal to ourselves as soon as the job is ready for it."""

        def write(self, text: str) -> None:
            if "ready" in text:
                threading.Thread(target=os.kill, args=(os.getpid(), number)).start()

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stderr", Listener())
    with pytest.raises(RunInterruptedError, match="run the same command again"):
        run_job(JOB)
    assert (tmp_path / "saved").read_text() == "1"
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_while_the_job_begins_reaches_it(
    plays: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plays += ["import signal", "signal.alarm(60)", "signal.pause()"]
    begin, begun = subprocess.Popen, []

    def interrupted(*words: Any, **options: Any) -> "subprocess.Popen[str]":
        begun.append(begin(*words, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return begun[0]

    def unheard(number: int, frame: object) -> None:
        pytest.fail("SIGTERM came while nobody listened")

    before = signal.signal(signal.SIGTERM, unheard)
    monkeypatch.setattr(job.subprocess, "Popen", interrupted)
    try:
        with pytest.raises(RunInterruptedError):
            run_job(JOB)
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, before)
    assert begun[0].returncode == -signal.SIGTERM


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nohup_stays_in_force(plays: list[str]) -> None:
    plays += [
        "import os, signal, sys",
        "os.kill(os.getppid(), signal.SIGHUP)",
        "sys.stderr.write('error: at work all the same\\n')",
        "sys.exit(2)",
    ]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_job(JOB).error == "at work all the same"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_job_that_was_interrupted_by_others_stops_the_batch(
    plays: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    plays += ["import sys", "sys.stderr.write('error: interrupted\\n')", "sys.exit(130)"]
    with pytest.raises(RunInterruptedError) as caught:
        job.run_job(JOB)
    assert str(caught.value) == (
        "interrupted in voc_linear on a b.pth; run the same command again to resume"
    )
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_what_an_interrupted_job_could_not_keep_is_told(plays: list[str]) -> None:
    plays += [
        "import os, signal, sys",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])",
        "os.kill(os.getppid(), signal.SIGINT)",
        "signal.sigwait([signal.SIGINT])",
        "sys.stderr.write('error: no space\\n')",
        "sys.exit(2)",
    ]
    with pytest.raises(RunInterruptedError, match=r"on a b\.pth: no space; run the same"):
        job.run_job(JOB)
