"""`vicregl-bench table` and `figure` as a user meets them."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.tables.test_paper_table import entry
from vicregl_bench.cli.main import _guarded
from vicregl_bench.records import write_record

Captured = pytest.CaptureFixture[str]


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A folder with a record of voc_linear by random weights, and one of another task."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for k, task in enumerate(("voc_linear", "folder_knn")):
        record = entry(name="random:resnet50", task=task, score=52.0, key=f"{k}" * 64).record
        write_record(runs, record)
    return runs


def done(capsys: Captured, *words: str) -> tuple[str, str]:
    assert _guarded([*words]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    return captured.out, captured.err


def failure(capsys: Captured, *words: str) -> str:
    assert _guarded([*words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("error: ") == 1
    return captured.err


def test_both_where_there_are_records_else_the_papers(
    folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = done(capsys, "table", "1")
    assert "table 1 (both)" in out and "– / 52.0 ± 1.0" in out and err == ""
    out, err = done(capsys, "table", "8")
    assert "table 8 (published)" in out and err == ""
    out, err = done(capsys, "table", "8", "--records", str(folder))
    assert "table 8 (published)" in out and "warning: no record belongs to table 8" in err
    (tmp_path / "empty").mkdir()
    out, err = done(capsys, "table", "1", "--records", str(tmp_path / "empty"))
    assert "table 1 (published)" in out and "warning: no record" in err
    monkeypatch.chdir(tmp_path / "empty")
    assert "table 1 (published)" in done(capsys, "table", "1")[0]


def test_a_zoo_names_rows(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    zoo = tmp_path / "zoo.yaml"
    entry_text = "checkpoints: [{name: Mine, ckpt: 'random:resnet50', row: 'VICRegL alpha=0.9'}]"
    zoo.write_text(entry_text)
    out, _ = done(capsys, "table", "1", "--records", str(folder), "--zoo", str(zoo))
    assert "| 54.0 / 52.0 ± 1.0 / −2.0 " in out and "Measured here" not in out
    zoo.write_text(entry_text.replace("0.9", "0.8"))
    error = failure(capsys, "table", "1", "--published", "--zoo", str(zoo))
    assert "zoo.yaml, Mine: no printed row 'VICRegL alpha=0.8'" in error and "α=0.9" in error


def test_formats(folder: Path, capsys: Captured) -> None:
    words = ["table", "1", "--records", str(folder)]
    rows = json.loads(done(capsys, *words, "--json")[0])
    assert len(rows) == 13 * 4
    error = failure(capsys, *words, "--json", "--format", "csv")
    assert "--json and --format csv are two forms" in error
    (mine,) = (row for row in rows if row["measured"])
    assert (mine["measured"], mine["seeds"], mine["marks"]) == (52.0, 3, [])
    assert Path(mine["record"]).is_file()
    table = list(csv.DictReader(io.StringIO(done(capsys, *words, "--format", "csv")[0])))
    assert len(table) == len(rows)
    assert (table[0]["published"], table[0]["measured"], table[0]["epochs"]) == ("67.5", "", "200")
    assert done(capsys, *words, "--format", "latex")[0].startswith(r"\begin{table}")
    assert done(capsys, *words, "--format", "html")[0].startswith("<figure")
    published = json.loads(done(capsys, *words, "--published", "--json")[0])
    assert len(published) == 48 and all(row["measured"] is None for row in published)
    measured = json.loads(done(capsys, *words, "--measured", "--json")[0])
    assert [row["measured"] for row in measured if row["column"] == "voc_linear"] == [52.0]
    assert len(measured) == 4
    assert all(row["published"] is None for row in measured)


def test_a_zoo_without_records_is_warned_of(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    zoo = tmp_path / "zoo.yaml"
    (tmp_path / "there.pth").write_bytes(b"x")
    zoo.write_text(
        "checkpoints: [{name: Mine, ckpt: 'random:resnet50'}, {name: Gone, ckpt: gone.pth},"
        " {name: There, ckpt: there.pth}]"
    )
    said = [
        f"warning: {zoo}, Gone: no record is of its weights (no file {tmp_path / 'gone.pth'})",
        f"warning: {zoo}, There: no record is of its weights",
    ]
    more = ["--records", str(folder), "--zoo", str(zoo)]
    assert done(capsys, "table", "1", *more)[1].splitlines() == said
    assert done(capsys, "leaderboard", *more)[1].splitlines() == said
    _, err = done(capsys, "page", "--out", str(tmp_path / "site"), *more)
    assert [line for line in err.splitlines() if "Gone" in line or "There" in line] == said
    _, err = done(capsys, "figure", "2", "--out", str(tmp_path / "f.svg"), *more)
    assert set(said) <= set(err.splitlines())
    assert done(capsys, "table", "1", "--published", "--zoo", str(zoo))[1] == ""


def test_a_table_that_no_task_measures_reads_no_records(folder: Path, capsys: Captured) -> None:
    (folder / "copy.json").write_bytes(next(folder.glob("*.json")).read_bytes())
    out, err = done(capsys, "table", "11", "--both", "--records", str(folder))
    assert err == "" and "Cells:" not in out and " / –" not in out
    assert "Table 11 is published only" in out
    assert "no folder nowhere" in failure(capsys, "table", "11", "--both", "--records", "nowhere")


def test_several_folders(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "more").mkdir()
    write_record(tmp_path / "more", entry(name="b.pth", key="7" * 64, score=33.0).record)
    words = ["--records", str(folder), "--records", str(tmp_path / "more")]
    out, _ = done(capsys, "table", "1", *words)
    assert "– / **52.0 ± 1.0**" in out and "– / 33.0 ± 1.0" in out


def test_what_is_left_out_is_said_beside_csv_too(tmp_path: Path, capsys: Captured) -> None:
    write_record(tmp_path, entry(version=99).record)
    write_record(tmp_path, entry(name="b.pth", key="5" * 64).record)
    _, err = done(capsys, "table", "1", "--records", str(tmp_path), "--format", "csv")
    assert "voc_linear v1 of b.pth (the column is of v99)" in err
    out, _ = done(capsys, "table", "1", "--records", str(tmp_path))
    assert "voc_linear v1 of b.pth (the column is of v99)" in out


def test_measured_alone_has_nothing_of_another_version(tmp_path: Path, capsys: Captured) -> None:
    write_record(tmp_path, entry(version=0).record)
    error = failure(capsys, "table", "1", "--measured", "--records", str(tmp_path))
    assert "another protocol version (voc_linear v0, the column is of v1)" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table"], "1 to 11, such as `vicregl-bench table 1`; `vicregl-bench leaderboard`"),
        (["table", "12"], "no table '12'"),
        (["table", "1", "--published", "--both"], "choose one of --published, --both"),
        (["table", "1", "--measured"], "nothing measured for table 1"),
        (["table", "11", "--measured"], "no task measures time and memory"),
        (["table", "1", "--records", "nowhere"], "no folder nowhere"),
        (["table", "1", "--zoo", "nowhere.yaml"], "nowhere.yaml"),
        (["table", "1", "--format", "word"], "word"),
        (["figure", "3", "--out", "f.png"], "no figure '3'"),
        (["figure", "2", "--out", "f.gif"], ".png, .svg, .pdf, not 'f.gif'"),
        (["figure", "2", "--out", "f.png", "--x", "voc_linea"], "did you mean voc_linear"),
        (["figure", "2", "--out", "f.png", "--x", "folder_linear"], "nothing to draw"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in failure(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_figure(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out, _ = done(capsys, "figure", "2", "--out", "f.svg")
    assert out == "f.svg\n"
    assert "<svg" in (tmp_path / "f.svg").read_text()
    write_record(tmp_path, entry(name="random:resnet50").record)
    out, err = done(capsys, "figure", "2", "--records", ".", "--out", "g.svg")
    assert out == "g.svg\n" and "of unknown alpha: random:resnet50" in err
