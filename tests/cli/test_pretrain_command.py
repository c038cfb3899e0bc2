"""`pretrain` and `ls recipes` from the command line."""

import json
from pathlib import Path

import pytest
import torch

from tests.pretrain.conftest import SMALL
from tests.pretrain.conftest import pictures as pictures  # the fixture, by its name
from vicregl_bench.cli.main import _guarded


def words(pictures: Path, out: Path, *more: str) -> list[str]:
    base = ["pretrain", "--recipe", "tiny", "--data", str(pictures), "--out", str(out)]
    settings = SMALL | {"schedule.epochs": 1, "schedule.warmup_epochs": 0}
    for key, value in settings.items():
        base += ["--set", f"{key}={json.dumps(value)}"]
    return [*base, "--workers", "0", "--device", "cpu", *more]


def test_pretrain_prints_one_document(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--subset", "6", "--probe", str(pictures), "--json"]
    assert _guarded(words(pictures, tmp_path / "run", *more)) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["pictures"], result["steps"], result["status"]) == (12, 3, "finished")
    assert 0 <= result["probe_end"]["knn"] <= 100
    assert len((tmp_path / "run" / "pictures.txt").read_text().splitlines()) == 12
    card = torch.load(tmp_path / "run" / "backbone.pth", weights_only=True)["card"]
    assert card["note"].endswith(f"; pictures {result['pictures_sha256']}")
    assert "pretraining: 1/3" in printed.err
    assert _guarded(words(pictures, tmp_path / "run", *more)) == 0
    assert "finished already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (["--recipe", "tinny"], "did you mean tiny?"),
        (["--data", "/nowhere"], "no such folder"),
        (["--subset", "11"], "has only 10 pictures"),
        (["--subset", "1.5"], "pictures a class, or a share below 1"),
        (["--set", "criterion.alpha=2"], "criterion.alpha = 2"),
        (["--set", "views.large_scale=[0.5,0.1]"], "use 0 < smallest <= largest <= 1"),
        (["--set", "model.backbone=resnet51"], "unknown architecture 'resnet51'"),
        (["--device", "cuda:99"], "CUDA devices are here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    text: str,
) -> None:
    assert _guarded(words(pictures, tmp_path / "run", *change)) == 2
    printed = capsys.readouterr()
    assert text in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_ends_with_130(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vicregl_bench.engine.stop import StopFlag

    monkeypatch.setattr(StopFlag, "agreed", lambda self: True)
    assert _guarded(words(pictures, tmp_path / "run")) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_ls_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(["ls", "recipes"]) == 0
    assert "convnext_small" in capsys.readouterr().out
    assert _guarded(["ls", "recipes", "--json"]) == 0
    recipes = {r["recipe"]["name"]: r for r in json.loads(capsys.readouterr().out)}
    assert recipes["resnet50"]["schedule"]["batch_size"] == 2048
