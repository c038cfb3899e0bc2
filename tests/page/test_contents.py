import json
import math
from dataclasses import replace

import pytest

from tests.made_record import changed
from tests.page.made import RATES, made_entry
from vicregl_bench.errors import ConfigError
from vicregl_bench.page import page_contents
from vicregl_bench.tables.named import Named
from vicregl_bench.tables.tradeoff import tradeoff


def test_a_row_a_checkpoint_a_column_a_protocol_and_the_run_behind_each_cell() -> None:
    entries = [
        made_entry(1, weights="a" * 64, name="a.pth", score=40.0),
        made_entry(2, weights="b" * 64, name="b.pth", score=60.0),
        made_entry(3, weights="a" * 64, name="a.pth", task="folder_linear", score=70.0),
    ]
    contents = page_contents(entries)
    titles = [column["title"] for column in contents.columns]
    assert sorted(titles) == ["folder_linear v1 (ci)", "voc_linear v1 (ci)"]
    cells = {
        (row["checkpoint"], titles[column]): (cell["run"], cell["rank"])
        for row in contents.rows
        for column, cell in row["cells"].items()
    }
    assert cells == {
        ("a.pth", "voc_linear v1 (ci)"): (0, 2),
        ("b.pth", "voc_linear v1 (ci)"): (1, 1),
        ("a.pth", "folder_linear v1 (ci)"): (2, None),
    }
    assert [run["score"] for run in contents.runs] == [40.0, 60.0, 70.0]
    dense = {column["task"]: column["dense"] for column in contents.columns}
    assert dense == {"voc_linear": True, "folder_linear": False}


def test_what_has_no_score_has_none_and_interrupted_runs_are_in_no_row() -> None:
    entries = [
        made_entry(1, score=None, status="diverged"),
        made_entry(2, status="interrupted"),
        made_entry(3),
    ]
    contents = page_contents(entries)
    assert [run["score"] for run in contents.runs] == [None, None, 50.0]
    placed = {cell["run"] for row in contents.rows for cell in row["cells"].values()}
    assert placed == {0, 2}
    with pytest.raises(ConfigError, match="no finished record"):
        page_contents(entries[1:2])


def test_no_number_is_infinite_or_nan() -> None:
    entry = made_entry(1)
    wild = changed(entry.record, checkpoint={"card": {"alpha": math.nan, "epochs": math.inf}})
    contents = page_contents([replace(entry, record=wild)])
    assert contents.runs[0]["alpha"] is contents.rows[0]["alpha"] is None
    json.loads(contents.details[0], parse_constant=pytest.fail)


def test_alpha_is_the_cards_unless_it_is_named_and_no_truth_value() -> None:
    entries = [made_entry(1, alpha=0.75), made_entry(2, alpha=0.9), made_entry(3)]
    assert [run["alpha"] for run in page_contents(entries).runs] == [0.75, 0.9, None]

    def naming(record: object) -> Named | None:
        return Named("mine", alpha=0.5) if record is entries[0].record else None

    contents = page_contents(entries, naming)
    assert [run["alpha"] for run in contents.runs] == [0.5, 0.9, None]
    assert contents.runs[0]["checkpoint"] == "mine"
    card = {"alpha": True}
    odd = entries[0].record.checkpoint.model_copy(update={"card": card})
    record = entries[0].record.model_copy(update={"checkpoint": odd})
    assert page_contents([replace(entries[0], record=record)]).runs[0]["alpha"] is None


def test_vicreg_is_alpha_1_as_in_figure_2() -> None:
    entry = made_entry(1)
    card = {"title": "VICReg"}
    checkpoint = entry.record.checkpoint.model_copy(update={"card": card})
    entry = replace(entry, record=entry.record.model_copy(update={"checkpoint": checkpoint}))
    contents = page_contents([entry])
    assert contents.runs[0]["alpha"] == contents.rows[0]["alpha"] == 1.0


def test_one_file_read_by_two_methods_is_two_rows_of_their_own_alpha() -> None:
    entries = [
        made_entry(1, weights="a" * 64, method="vicregl", alpha=0.75),
        made_entry(2, weights="a" * 64, method="vicreg", alpha=1.0, task="folder_linear"),
    ]
    rows = {row["method"]: row for row in page_contents(entries).rows}
    assert {method: row["alpha"] for method, row in rows.items()} == {"vicregl": 0.75, "vicreg": 1}
    assert {method: len(row["cells"]) for method, row in rows.items()} == {
        "vicregl": 1,
        "vicreg": 1,
    }


def test_interrupted_runs_have_their_name_and_why_no_run_is_like_the_papers_is_said() -> None:
    entry = made_entry(1, deviations=("x: 1 instead of 2",))
    half = made_entry(2, status="interrupted")
    runs = page_contents([entry, half], lambda record: Named(f"ours {record.status}")).runs
    assert [run["checkpoint"] for run in runs] == ["ours complete", "ours interrupted"]
    assert runs[0]["unlike"] == [
        "profile ci, which is no protocol of the paper",
        "deviates from voc_linear: x: 1 instead of 2",
    ]


