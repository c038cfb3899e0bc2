import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.made_record import changed, make_record
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record
from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.columns import column, column_titles
from vicregl_bench.tables.filters import Filter
from vicregl_bench.tables.leaderboard import (
    Leaderboard,
    Row,
    leaderboard,
    leaderboard_grid,
    measurements,
)
from vicregl_bench.tables.named import Named
from vicregl_bench.tables.rendering import render


def scored(
    score: float | None, weights: str = "w", task: str = "a", version: int = 1, **changes: Any
) -> Record:
    """A finished record of this score, by weights of this hash; None is a diverged one."""
    lost = {"best": None, "status": "diverged"}
    return make_record(
        name=f"{weights}.pth",
        task={"name": task, "version": version},
        checkpoint={"weights_sha256": weights.ljust(64, "0")},
        **(lost if score is None else {"best": {"score": score}}),
        **changes,
    )


def placed(*records: Record) -> list[Entry]:
    return [Entry(record, Path(f"{place}.json")) for place, record in enumerate(records)]


def cells(board: Leaderboard, title: str) -> list[tuple[str, int | None] | None]:
    """Rows' file and rank in a column, in their order."""
    (of,) = [one for one, name in board.titles.items() if name == title]
    found = [row.cells.get(of) for row in board.rows]
    return [None if one is None else (one.entry.path.stem, one.rank) for one in found]


def data(record: Record, **changes: Any) -> Record:
    return changed(record, data=changes)


def task(record: Record, **changes: Any) -> Record:
    return changed(record, task=changes)


def test_ties_share_the_better_rank_and_what_only_looks_equal_does_not() -> None:
    board = leaderboard(
        placed(
            scored(50.01, "v"),
            scored(50.02, "w"),
            scored(50.02, "x"),
            scored(None, "y"),
            scored(0.0, "z"),
            scored(None, "u"),
            scored(60.0, "t"),
        )
    )
    ranks = {row.checkpoint: next(iter(row.cells.values())).rank for row in board.rows}
    assert ranks == {
        "t.pth": 1, "w.pth": 2, "x.pth": 2, "v.pth": 4, "z.pth": 5, "u.pth": 6, "y.pth": 6
    }  # fmt: skip
    assert [row.checkpoint for row in board.rows] == list(ranks)


def test_a_diverged_run_has_no_score() -> None:
    board = leaderboard(placed(scored(None, "v"), scored(1.0, "w")))
    assert cells(board, "a v1 (ci)") == [("1", 1), ("0", 2)]
    assert measurements(board)["score"].tolist()[0] == 1.0
    assert math.isnan(measurements(board)["score"].tolist()[1])
    assert "diverged (2)" in render(leaderboard_grid(board), "markdown")


@pytest.mark.parametrize("seed", range(20))
def test_random_leaderboards_have_the_ranks_of_pandas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    # few different scores, so that there are ties; a quarter missing, a tenth diverged
    steps = rng.integers(0, 5, (rows, columns))
    table = pd.DataFrame(steps * 1.25 + 40.0)
    diverged = pd.DataFrame(rng.random((rows, columns)) < 0.1)
    missing = pd.DataFrame(rng.random((rows, columns)) < 0.25)
    missing.iloc[:, 0] = False
    places = [(i, j) for i in range(rows) for j in range(columns) if not missing.iloc[i, j]]
    rng.shuffle(places)
    entries = placed(
        *(
            scored(None if diverged.iloc[i, j] else 40.0 + 1.25 * int(steps[i, j]), f"{i}", f"t{j}")
            for i, j in places
        )
    )
    board = leaderboard(entries)
    direct = table.mask(diverged, -1.0).mask(missing).rank(method="min", ascending=False)
    direct = direct.dropna(axis=1, how="all")
    present = direct.notna().sum(axis=1)
    titles = list(direct.columns)
    nobody = (direct.notna().sum() < 2) | table.mask(diverged | missing)[titles].isna().all()
    direct.loc[:, nobody] = np.nan
    means = direct.mean(axis=1)
    order = pd.DataFrame({"mean": means, "missed": -present, "name": [str(i) for i in range(rows)]})
    order = order.sort_values(["mean", "missed", "name"])
    assert [row.checkpoint for row in board.rows] == [f"{i}.pth" for i in order["name"]]
    assert [one.task for one in board.titles] == [f"t{j}" for j in titles]
    for row in board.rows:
        i = int(row.checkpoint.removesuffix(".pth"))
        ranks = {int(of.task[1:]): cell.rank for of, cell in row.cells.items()}
        assert {j: rank for j, rank in ranks.items() if rank is not None} == direct.loc[
            i
        ].dropna().to_dict()
        assert row.mean_rank == (None if np.isnan(means[i]) else pytest.approx(means[i]))
    frame = measurements(board)
    assert len(frame) == len(entries) and set(frame["file"]) == {str(e.path) for e in entries}
    assert frame["score"].isna().sum() == (diverged & ~missing).to_numpy().sum()


