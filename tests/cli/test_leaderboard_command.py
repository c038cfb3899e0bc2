import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from tests.made_record import make_record
from vicregl_bench.cli.main import _guarded
from vicregl_bench.records import write_record

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Two folders: three runs, one of them in both, and an interrupted one."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        write_record(folder, make_record())
    deviating = make_record(key="l" * 64, task="voc_fcn", deviations=("x: 1 instead of 2",))
    write_record(here, deviating)
    write_record(there, make_record(key="m" * 64, task={"version": 2}))
    half = make_record(key="n" * 64, task="voc_fcn", status="interrupted", best=None)
    write_record(there, half)
    return ["leaderboard", "--records", str(here), "--records", str(there)]


def failure(capsys: Captured, arguments: list[str]) -> str:
    """Run bad input: exit code 2, one clear line, nothing on stdout."""
    assert _guarded(arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert captured.out == "" and "Traceback" not in captured.err and len(lines) == 1
    return lines[0]


def test_markdown_has_a_row_a_checkpoint_and_says_what_is_left_out(
    folders: list[str], capsys: Captured
) -> None:
    assert _guarded(folders) == 0
    captured = capsys.readouterr()
    rows = [line for line in captured.out.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert [name.strip() for name in rows[0].split("|")[6:9]] == [
        "voc_fcn v1 (ci)",
        "voc_linear v1 (ci)",
        "voc_linear v2 (ci)",
    ]
    assert "[1] x: 1 instead of 2" in captured.out
    assert "1 record is left out" in captured.err
    assert "1 interrupted run is left out" in captured.err


def test_without_folders_it_reads_runs(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no folder of records at runs" in failure(capsys, ["leaderboard"])
    write_record(tmp_path / "runs", make_record())
    assert _guarded(["leaderboard"]) == 0
    assert "voc_linear v1 (ci)" in capsys.readouterr().out


def test_csv_and_json_are_plain_numbers_a_record(folders: list[str], capsys: Captured) -> None:
    assert _guarded([*folders, "--format", "csv"]) == 0
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert frame["score"].tolist() == [50.0] * 3 and frame["rank"].isna().all()  # each is alone
    assert all(Path(file).is_file() for file in frame["file"])
    assert _guarded([*folders, "--json", "--task", "voc_linear", "--sort", "voc_linear-v2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["task"], row["version"]) for row in rows] == [("voc_linear", 1), ("voc_linear", 2)]
    assert [row["key"][0] for row in rows] == ["k", "m"]


class Tags(HTMLParser):
    """The tags that are open; every end closes the last of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_latex_and_html_are_well_formed(folders: list[str], capsys: Captured) -> None:
    assert _guarded([*folders, "--format", "latex"]) == 0
    latex = capsys.readouterr().out
    assert latex.count("{") == latex.count("}") and r"voc\_linear v2 (ci)" in latex
    assert _guarded([*folders, "--format", "html"]) == 0
    tags = Tags()
    tags.feed(capsys.readouterr().out)
    tags.close()
    assert tags.open == []


def test_a_zoo_names_the_checkpoints(tmp_path: Path, capsys: Captured) -> None:
    write_record(tmp_path, make_record(name="random:resnet18"))
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text("checkpoints: [{name: by chance, ckpt: 'random:resnet18'}]")
    words = ["leaderboard", "--records", str(tmp_path), "--zoo", str(zoo), "--format", "csv"]
    assert _guarded(words) == 0
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["checkpoint"].tolist() == ["by chance"]
    zoo.write_text("checkpoints: []")
    assert "zoo.yaml" in failure(capsys, words)


def test_files_that_python_cannot_parse_are_left_out(
    folders: list[str], tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "here" / "deep.json").write_text("[" * 100_000)
    (tmp_path / "here" / "long.json").write_text("9" * 5_000)
    assert _guarded(folders) == 0
    captured = capsys.readouterr()
    assert captured.err.count("is damaged or half-written; move it away") == 2
    assert "| a.pth" in captured.out


def test_bad_input_is_one_clear_line(folders: list[str], tmp_path: Path, capsys: Captured) -> None:
    assert "near it: voc_linear" in failure(capsys, [*folders, "--task", "voc_liner"])
    assert "near it: voc_linear-v2" in failure(capsys, [*folders, "--protocol", "voc_linear-v3"])
    assert "at once" in failure(
        capsys, [*folders, "--task", "voc_fcn", "--protocol", "voc_linear-v2"]
    )
    assert "several columns" in failure(capsys, [*folders, "--sort", "voc_linear"])
    assert "--method takes names" in failure(capsys, [*folders, "--method", ","])
    assert "no folder of records" in failure(capsys, ["leaderboard", "--records", "nowhere"])
    (tmp_path / "empty").mkdir()
    empty = ["leaderboard", "--records", str(tmp_path / "empty")]
    assert "`vicregl-bench run" in failure(capsys, empty)
    error = failure(capsys, [*folders, "--json", "--format", "latex"])
    assert "--json and --format latex" in error