def test_the_marks_of_an_entry_and_of_the_leaderboard_are_the_runs() -> None:
    newest, further = made_entry(5, weights="a"), made_entry(1, weights="a")
    other = replace(made_entry(2), marks=("contradicted",))
    marks = [run["marks"] for run in page_contents([newest, further, other]).runs]
    assert marks[0] == [] and marks[2] == ["contradicted"]
    assert marks[1][0].startswith("a further run of these weights")


def test_details_are_the_whole_record_and_its_curve() -> None:
    entry = made_entry(1, score=50.0)
    details = json.loads(page_contents([entry]).details[0])
    assert details["record"] == entry.record.model_dump(mode="json")
    assert [point["lr"] for point in details["curve"]] == [*RATES]
    assert [point["score"] for point in details["curve"]] == [50.0, 49.0, 48.0]
    assert [point["std"] for point in details["curve"]] == [0.5] * 3
    assert [point["best"] for point in details["curve"]] == [True, False, False]


def test_a_curve_has_a_point_for_each_option_and_counts_what_diverged() -> None:
    record = made_entry(1).record
    results = [
        one.model_copy(update={"options": {"warmup": warmup}, "score": score})
        for one in record.results
        for warmup, score in ((1, None if one.seed else one.score), (2, one.score))
    ]
    lost = [results[-1].model_copy(update={"lr": None, "score": None, "options": {}})]
    record = record.model_copy(update={"results": tuple(results[::-1] + lost)})
    entry = replace(made_entry(1), record=record)
    curve = json.loads(page_contents([entry]).details[0])["curve"]
    names = ("lr", "options", "score", "std", "diverged")
    assert [tuple(point[name] for name in names) for point in curve] == [
        (0.1, "warmup 2", 50.0, 0.5, 0),
        (0.1, "warmup 1", 50.5, 0.0, 1),
        (0.05, "warmup 2", 49.0, 0.5, 0),
        (0.05, "warmup 1", 49.5, 0.0, 1),
        (0.01, "warmup 2", 48.0, 0.5, 0),
        (0.01, "warmup 1", 48.5, 0.0, 1),
        (None, "", None, None, 1),
    ]
    assert curve[0]["point"] == "lr 0.1, warmup 2"


def test_published_points_are_those_of_the_paper() -> None:
    points = page_contents([made_entry(1)]).published
    scores = {(point["backbone"], point["alpha"]): point["scores"] for point in points}
    # VICRegL, table 1
    assert scores["ResNet-50", 0.75]["voc_linear"] == 55.9
    assert scores["ResNet-50", 0.9]["imagenet_linear"] == 71.2
    assert scores["ResNet-50", 1.0]["voc_linear"] == 47.8  # VICReg
    assert {alpha for _, alpha in scores} == {0.75, 0.9, 1.0}
    assert {backbone for backbone, _ in scores} == {"ResNet-50", "ConvNeXt-S", "ConvNeXt-B"}
    drawn = {
        (line.title.split(",")[0], point.alpha): (point.x, point.y)
        for line in tradeoff().lines
        for point in line.points
    }
    pairs = {key: (of["imagenet_linear"], of["voc_linear"]) for key, of in scores.items()}
    assert pairs == drawn


def test_runs_of_one_name_are_told_apart_by_what_they_do_not_share() -> None:
    shared, long = "data: 100 train pictures", f"schedule.iters: {'1' * 80}"
    entries = [
        made_entry(1, weights="a", name="x", deviations=(shared,)),
        made_entry(2, weights="a", name="x", deviations=(shared, "lr: 1 instead of 2")),
        made_entry(3, weights="a", name="x", deviations=(shared, f"{long}2")),
        made_entry(4, weights="a", name="x", deviations=(shared, f"{long}3")),
        made_entry(5, weights="b", name="y", deviations=(shared,)),
        made_entry(6, weights="a", name="x", task="folder_linear"),
    ]
    cut = f"{long[:59]}…"
    contents = page_contents(entries)
    apart = [run["apart"] for run in contents.runs]
    keys = [entry.record.key[:8] for entry in entries]
    assert apart == [
        "",
        "lr: 1 instead of 2",
        f"{cut}, {keys[2]}",
        f"{cut}, {keys[3]}",
        "",
        "",
    ]
    further = {row["further"] for row in contents.rows}
    assert further == {"", *apart[1:4]}


def test_preset_and_printed_metrics_are_there_for_headings_and_axes() -> None:
    entry = made_entry(1)
    task = entry.record.task.model_copy(update={"preset": "moco"})
    record = entry.record.model_copy(update={"task": task})
    contents = page_contents([replace(entry, record=record)])
    assert contents.columns[0]["preset"] == "moco"
    assert "preset moco" in contents.columns[0]["description"]
    assert contents.printed["imagenet_linear"] == "top-1"
    assert contents.printed["voc_linear"] == "mIoU"
