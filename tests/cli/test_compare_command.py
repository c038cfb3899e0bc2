"""`vicregl-bench compare` as a user meets it."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.test_compare import areas, kept, ranks
from vicregl_bench.cli.main import _guarded


@pytest.fixture()
def pair(tmp_path: Path) -> list[str]:
    """Right on a quarter of 60 pictures, and on all."""
    outcomes = {"a": ranks(np.arange(60) % 4 == 0), "b": ranks(np.ones(60))}
    return [str(kept(tmp_path, name, one)) for name, one in outcomes.items()]


def test_people_read_a_verdict_and_a_table(
    pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _guarded(["compare", *pair]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "B is better by 75.0 points (95 % " in out
    assert "): real over pictures; of one seed each" in out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines()]
    assert ["A", "a.pth", "m", "resnet50", "ci", "1", "25.00"] in cells
    assert ["B", "b.pth", "m", "resnet50", "ci", "1", "100.00"] in cells
    assert ["class1", "0.0", "100.0", "+100.0 **", "100.0 to 100.0", "30"] in cells
    assert "at most 5 %: 2 of 2 classes tested, where 0.1 would be expected by chance" in out
    assert "Holm's correction for 2 tests: 2." in out


def test_one_class_is_one_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = (np.arange(60) < 3).astype(int)
    outcomes = {"a": ranks(np.arange(60) % 4 == 0, labels), "b": ranks(np.ones(60), labels)}
    paths = [str(kept(tmp_path, name, one)) for name, one in outcomes.items()]
    assert _guarded(["compare", *paths]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 class tested, where 0.05 would be expected by chance if nothing" in out
    assert "correction for 1 test: 1." in out
    assert "in fewer than 6 pictures: 1." in out


def test_what_both_deviate_in_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = "data: 10 classes instead of 1000"
    a = kept(tmp_path, "a", areas(0), deviations=[shared, "only A"])
    b = kept(tmp_path, "b", areas(1), deviations=[shared])
    assert _guarded(["compare", str(a), str(b)]) == 0
    out, err = capsys.readouterr()
    assert out.count(f"Both deviate from their protocol: {shared}.\n") == 1
    assert shared not in err and "A alone deviates from its protocol: only A" in err
    assert _guarded(["compare", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["both_deviate"] == [shared]
    assert _guarded(["compare", str(a), str(b), "--format", "csv"]) == 0
    assert f"both deviate from their protocol: {shared}" in capsys.readouterr().err


def test_names_with_pipes_stay_in_their_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {"a": ranks(np.arange(60) % 4 == 0), "b": ranks(np.ones(60))}
    paths = []
    for name, one in outcomes.items():
        path = kept(tmp_path, name, one)
        tree = json.loads(path.read_text())
        tree["checkpoint"]["name"] = f"{name}|y.pth"
        scores = tree["best"]["by_class"].values()
        tree["best"]["by_class"] = dict(zip(("x|0", "x|1"), scores, strict=True))
        path.write_text(json.dumps(tree))
        paths.append(str(path))
    assert _guarded(["compare", *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert ["A", r"a\|y.pth", "m", "resnet50", "ci", "1", "25.00"] in cells
    assert [r"x\|1", "0.0", "100.0", "+100.0 **", "100.0 to 100.0", "30"] in cells


def test_json_holds_the_numbers(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _guarded(["compare", *pair, "--json", "--metric", "mean_per_class"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["metric"] == "mean_per_class"
    assert (tree["a"]["score"], tree["b"]["score"], tree["real"]) == (25.0, 100.0, True)
    assert tree["overall"]["difference"] == 75.0
    assert tree["overall"]["b_above_a"] == 1.0
    assert tree["overall"]["p"] == 0.001  # no smaller one is known from 1,000 draws
    assert [one["class"] for one in tree["classes"]] == ["class1", "class0"]
    assert tree["with_seeds"] is None


def test_csv_has_a_row_for_all_and_one_a_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (str(kept(tmp_path, name, areas(k))) for k, name in enumerate("ab"))
    assert _guarded(["compare", a, b, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5
    assert rows[0]["class"] == "" and float(rows[0]["a"]) == pytest.approx(
        np.mean([areas(0).head(k).score for k in (0, 1)]), abs=1e-4
    )
    assert (rows[-1]["class"], rows[-1]["difference"], rows[-1]["pictures"]) == ("class3", "", "0")


def test_what_cannot_be_compared_is_one_line(
    pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([pair[0], pair[0]], "are the same file: give two records"),
        ([pair[0], "none.json"], "cannot read record none.json"),
        ([*pair, "--json", "--format", "csv"], "--json and --format csv are two forms"),
        ([*pair, "--metric", "miou"], "no 'miou' of single pictures is kept: top1, top5"),
    ):
        assert _guarded(["compare", *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert message in err


def test_other_conditions_are_warned_of_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = kept(tmp_path, "a", areas(0))
    b = kept(tmp_path, "b", areas(0), task={"profile": "paper"})
    assert _guarded(["compare", str(a), str(b)]) == 0
    out, err = capsys.readouterr()
    assert err == "warning: other profile: ci (A) and paper (B)\n"
    assert "No difference: every one of 9 pictures gives the same." in out


def test_it_starts_without_torch(pair: list[str]) -> None:
    program = (
        "import sys; from vicregl_bench.cli.main import _guarded; "
        f"code = _guarded({['compare', *pair]!r}); sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
