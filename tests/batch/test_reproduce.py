import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.batch.cells import cell, measured, planned
from tests.running import run_here
from vicregl_bench.backbones.resnet import random_resnet_state
from vicregl_bench.batch import matrix, reproduce
from vicregl_bench.batch.job import Job, JobOutcome
from vicregl_bench.batch.matrix import MatrixCell
from vicregl_bench.batch.reproduce import run_missing
from vicregl_bench.batch.roots import Roots
from vicregl_bench.cli.main import _guarded
from vicregl_bench.cli.reproduce_command import _domains
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.records import Record, read_records, write_record

Captured = pytest.CaptureFixture[str]
Run = Callable[[Job], JobOutcome]


def cells(out: Path, **states: str) -> list[MatrixCell]:
    """A cell of each state, by name of the checkpoint."""
    return [
        cell(name, state=state, out=out, plan=planned(key=name * 64))  # type: ignore[arg-type]
        for name, state in states.items()
    ]


def leaves(name: str, **changes: object) -> JobOutcome:
    record = measured(key=name * 64, **changes)  # type: ignore[arg-type]
    return JobOutcome(0, record, Path(f"{name}.json"), "")


def test_what_is_missing_is_run_in_order_and_a_crash_stops_nothing(tmp_path: Path) -> None:
    ran, said = [], []

    def run(job: Job) -> JobOutcome:
        ran.append(job.weights.ckpt)
        broken = job.weights.ckpt == "b.pth"
        return JobOutcome(1, None, None, "it broke") if broken else leaves(job.weights.ckpt[0])

    before = cells(tmp_path, a="missing", d="done", b="missing", i="interrupted", n="no root")
    after = run_missing(before, [], said.append, run)
    assert ran == ["a.pth", "b.pth", "i.pth"]
    assert [one.state for one in after.cells] == ["done", "done", "missing", "done", "no root"]
    assert [(one.cell.entry.name, one.words) for one in after.failures] == [("b", "it broke")]
    assert after.cells[0].path == Path("a.json")
    assert said == [
        "1 of 3: voc_linear on a (unknown how long; left in all: 3 of unknown length)",
        # the first run tells how long the others take
        "2 of 3: voc_linear on b (about 2 min; left in all: about 3 min)",
        "voc_linear on b failed: it broke",
        "3 of 3: voc_linear on i (about 2 min; left in all: about 2 min)",
    ]


def test_every_head_diverged_is_a_failure_now_and_later(tmp_path: Path) -> None:
    lost = leaves("a", status="diverged", best=None)
    first = run_missing(cells(tmp_path, a="missing"), [], lambda text: None, lambda job: lost)
    again = run_missing(cells(tmp_path, a="diverged"), [], lambda text: None, lambda job: lost)
    for found in (first, again):
        assert [one.cell.state for one in found.failures] == ["diverged"]
        assert "diverged" in found.failures[0].words


def test_a_run_that_stopped_half_way_is_a_failure(tmp_path: Path) -> None:
    half = leaves("a", status="interrupted", best=None, progress={"iterations": 12, "of": 60})

    def run(job: Job) -> JobOutcome:
        assert half.record is not None
        write_record(tmp_path, half.record)
        return half

    found = run_missing(cells(tmp_path, a="missing"), [], lambda text: None, run)
    assert [one.state for one in found.cells] == ["interrupted"]
    assert [one.words for one in found.failures] == ["it left no finished record"]


def test_a_run_that_another_process_has_made_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    said: list[str] = []

    def run(job: Job) -> JobOutcome:
        assert job.weights.ckpt == "a.pth"
        write_record(tmp_path, measured(key="b" * 64))
        return leaves("a")

    after = run_missing(cells(tmp_path, a="missing", b="missing"), [], said.append, run)
    assert [one.state for one in after.cells] == ["done", "done"]
    assert said[-1] == "2 of 2: voc_linear on b: there by now, from another process"


def test_a_run_at_work_elsewhere_fails_only_while_it_has_no_record(tmp_path: Path) -> None:
    busy = JobOutcome(2, None, None, "another run of the same is at work")

    def run(job: Job) -> JobOutcome:
        if job.weights.ckpt == "c.pth":  # meanwhile the other process is done with the first
            write_record(tmp_path, measured(key="a" * 64))
            return leaves("c")
        return busy

    three = cells(tmp_path, a="missing", b="missing", c="missing")
    after = run_missing(three, [], lambda text: None, run)
    assert [one.state for one in after.cells] == ["done", "missing", "done"]
    assert [(one.cell.entry.name, one.words) for one in after.failures] == [("b", busy.error)]