def test_the_order_of_files_does_not_matter() -> None:
    records = [scored(s, w, t) for s, w, t in [(1, "v", "a"), (2, "w", "a"), (3, "v", "b")]]
    assert [row.checkpoint for row in leaderboard(placed(*records)).rows] == [
        row.checkpoint for row in leaderboard(placed(*reversed(records))).rows
    ]


def test_rows_of_equal_mean_rank_with_more_columns_go_first() -> None:
    board = leaderboard(
        placed(scored(9, "v", "a"), scored(9, "w", "a"), scored(9, "w", "b"), scored(9, "w", "c"))
    )
    assert [row.checkpoint for row in board.rows] == ["w.pth", "v.pth"]
    grid = leaderboard_grid(board)
    assert [row[4][0].text for row in grid.groups[0].rows] == ["3 of 3", "1 of 3"]


def test_another_version_or_other_pictures_are_another_column() -> None:
    one = scored(50.0)
    others = [
        task(one, version=2),
        task(one, profile="paper"),
        task(one, preset="moco"),
        task(one, select="holdout"),
        task(one, metric="ap"),
        data(one, fingerprint="g"),
        task(one, name="b"),
    ]
    assert len({column(record) for record in (one, *others)}) == len(others) + 1
    same = scored(40.0, "v", deviations=("x: 1 instead of 2",))
    assert column(same) == column(one)


def test_titles_are_as_short_as_they_can_be_and_unique() -> None:
    one = scored(50.0)
    many = [
        one,
        task(one, version=2),
        task(one, name="b"),
        data(task(one, name="b"), fingerprint="1a2b3c4d5", val=60),
        task(one, name="c", preset="moco"),
        task(one, name="c"),
        data(task(one, name="c"), fingerprint="1" * 20 + "2", variant="voc07"),
        task(one, name="d", select="holdout"),
        task(one, name="d", metric="ap"),
        task(one, name="d"),
        data(task(one, name="e"), fingerprint="1" * 20 + "2"),
        data(task(one, name="e"), fingerprint="1" * 20 + "3"),
        data(task(one, name="e"), fingerprint="4" * 20),
    ]
    assert list(column_titles([column(record) for record in many]).values()) == [
        "a v1 (ci)",
        "a v2 (ci)",
        "b v1 (ci), 1 val pictures",
        "b v1 (ci), 60 val pictures",
        "c v1 (ci), moco",
        "c v1 (ci), no preset, voc12",
        "c v1 (ci), no preset, voc07",
        "d v1 (ci), chosen on holdout",
        "d v1 (ci), chosen on val, AP",
        "d v1 (ci), chosen on val, mIoU",
        "e v1 (ci), 111111111111111111112",
        "e v1 (ci), 111111111111111111113",
        "e v1 (ci), 44444444444444444444",
    ]


