"""The command line as a user meets it: exit codes, clear lines, and nothing else on stdout."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vicregl_bench.backbones.resnet import random_resnet_state
from vicregl_bench.cli.main import _guarded
from vicregl_bench.records import read_record

QUICK = [
    "--profile", "ci", "--workers", "0", "--seeds", "1", "--lrs", "0.1,0.01", "--device", "cpu",
    "--set", "schedule.iters=3", "--set", "schedule.batch_size=2", "--set", "data.crop=64,64",
    "--set", "data.resize=256,64", "--set", "data.test_resize=256,64",
]  # fmt: skip
Captured = pytest.CaptureFixture[str]


def run_arguments(root: Path, out: Path, *more: str, ckpt: str = "random:resnet18") -> list[str]:
    words = ["run", "--ckpt", ckpt, "--task", "voc_linear", "--data-root", str(root)]
    return [*words, "--out", str(out), *QUICK, *more]


@pytest.fixture(scope="module")
def finished(tiny_voc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one record."""
    out = tmp_path_factory.mktemp("runs")
    assert _guarded(run_arguments(tiny_voc, out)) == 0
    return out


def record_file(folder: Path) -> Path:
    return next(folder.glob("*.json"))


def failure(capsys: Captured, arguments: list[str]) -> str:
    """Run bad input: exit code 2, one clear line, no traceback, nothing on stdout."""
    assert _guarded(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return captured.err


def test_json_is_the_record_and_alone_on_stdout(tiny_voc: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vicregl_bench", *run_arguments(tiny_voc, tmp_path, "--json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(record_file(tmp_path).read_text())
    assert "training: 3/3" in done.stderr
    assert "left" in done.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert "there already" in again.stderr


def test_pictures_are_written(tiny_voc: Path, tmp_path: Path) -> None:
    assert _guarded(run_arguments(tiny_voc, tmp_path, "--pictures", "2")) == 0
    for kind in ("curve", "predictions"):
        with Image.open(next(tmp_path.glob(f"*.{kind}.png"))) as picture:
            assert min(picture.size) > 200


def test_ls_show_and_table(finished: Path, capsys: Captured) -> None:
    best = read_record(record_file(finished)).best
    assert best is not None
    assert _guarded(["ls", "tasks"]) == 0
    assert "voc_linear_released" in capsys.readouterr().out
    assert _guarded(["ls", "records", "--records", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["score"] == best.score
    assert _guarded(["show", str(record_file(finished))]) == 0
    shown = capsys.readouterr().out
    assert f"best mIoU {best.score:.2f}" in shown
    assert "schedule.iters: 3 instead of 60" in shown
    assert _guarded(["table", "1", "--records", str(finished)]) == 0
    text = capsys.readouterr().out
    assert f" – / {best.score:.1f} [" in text  # one seed has no spread
    assert "random:resnet18" in text and "schedule.iters: 3 instead of 60" in text
    assert _guarded(["leaderboard", "--records", str(finished), "--format", "latex"]) == 0
    assert r"voc\_linear" in capsys.readouterr().out
    assert _guarded(["leaderboard", "--records", str(finished), "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 and str(best.score) in rows[1].split(",")
    assert _guarded(["leaderboard", "--records", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["score"] == best.score


@pytest.mark.parametrize("words", [["ls", "records"], ["leaderboard"]])
def test_a_damaged_record_is_left_out_and_named(
    words: list[str], finished: Path, tmp_path: Path, capsys: Captured
) -> None:
    whole = record_file(finished)
    shutil.copy(whole, tmp_path / whole.name)
    (tmp_path / "half.json").write_text(whole.read_text()[:400])
    assert _guarded([*words, "--records", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert [row["task"] for row in json.loads(captured.out)] == ["voc_linear"]
    assert "left out: record" in captured.err and "half.json is damaged" in captured.err


def test_ls_settings_are_those_of_set(capsys: Captured) -> None:
    assert _guarded(["ls", "settings", "voc_linear", "--profile", "ci", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["schedule.iters"], values["schedule.optimizer.type"]) == (60, "SGD")
    arch = ["--arch", "convnext_tiny"]
    assert _guarded(["ls", "settings", "voc_linear", *arch, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule.optimizer.type"] == "AdamW"
    assert _guarded(["ls", "settings", "voc_linear"]) == 0
    assert "test.flip" in capsys.readouterr().out  # what it leaves open
    assert "did you mean voc_linear" in failure(capsys, ["ls", "settings", "voc_linea"])
    assert "no preset 'x'" in failure(capsys, ["ls", "settings", "voc_linear", "--preset", "x"])


@pytest.mark.parametrize("option", ["--lrs", "--seeds"])
def test_tasks_without_rates_or_seeds(option: str, tmp_path: Path, capsys: Captured) -> None:
    words = ["run", "--ckpt", "random:resnet18", "--task", "folder_knn", "--data-root", "x"]
    said = failure(capsys, [*words, "--out", str(tmp_path), option, "1"])
    assert f"{option}: folder_knn has no" in said and "ls settings folder_knn" in said


def test_inspect(tmp_path: Path, capsys: Captured) -> None:
    state = random_resnet_state("resnet34", 0)
    full = {f"module.backbone.{k}": v for k, v in state.items()}
    full |= {
        f"module.{part}.0.weight": torch.zeros(2, 2)
        for part in ("projector", "maps_projector", "classifier")
    }
    torch.save({"model": full, "epoch": 3}, tmp_path / "full.pth")
    assert _guarded(["inspect", "--ckpt", str(tmp_path / "full.pth"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["method"], report["arch"]) == ("vicregl", "resnet34")
    assert report["coverage"]["complete"] is True
    assert report["coverage"]["prefix"] == "module.backbone."
    del full["module.backbone.layer3.2.bn1.bias"]
    torch.save({"model": full}, tmp_path / "part.pth")
    assert _guarded(["inspect", "--ckpt", str(tmp_path / "part.pth")]) == 2
    captured = capsys.readouterr()
    assert "contents" in captured.out
    assert "layer3.2.bn1.bias" in captured.err


def test_data_make_and_check(tmp_path: Path, capsys: Captured) -> None:
    made = ["data", "make", "voc", "--out", str(tmp_path / "d"), "--train", "3", "--val", "2"]
    assert _guarded([*made, "--json"]) == 0
    root = json.loads(capsys.readouterr().out)["data_root"]
    check = ["data", "check", "voc_linear", "--data-root", root]
    assert _guarded([*check, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["train"], report["val"]) == (True, 3, 2)
    mask = next(Path(root, "VOC2012/SegmentationClass").glob("*.png"))
    Image.open(mask).convert("RGB").save(mask)
    assert _guarded(check) == 1
    out = capsys.readouterr().out
    assert mask.name in out and "RGB" in out


class Payload:
    """Writes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_bad_checkpoints(tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    def complain(ckpt: str, *more: str) -> str:
        out = tmp_path / "out"
        message = failure(capsys, run_arguments(tiny_voc, out, *more, ckpt=ckpt))
        assert not list(out.glob("*.json"))
        return message

    assert "nowhere.pth" in complain(str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    assert "text.pth" in complain(str(tmp_path / "text.pth"))
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(3, 3).state_dict(), other)
    assert "other.pth" in complain(str(other))
    small = tmp_path / "small.pth"
    torch.save(random_resnet_state("resnet18", 0), small)
    assert "resnet50" in complain(str(small), "--arch", "resnet50")
    assert "ls architectures" in complain(str(small), "--arch", "resnet7")
    hostile = tmp_path / "hostile.pth"
    torch.save({"state_dict": {}, "x": Payload(tmp_path / "written")}, hostile)
    message = complain(str(hostile))
    assert "mkdir" in message and "--trust-pickle" in message
    assert not (tmp_path / "written").exists()
    with (tmp_path / "plain.pth").open("wb") as stream:
        pickle.dump(Payload(tmp_path / "written"), stream)
    complain(str(tmp_path / "plain.pth"))
    assert not (tmp_path / "written").exists()
    assert "resnet18" in complain("random:resnet7")


def test_bad_data(tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    message = failure(capsys, run_arguments(tmp_path / "none", out))
    assert "JPEGImages" in message and "none" in message

    def damaged(change: Any) -> str:
        root = tmp_path / "voc"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(tiny_voc, root)
        change(root / "VOC2012")
        message = failure(capsys, run_arguments(root, out))
        assert not list(out.glob("*.json"))
        return message

    def first(root: Path, folder: str) -> Path:
        return sorted((root / folder).iterdir())[0]

    def truncate(root: Path) -> None:
        path = first(root, "JPEGImages")
        path.write_bytes(path.read_bytes()[:900])

    def high_label(root: Path) -> None:
        path = first(root, "SegmentationClass")
        mask = Image.open(path)
        mask.putpixel((3, 3), 77)
        mask.save(path)

    assert ".jpg" in damaged(lambda root: first(root, "JPEGImages").unlink())
    assert ".png" in damaged(lambda root: first(root, "SegmentationClass").unlink())
    assert ".jpg" in damaged(truncate)
    assert "77" in damaged(high_label)
    assert "RGB" in damaged(
        lambda root: Image.new("RGB", (160, 120)).save(first(root, "SegmentationClass"))
    )
    assert "val" in damaged(lambda root: (root / "ImageSets/Segmentation/val.txt").write_text("\n"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "schedule.itrs=3"], "schedule.iters"),
        (["--set", "schedule.iters"], "key=value"),
        (["--lrs", "fast"], "--lrs"),
        (["--lrs", "-1"], "sweep.lrs"),
        (["--seeds", "0"], "sweep.seeds"),
        (["--device", "abacus"], "abacus"),
        (["--task", "voc_quadratic"], "voc_quadratic"),
    ],
)
def test_impossible_options(
    more: list[str], message: str, tiny_voc: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert message in failure(capsys, run_arguments(tiny_voc, tmp_path, *more))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    message = failure(capsys, run_arguments(tiny_voc, tmp_path, "--device", "cuda"))
    assert "--device cpu" in message


def test_damaged_records(finished: Path, tmp_path: Path, capsys: Captured) -> None:
    whole = record_file(finished)
    half = tmp_path / "half.json"
    half.write_text(whole.read_text()[:500])
    for command in (["show", str(half)], ["table", "1", "--records", str(tmp_path)]):
        assert "half-written" in failure(capsys, command)
    half.write_text('{"schema_version": 99}')
    assert "schema_version 99" in failure(capsys, ["show", str(half)])
    assert "no folder nowhere" in failure(capsys, ["table", "1", "--records", "nowhere"])
    assert "nowhere.json" in failure(capsys, ["show", "nowhere.json"])
    assert half.exists()


def test_an_unwritable_out(tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "file" in failure(capsys, run_arguments(tiny_voc, tmp_path / "file" / "runs"))


def test_all_heads_diverged_is_exit_code_1(
    tiny_voc: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert _guarded(run_arguments(tiny_voc, tmp_path, "--lrs", "1e30")) == 1
    assert "every head diverged" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_a_record_and_a_second_run_resumes(
    number: signal.Signals, tiny_voc: Path, tmp_path: Path
) -> None:
    arguments = run_arguments(tiny_voc, tmp_path, "--set", "schedule.iters=150", "--workers", "1")
    command = [sys.executable, "-m", "vicregl_bench", *arguments]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("training: 1/150"):
            os.killpg(running.pid, number)  # a terminal or scheduler signals workers too
            break
    _, rest = running.communicate(timeout=240)
    assert running.returncode == 130, rest
    assert "run the same command again to resume" in rest
    assert "Traceback" not in rest
    kept = read_record(record_file(tmp_path))
    assert kept.status == "interrupted"
    assert 0 < kept.progress.iterations < 150
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "training: 1/150" not in again.stderr
    assert read_record(record_file(tmp_path)).status == "complete"


@pytest.mark.parametrize("words", [["--nonsense"], ["run"], ["run", "--seeds", "x"], ["lss"]])
def test_usage_errors_are_one_line(words: list[str], capsys: Captured) -> None:
    assert len(failure(capsys, words).splitlines()) == 1