def test_a_record_that_broke_meanwhile_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / f"x-{'a' * 12}.json").write_text("{")
    after = run_missing(
        cells(tmp_path, a="missing", b="missing"), [], lambda text: None, lambda job: leaves("b")
    )
    assert [one.cell.entry.name for one in after.failures] == ["a"]
    assert "half-written" in after.failures[0].words


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    def run(job: Job) -> JobOutcome:
        raise RunInterruptedError("interrupted")

    with pytest.raises(RunInterruptedError):
        run_missing(cells(tmp_path, a="missing"), [], lambda text: None, run)


SETTINGS = {
    "schedule.iters": 2,
    "schedule.batch_size": 2,
    "data.crop": [64, 64],
    "data.resize": [128, 64],
    "data.test_resize": [128, 64],
    "sweep.lrs": [0.1],
    "sweep.seeds": 1,
}


@pytest.fixture()
def files(tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a zoo of two files, on VOC alone; its runs stay in this process."""
    monkeypatch.setattr(reproduce, "run_missing", partial(run_missing, run=run_here))
    for seed, name in enumerate("ab"):
        torch.save(random_resnet_state("resnet18x0.25", seed=seed + 1), tmp_path / f"{name}.pth")
    zoo = [
        {"name": "first", "ckpt": "a.pth"},
        {"name": "second", "ckpt": "b.pth", "row": "VICReg", "epochs": 300},
    ]
    data = {"roots": {"voc": str(tiny_voc)}, "settings": {"voc_linear": SETTINGS}}
    (tmp_path / "zoo.yaml").write_text(json.dumps({"checkpoints": zoo}))
    (tmp_path / "data.yaml").write_text(json.dumps(data))
    words = ["reproduce", "table1", "--zoo", str(tmp_path / "zoo.yaml")]
    words += ["--data", str(tmp_path / "data.yaml"), "--out", str(tmp_path / "runs")]
    return [*words, "--profile", "ci", "--device", "cpu", "--workers", "0"]


def by_checkpoint(folder: Path) -> dict[str, Record]:
    return {record.checkpoint.name: record for record in read_records(folder)}


def test_a_table_is_reproduced_whatever_breaks_and_resumed(
    files: list[str], tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, runs = (tmp_path / "a.pth").read_bytes(), tmp_path / "runs"
    make_matrix = matrix.make_matrix

    def then_break(*arguments: object) -> list[MatrixCell]:
        made: list[MatrixCell] = make_matrix(*arguments)  # type: ignore[arg-type]
        (tmp_path / "a.pth").write_bytes(whole[:1000])
        return made

    some = [*files, "--tasks", "voc_linear"]
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "make_matrix", then_break)
        assert _guarded(some) == 1
    captured = capfd.readouterr()
    assert "1 of 2: voc_linear on first" in captured.err
    assert "2 of 2: voc_linear on second" in captured.err
    failed = captured.err[captured.err.index("last words") :]
    assert "first" in failed and "second" not in failed
    first = by_checkpoint(runs)
    assert set(first) == {"b.pth"}
    assert any("schedule.iters: 2 instead of 60" in note for note in first["b.pth"].deviations)

    # the row that the zoo names has the published number and the measured one
    best = first["b.pth"].best
    assert best is not None
    lines = [line for line in captured.out.splitlines() if line.startswith("| VICReg ")]
    assert len(lines) == 1 and f"47.8 / {best.score:.1f}" in lines[0]
    with (runs / "table1.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["column"] == "voc_linear"]
    there = {row["row"]: float(row["measured"]) for row in rows if row["measured"]}
    assert there == {"VICReg": pytest.approx(best.score)}
    assert {path.name for path in runs.glob("table1.*")} == {
        "table1.md", "table1.csv", "table1.tex", "table1.html"
    }  # fmt: skip

    (tmp_path / "a.pth").write_bytes(whole)
    assert _guarded([*some, "--dry-run", "--json"]) == 0
    plain = {one["checkpoint"]: one for one in json.loads(capfd.readouterr().out)}
    assert [one["state"] for one in plain.values()] == ["missing", "done"]
    assert plain["first"]["estimated_from"] == "1 record with these settings"
    assert plain["first"]["seconds_left"] == first["b.pth"].cost.wall_s
    assert "--set schedule.iters=2" in plain["first"]["command"]

    assert _guarded([*some, "--render", str(tmp_path / "tables"), "--format", "csv"]) == 0
    captured = capfd.readouterr()
    assert "1 of 1: voc_linear on first" in captured.err
    assert captured.out == (tmp_path / "tables" / "table1.csv").read_text()
    second = by_checkpoint(runs)
    assert set(second) == {"a.pth", "b.pth"}
    assert second["b.pth"] == first["b.pth"]


def test_a_dry_run_shows_everything_and_writes_nothing(
    files: list[str], tmp_path: Path, capfd: Captured
) -> None:
    (tmp_path / "b.pth").unlink()
    before = sorted(tmp_path.rglob("*"))
    assert _guarded([*files, "--dry-run"]) == 2  # as the run itself
    out, said = capfd.readouterr()
    assert said.index("reading 2 checkpoints\n") < said.index("planning 8 runs\n")
    assert said.splitlines()[-1].startswith("error: nothing was run: second: no file")
    assert out.count("no root for") == 2
    assert "second: no file" in out
    assert "8 runs: 2 no root, 4 refused, 2 missing; left: 2 of unknown length" in out
    assert "the protocol says: about 3 minutes on 2 CPU cores" in out
    assert "| VICReg " in out
    assert sorted(tmp_path.rglob("*")) == before


def test_records_that_cannot_be_read_do_not_hide_what_failed(
    files: list[str], tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "half.json").write_text("{")
    crash = JobOutcome(1, None, None, "it broke")
    monkeypatch.setattr(reproduce, "run_missing", partial(run_missing, run=lambda job: crash))
    assert _guarded([*files, "--tasks", "voc_linear"]) == 1
    captured = capfd.readouterr()
    assert "no record in" in captured.err
    assert captured.err.count("half.json") == 1  # though the folder is read twice
    assert captured.err[captured.err.index("last words") :].count("it broke") == 2
    assert "| VICReg " in captured.out


def test_an_interruption_is_one_line_that_says_how_to_go_on(
    files: list[str], capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(matrix, "make_matrix", interrupted)
    assert _guarded(files) == 130
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == ["error: interrupted; run the same command again to go on"]


@pytest.mark.parametrize("domains", [["segmentation"], ["detection"], []])
def test_only_the_engines_of_the_wanted_tasks_are_imported(
    domains: list[str], tiny_voc: Path
) -> None:
    names = {"segmentation": "voc", "detection": "voc_boxes"}
    folders = {names[one]: tiny_voc for one in domains} | {"imagenet": tiny_voc}
    tasks = ["voc_linear", "imagenet_linear", "voc_det_linear"]
    assert _domains(tasks, Roots(Path("data.yaml"), folders, {})) == domains


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--render", __file__], "is a file; name a folder"),
        (["--out", f"{__file__}/runs"], "is a file; name a folder"),
        (["--out", __file__], "is a file; name a folder"),
        (["--out", __file__, "--dry-run"], "is a file; name a folder"),
        (["--tasks", "voc_fcn"], "--tasks: no 'voc_fcn' in table 1"),
        (["--zoo", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["--data", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["--throughput", "nowhere"], "no folder of records at nowhere"),
    ],
)
def test_bad_options_are_one_line(
    files: list[str], change: list[str], words: str, capfd: Captured
) -> None:
    assert _guarded([*files, *change]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0]


@pytest.mark.parametrize("table", ["table11", "table 12", "tables", "0", "1.5"])
def test_other_tables_are_refused(files: list[str], table: str, capfd: Captured) -> None:
    assert _guarded([files[0], table, *files[2:]]) == 2
    assert "error: " in capfd.readouterr().err


def test_a_row_that_no_table_prints_stops_before_anything_runs(
    files: list[str], tmp_path: Path, capfd: Captured
) -> None:
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text(zoo.read_text().replace('"VICReg"', '"VICRek"'))
    assert _guarded(files) == 2
    assert "second: no printed row 'VICRek'" in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_every_missing_file_is_named_before_anything_runs(
    files: list[str], tmp_path: Path, capfd: Captured
) -> None:
    (tmp_path / "a.pth").unlink()
    (tmp_path / "b.pth").unlink()
    assert _guarded(files) == 2
    error = capfd.readouterr().err
    assert f"first: no file {tmp_path / 'a.pth'}; second: no file {tmp_path / 'b.pth'}" in error
    assert not (tmp_path / "runs").exists()