@pytest.mark.parametrize("seed", range(10))
def test_random_titles_are_unique(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = set()
    for _ in range(60):
        record = task(
            scored(50.0),
            name=str(rng.choice(["a", "b"])),
            version=int(rng.integers(1, 3)),
            preset=[None, "moco", "no preset", ""][rng.integers(4)],
            select=str(rng.choice(["val", "holdout"])),
            metric=str(rng.choice(["miou", "mIoU"])),  # both read mIoU
        )
        digits = "".join(rng.choice(["0", "1"], 12))
        columns.add(column(data(record, fingerprint=digits, val=int(rng.integers(1, 3)))))
    titles = column_titles(columns)
    assert set(titles) == columns and len(set(titles.values())) == len(columns)


def test_the_run_with_fewest_deviations_has_the_first_row_whatever_its_score() -> None:
    board = leaderboard(
        placed(
            scored(90.0, deviations=("x: 1 instead of 2", "y: 1 instead of 2")),
            scored(80.0, deviations=("x: 1 instead of 2",)),
            scored(10.0),
            scored(20.0, task="b", deviations=("x: 1 instead of 2",)),
            scored(5.0, "v"),
        )
    )
    assert [row.mean_rank for row in board.rows] == [1.0, None, None, 2.0]
    turns = {row.turn: row for row in board.rows if row.checkpoint != "v.pth"}
    assert sorted(turns) == [0, 1, 2]
    assert [cell.entry.path.stem for cell in turns[0].cells.values()] == ["2", "3"]
    assert [cell.entry.path.stem for cell in turns[1].cells.values()] == ["1"]
    assert [cell.entry.path.stem for cell in turns[2].cells.values()] == ["0"]
    names = ["w.pth", "w.pth, run 2", "w.pth, run 3", "v.pth"]
    assert [row.checkpoint for row in board.rows] == names


def test_a_further_run_competes_with_nobody() -> None:
    entries = placed(
        scored(97.0, "v"),
        scored(97.25, "v", deviations=("data.views: five_crops instead of one",)),
        scored(96.0, "w"),
        scored(97.1, "w", deviations=("x: 1 instead of 2",)),
        scored(96.5, "u"),
    )
    board = leaderboard(entries)
    assert cells(board, "a v1 (ci)") == [("0", 1), ("1", None), ("4", 2), ("2", 3), ("3", None)]
    names = [row.checkpoint for row in board.rows]
    assert names == ["v.pth", "v.pth, run 2", "u.pth", "w.pth", "w.pth, run 2"]
    text = render(leaderboard_grid(board), "markdown")
    assert "**97.0 ± 1.0 (1)** " in text and "| 97.2 ± 1.0 (–) [1]" in text
    assert text.count("**") == 4  # caption and one cell
    assert "(–) is not ranked" in text
    assert "(–)" not in render(leaderboard_grid(leaderboard(entries[::2])), "markdown")
    by_column = leaderboard(entries, sort="a")
    assert [row.turn for row in by_column.rows] == [0, 0, 0, 1, 1]
    rows = measurements(board)
    assert rows["rank"].fillna(0).tolist() == [1, 0, 2, 3, 0]
    assert '"rank":null' in rows.to_json(orient="records")
    assert rows.to_csv().count(",1,1.0,") == 1


def test_what_is_alone_in_its_column_is_not_ranked() -> None:
    alone = leaderboard(placed(scored(50.0, "v"), scored(60.0, "v", deviations=("x",))))
    assert "| 50.0 ± 1.0 (–) " in render(leaderboard_grid(alone), "markdown")
    two = leaderboard(placed(scored(50.0, "v"), scored(None, "w")))
    text = render(leaderboard_grid(two), "markdown")
    assert "**50.0 ± 1.0 (1)**" in text and "**diverged" not in text
    both = render(
        leaderboard_grid(leaderboard(placed(scored(None), scored(None, "v")))), "markdown"
    )
    assert both.count("diverged (–)") == 2


def test_a_column_without_competition_does_not_help_the_mean_rank() -> None:
    entries = placed(
        scored(30.0, "u", "a"),
        scored(20.0, "v", "a"),
        scored(10.0, "w", "a"),
        *(scored(5.0, "w", alone) for alone in ("b", "c")),
        *(scored(None, diverged, "d") for diverged in ("x", "y")),
    )
    board = leaderboard(entries)
    means = {row.checkpoint: row.mean_rank for row in board.rows}
    assert means == {"u.pth": 1.0, "v.pth": 2.0, "w.pth": 3.0, "x.pth": None, "y.pth": None}
    assert list(means) == ["u.pth", "v.pth", "w.pth", "x.pth", "y.pth"]
    grid = leaderboard_grid(board)
    assert [row[3][0].text for row in grid.groups[0].rows] == ["1.00", "2.00", "3.00", "–", "–"]
    assert any("nothing else competes" in remark for remark in grid.remarks)


def test_where_the_first_run_is_disputed_the_first_undisputed_one_competes() -> None:
    more = ("x: 1 instead of 2",)
    records = [scored(50.0), scored(51.0), scored(40.0, deviations=more), scored(30.0, "v")]
    later = scored(99.0, deviations=(*more, "y: 1 instead of 2"))
    entries = placed(*records, later)
    marked = [replace(one, marks=("they contradict",)) for one in entries[:2]]
    board = leaderboard([*marked, *entries[2:]])
    title = "a v1 (ci)"
    ranks = [("0", None), ("1", None), ("2", 1), ("4", None), ("3", 2)]
    assert cells(board, title) == ranks
    assert [row.mean_rank for row in board.rows] == [None, None, 1.0, None, 2.0]
    text = render(leaderboard_grid(board), "markdown")
    assert text.count("**40.0 ± 1.0 (1)**") == 1 and text.count("**") == 4


def test_of_runs_that_deviate_alike_an_undisputed_one_stands_first() -> None:
    entries = placed(scored(50.0), scored(60.0, created="2020-01-01T00:00:00+00:00"))
    board = leaderboard([replace(entries[0], marks=("they contradict",)), entries[1]])
    assert cells(board, "a v1 (ci)") == [("1", None), ("0", None)]


def test_equal_explanations_share_a_number() -> None:
    few, more = ("x: 1 instead of 2",), ("x: 1 instead of 2", "y: 3 instead of 4")
    board = leaderboard(
        placed(
            scored(50.0, "u", deviations=more),
            scored(40.0, "v", deviations=few),
            scored(30.0, "w", deviations=more),
            scored(20.0, "x"),
        )
    )
    notes = [next(iter(row.cells.values())).notes for row in board.rows]
    assert notes == [(1,), (2,), (1,), ()]
    assert board.notes == ("x: 1 instead of 2; y: 3 instead of 4", "x: 1 instead of 2")


def test_contradictions_are_both_shown_and_marked() -> None:
    entries = placed(scored(50.0), scored(51.0, deviations=()))
    marked = [Entry(entry.record, entry.path, ("they contradict",)) for entry in entries]
    board = leaderboard(marked)
    assert {cell for cell in cells(board, "a v1 (ci)") if cell} == {("0", None), ("1", None)}
    third = leaderboard([*marked, Entry(scored(1.0, "v"), Path("2.json"))])
    assert all(cell is None or cell[1] is None for cell in cells(third, "a v1 (ci)"))
    assert board.notes == ("they contradict",)
    assert all(cell.notes == (1,) for row in board.rows for cell in row.cells.values())


def test_a_further_run_that_deviates_alike_is_told_from_the_first() -> None:
    old = scored(50.0, created="2025-01-01T00:00:00+00:00")
    board = leaderboard(placed(old, scored(40.0)))
    first, further = sorted(board.rows, key=lambda row: row.turn)
    assert [cell.notes for cell in first.cells.values()] == [()]
    assert [cell.notes for cell in further.cells.values()] == [(1,)]
    assert "a further run of these weights" in board.notes[0] and "0.json" in board.notes[0]


def test_interrupted_runs_are_left_out_and_counted() -> None:
    half = make_record(status="interrupted", best=None)
    board = leaderboard(placed(half, scored(50.0), half))
    assert (len(board.rows), board.interrupted) == (1, 2)
    with pytest.raises(ConfigError, match="no finished record to show: 1 interrupted"):
        leaderboard(placed(half))
    with pytest.raises(ConfigError, match="`vicregl-bench run` makes one"):
        leaderboard([])


def test_equal_names_of_other_weights_are_told_apart() -> None:
    board = leaderboard(placed(scored(50.0, "v"), scored(40.0, "w"), scored(30.0, "x")))

    def naming(record: Record) -> Named | None:
        name = record.checkpoint.name
        return None if name == "x.pth" else Named("ours")

    assert [row.checkpoint for row in board.rows] == ["v.pth", "w.pth", "x.pth"]
    entries = [cell.entry for row in board.rows for cell in row.cells.values()]
    names = [row.checkpoint for row in leaderboard(entries, naming=naming).rows]
    assert names == ["ours (v0000000)", "ours (w0000000)", "x.pth"]


def test_the_same_weights_in_another_architecture_are_another_row() -> None:
    one = scored(50.0)
    board = leaderboard(placed(one, changed(one, checkpoint={"arch": "resnet50"})))
    assert [(row.checkpoint, row.backbone) for row in board.rows] == [
        ("w.pth", "resnet18"),
        ("w.pth", "resnet50"),
    ]


def test_the_same_weights_by_another_method_are_another_row() -> None:
    one = scored(50.0)
    elsewhere = scored(40.0, task="b")
    board = leaderboard(placed(one, changed(one, checkpoint={"method": "n"}), elsewhere))
    rows = {row.method: {of.task for of in row.cells} for row in board.rows}
    assert rows == {"m": {"a", "b"}, "n": {"a"}}
    assert {row.turn for row in board.rows} == {0} and board.notes == ()


def sorted_by(board: list[Entry], sort: str) -> list[str]:
    return [row.checkpoint[0] for row in leaderboard(board, sort=sort).rows]


def test_sorting() -> None:
    entries = placed(
        scored(50.0, "u", "a"),
        scored(40.0, "v", "a"),
        scored(10.0, "u", "b"),
        scored(20.0, "v", "b"),
        scored(99.0, "w", "c"),
        scored(98.0, "x", "c"),
        scored(97.0, "x", "c", version=2),
    )
    assert sorted_by(entries, "mean rank") == ["w", "u", "v", "x"]
    assert sorted_by(entries, "a") == ["u", "v", "w", "x"]
    assert sorted_by(entries, "b-v1") == ["v", "u", "w", "x"]
    assert sorted_by(entries, "C v2 (CI)") == ["x", "w", "u", "v"]
    assert sorted_by(entries, "checkpoint") == ["u", "v", "w", "x"]
    with pytest.raises(ConfigError, match=r"several columns .* c v1 \(ci\); c v2 \(ci\)"):
        leaderboard(entries, sort="c")
    with pytest.raises(ConfigError, match="no column 'mean rnk' to sort by; near it: mean rank"):
        leaderboard(entries, sort="mean rnk")


def test_filters() -> None:
    one, two = scored(50.0, task="voc_linear"), task(scored(40.0, task="voc_fcn"), version=2)
    entries = placed(one, two)

    def kept(**names: tuple[str, ...]) -> list[str]:
        return [entry.path.stem for entry in Filter(**names).keep(entries)]

    assert kept() == ["0", "1"]
    assert kept(tasks=("VOC_fcn",)) == ["1"]
    assert kept(tasks=("voc_fcn", "voc_linear")) == ["0", "1"]
    assert kept(protocols=("voc_fcn-v2",), methods=("m",), backbones=("resnet18",)) == ["1"]
    assert kept(profiles=("ci",)) == ["0", "1"]
    with pytest.raises(ConfigError, match="no record of task 'voc_liner'; near it: voc_linear"):
        kept(tasks=("voc_liner",))
    with pytest.raises(ConfigError, match="no record of profile 'q'; there are: ci"):
        kept(profiles=("q",))
    with pytest.raises(ConfigError, match="protocol voc_fcn-v2 at once"):
        kept(tasks=("voc_linear",), protocols=("voc_fcn-v2",))


def test_measurements_are_numbers_and_say_where_they_are_from() -> None:
    board = leaderboard(placed(scored(50.0, deviations=("x: 1 instead of 2",)), scored(60.0, "v")))
    rows = measurements(board)
    assert rows["rank"].tolist() == [1, 2]
    row = rows.iloc[1]
    assert (row["score"], row["std"], row["low"], row["seeds"]) == (50.0, 1.0, 45.0, 3)
    assert (row["deviations"], row["file"]) == ("x: 1 instead of 2", "0.json")
    assert (row["key"], row["column"], row["mean_rank"]) == ("k" * 64, "a v1 (ci)", 2.0)


def test_rendered_tables_hold_score_spread_rank_and_marks() -> None:
    board = leaderboard(
        placed(
            scored(50.0, "a_b|c", deviations=("x_y: 1",)),
            scored(40.0, "<b>", "z"),
            scored(30.0, "d", "z"),
        )
    )
    grid = leaderboard_grid(board)
    markdown = render(grid, "markdown")
    assert r"| a_b\|c.pth" in markdown and "| 50.0 ± 1.0 (–) [1]" in markdown
    assert "[1] x_y: 1" in markdown
    line = next(line for line in markdown.splitlines() if "<b>" in line)
    assert [word.strip() for word in line.split("|")[4:8]] == [
        "1.00",
        "1 of 2",
        "–",
        "**40.0 ± 1.0 (1)**",
    ]
    latex = render(grid, "latex")
    assert r"a\_b" in latex and r"\toprule" in latex and r"$\pm$" in latex
    html = render(grid, "html")
    assert "&lt;b&gt;.pth" in html and "<b>" not in html


def test_a_row_is_read_from_its_main_run() -> None:
    row: Row = leaderboard(placed(scored(50.0))).rows[0]
    assert (row.method, row.backbone, row.turn, row.mean_rank) == ("m", "resnet18", 0, None)
