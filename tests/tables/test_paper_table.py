from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.made_record import changed, make_record
from vicregl_bench.errors import ConfigError
from vicregl_bench.records.collection import Entry
from vicregl_bench.tables.leaderboard import leaderboard, leaderboard_grid
from vicregl_bench.tables.named import Named
from vicregl_bench.tables.paper_output import paper_grid, paper_rows
from vicregl_bench.tables.paper_table import (
    MEASURED_HERE,
    PaperCell,
    PaperRow,
    PaperTable,
    belonging,
    paper_table,
)
from vicregl_bench.tables.rendering import render

VOC = "voc_linear"
NO_SCORE: dict[str, Any] = {"best": None, "results": ()}


def entry(
    *,
    name: str = "a.pth",
    task: str = VOC,
    version: int = 1,
    profile: str = "paper",
    arch: str = "resnet50",
    weights: str | None = None,
    card: dict[str, Any] | None = None,
    score: float = 50.0,
    metric: str = "miou",
    marks: tuple[str, ...] = (),
    **changes: Any,
) -> Entry:
    """A record of profile paper, without deviations unless they are given."""
    record = make_record(
        name=name,
        task={"name": task, "version": version, "profile": profile, "metric": metric},
        checkpoint={"arch": arch, "weights_sha256": weights or name, "card": card or {}},
        **{"best": {"score": score}, **changes},
    )
    return Entry(record, Path("runs") / f"{name}.json", marks)


def row_of(table: PaperTable, name: str) -> PaperRow:
    (row,) = (row for row in table.rows if row.name == name)
    return row


def cell_text(table: PaperTable, name: str, column: str = VOC) -> str:
    """A cell as people see it."""
    grid = paper_grid(table)
    index = [one.name for one in table.layout.columns].index(column) + grid.leads
    rows = [row for group in grid.groups for row in group.rows]
    cell = rows[[row.name for row in table.rows].index(name)][index]
    return " / ".join(f"{p.text}{list(p.marks) if p.marks else ''}" for p in cell)


def named(row: str | None = None, **more: Any) -> Any:
    return lambda record: Named(record.checkpoint.name, row, **more)


def test_published_alone_is_the_papers_table() -> None:
    table = paper_table("1", [entry()], show="published")
    assert len(table.rows) == 12 and {row.group for row in table.rows} == {
        "Global features",
        "Local features",
        "Ours",
    }
    assert cell_text(table, "VICRegL α=0.75") == "55.9"
    assert cell_text(table, "VICReg", "imagenet_linear") == "71.5[1]"
    assert paper_grid(table).footnotes == (
        "printed number: text differs; table 4, same epochs and same segmentation: 71.1",
    )


def test_a_named_row_has_the_difference() -> None:
    table = paper_table("1", [entry(score=56.4)], naming=named("VICRegL α=0.75"))
    assert cell_text(table, "VICRegL α=0.75") == "55.9 / 56.4 ± 1.0 / +0.5"
    assert cell_text(table, "VICRegL α=0.75", "voc_linear_ft") == "67.6 / –"
    assert all(row.group != MEASURED_HERE for row in table.rows)
    low = paper_table("1", [entry(score=55.0)], naming=named("VICRegL α=0.75"))
    assert cell_text(low, "VICRegL α=0.75").endswith(" / −0.9")
    assert cell_text(paper_table("1", [entry()], show="measured"), "a.pth") == "50.0 ± 1.0"


def test_one_seed_has_no_spread() -> None:
    one = entry(best={"seeds": 1, "std": 0.0})
    assert cell_text(paper_table("1", [one]), "a.pth") == "– / 50.0"


def test_what_is_not_comparable_is_marked_and_says_why() -> None:
    runs = [
        entry(name="a.pth", profile="ci", deviations=("x: 1 instead of 2",)),
        entry(name="b.pth", profile="ci", score=40.0),
        entry(name="c.pth", deviations=("x: 1 instead of 2",), marks=("contradicts d",)),
    ]
    table = paper_table(
        "1", runs, naming=lambda r: Named("A", "BYOL") if r.checkpoint.name == "a.pth" else None
    )
    grid = paper_grid(table)
    # [4] is of the printed number of VICReg, below BYOL but right of it
    assert cell_text(table, "BYOL") == "47.1 / 50.0 ± 1.0[2, 3] / (+2.9)"
    assert cell_text(table, "b.pth") == "– / 40.0 ± 1.0[2]"
    assert cell_text(table, "c.pth") == "– / 50.0 ± 1.0[3, 5]"
    assert grid.footnotes[:3] == (
        "measured: A (m, ResNet-50)",
        "profile ci, which is no protocol of the paper",
        "deviates from voc_linear: x: 1 instead of 2",
    )
    assert grid.footnotes[4] == "contradicts d"
    assert any("parentheses" in remark for remark in grid.remarks)
    (cell,) = [r for r in paper_rows(table) if r["row"] == "BYOL" and r["column"] == VOC]
    assert cell["comparable"] is False and cell["difference"] == 2.9


def test_a_record_without_deviations_is_comparable() -> None:
    table = paper_table("1", [entry(score=47.1)], naming=named("BYOL"))
    grid = paper_grid(table)
    assert cell_text(table, "BYOL") == "47.1 / 47.1 ± 1.0 / +0.0"
    assert not any("parentheses" in remark for remark in grid.remarks)


def test_another_backbone_in_a_named_row_is_marked() -> None:
    run = entry(arch="resnet18")
    table = paper_table("1", [run], naming=named("VICRegL α=0.75", alpha=0.9, epochs=4))
    (cell,) = [r for r in paper_rows(table) if r["measured"] is not None]
    assert cell["marks"] == [
        "the backbone is ResNet-18, the printed row's ResNet-50",
        "alpha is 0.9, the printed row's 0.75",
        "pretrained for 4 epochs, the printed row 300",
    ]
    assert cell["comparable"] is False


@pytest.mark.parametrize(
    ("row", "card", "other"),
    [
        ("BYOL", {"title": "Supervised"}, "Supervised"),
        ("BYOL", {"title": "Supervised (torchvision names)"}, "Supervised (torchvision names)"),
        ("VICReg", {"title": "VICRegL", "alpha": 0.9}, "VICRegL"),
        ("VICReg", {"title": "VICRegL", "alpha": 1}, None),
        ("BYOL", {"title": "byol"}, None),
        ("BYOL", {"title": "timm"}, None),  # a format, which any method may have
        ("BYOL", {}, None),
    ],
)
def test_another_method_in_a_named_row_is_marked(
    row: str, card: dict[str, Any], other: str | None
) -> None:
    table = paper_table("1", [entry(card=card)], naming=named(row))
    (cell,) = [r for r in paper_rows(table) if r["measured"] is not None]
    marks = [f"the method is {other}, the printed row's {row}"] if other else []
    assert cell["marks"] == marks and cell["comparable"] is not bool(marks)


def test_diverged_and_interrupted_are_shown_as_such() -> None:
    runs = [
        entry(name="a.pth", status="diverged", **NO_SCORE),
        entry(name="b.pth", status="interrupted", progress={"iterations": 7, "of": 60}, **NO_SCORE),
    ]
    table = paper_table("1", runs)
    assert cell_text(table, "a.pth") == "– / diverged"
    assert cell_text(table, "b.pth") == "– / interrupted (7 of 60)"
    found = {row["row"]: row for row in paper_rows(table) if row["status"]}
    assert found["a.pth"]["measured"] is None and found["a.pth"]["status"] == "diverged"


CARD = {"title": "VICRegL", "alpha": 0.75, "epochs": 300}


@pytest.mark.parametrize(
    ("change", "row"),
    [
        ({}, "VICRegL α=0.75"),
        ({"alpha": 0.9}, "VICRegL α=0.9"),
        ({"alpha": None}, None),
        ({"epochs": None}, None),
        ({"epochs": 100}, None),
        ({"title": "VICReg"}, None),
        ({"title": "VICReg", "alpha": None}, "VICReg"),
        ({"title": "VICReg", "alpha": 1}, "VICReg"),
        ({"alpha": 0.8}, None),
    ],
)
def test_a_row_by_itself_needs_all_that_it_says(change: dict[str, Any], row: str | None) -> None:
    table = paper_table("1", [entry(card=CARD | change)])
    found = [one.name for one in table.rows if any(c.measured for c in one.cells.values())]
    assert found == [row or "a.pth"]


def test_no_row_by_itself_for_another_backbone_or_in_an_ablation() -> None:
    for number, arch in (("1", "resnet18"), ("1", "resnet50_v1"), ("4", "resnet50")):
        table = paper_table(number, [entry(arch=arch, card=CARD)])
        assert table.rows[-1].name == "a.pth" and table.rows[-1].group == MEASURED_HERE


def test_released_and_other_protocols_have_no_column() -> None:
    runs = [entry(task="voc_linear_released"), entry(name="b.pth", task="folder_knn")]
    assert belonging("1", runs) == []
    table = paper_table("1", [*runs, entry(name="c.pth")])
    assert [row.name for row in table.rows if row.group == MEASURED_HERE] == ["c.pth"]
    (remark,) = (text for text in table.remarks if "no column" in text)
    assert "voc_linear_released (1)" in remark


def test_other_versions_are_refused_and_named() -> None:
    runs = [entry(), entry(name="b.pth", version=2)]
    table = paper_table("1", runs)
    assert [row.name for row in table.rows if row.group == MEASURED_HERE] == ["b.pth"]
    assert table.remarks[-1] == (
        "Not shown, of another protocol version: voc_linear v1 of a.pth (the column is of v2)."
    )
    installed = paper_table("1", runs, versions={VOC: 3})
    assert len(installed.rows) == 12 and "b.pth (the column is of v3)" in installed.remarks[-1]
    assert len(paper_table("1", runs, versions={VOC: 1}).rows) == 13


def test_several_records_for_one_cell_are_all_shown_the_best_founded_first() -> None:
    runs = [
        entry(profile="ci", score=90.0),
        entry(deviations=("x",), score=80.0),
        entry(score=50.0),
        entry(score=70.0, created="2026-02-01T00:00:00+00:00"),
        entry(status="interrupted", **NO_SCORE),
        entry(task="cityscapes_linear"),
    ]
    for some in (runs, runs[::-1]):
        table = paper_table("1", some, naming=named("BYOL"))
        assert cell_text(table, "BYOL") == "47.1 / 70.0 ± 1.0 / +22.9"
        assert cell_text(table, "BYOL", "cityscapes_linear").startswith("22.6 / 50.0")
        others = [cell_text(table, f"a.pth, run {k}")[:13] for k in (2, 3, 4)]
        assert others == ["– / 50.0 ± 1.", "– / 80.0 ± 1.", "– / 90.0 ± 1."]
        assert cell_text(table, "a.pth, run 5").startswith("– / interrupted")
        assert any("a.pth, voc_linear" in remark for remark in table.remarks)
        measured = [row for row in paper_rows(table) if row["status"]]
        assert len(measured) == len(runs)


def test_two_weights_of_one_row_do_not_mix() -> None:
    runs = [
        entry(name="a.pth", profile="ci"),
        entry(name="b.pth"),
        entry(name="a.pth", profile="ci", task="cityscapes_linear"),
    ]
    table = paper_table("1", runs, naming=named("BYOL"))
    assert cell_text(table, "BYOL") == "47.1 / 50.0 ± 1.0 / +2.9"
    assert cell_text(table, "BYOL", "cityscapes_linear") == "22.6 / –"
    assert row_of(table, "a.pth").group == MEASURED_HERE
    assert table.remarks[0] == "Row 'BYOL' shows b.pth; also for it, below: a.pth."


def test_one_name_of_two_weights_is_told_apart() -> None:
    runs = [entry(weights="1" * 64), entry(weights="2" * 64)]
    names = [row.name for row in paper_table("1", runs).rows[-2:]]
    assert names == ["a.pth (11111111)", "a.pth (22222222)"]


def test_a_second_score_of_a_task_has_its_own_column_and_spread() -> None:
    heads = [
        {"lr": lr, "seed": seed, "score": 30.0, "scores": {"ap": 30.0, "mask_ap": mask}}
        for lr, seed, mask in ((0.1, 0, 20.0), (0.1, 1, 24.0), (1.0, 0, 99.0))
    ]
    best = {
        "lr": 0.1, "score": 30.0, "std": 0.5, "seeds": 2, "interval": [29.0, 31.0],
        "scores": {"ap": 30.0, "mask_ap": 22.0},
    }  # fmt: skip
    run = entry(task="coco_semi_maskrcnn", metric="ap", results=heads, best=best)
    table = paper_table("10", [run], naming=named("DenseCL"))
    assert cell_text(table, "DenseCL", "coco_semi_maskrcnn") == "24.8 / 30.0 ± 0.5 / +5.2"
    mask = "coco_semi_maskrcnn_mask_ap"
    assert cell_text(table, "DenseCL", mask) == "21.8 / 22.0 ± 2.0 / +0.2"
    cells = {row["column"]: row for row in paper_rows(table) if row["row"] == "DenseCL"}
    assert (cells["coco_semi_maskrcnn"]["low"], cells[mask]["low"]) == (29.0, None)


def test_a_missing_score_is_missing() -> None:
    table = paper_table("10", [entry(task="coco_semi_maskrcnn", metric="ap")])
    assert cell_text(table, "a.pth", "coco_semi_maskrcnn_mask_ap") == "– / –[1]"
    assert paper_grid(table).footnotes == ("the record has no mask AP",)


def test_rows_for_programs() -> None:
    run = entry(task="voc_det_linear", metric="ap", score=46.0)
    table = paper_table("9", [run], naming=named("VICReg"))  # two rows of this table: of neither
    (cell,) = (row for row in paper_rows(table) if row["measured"] is not None)
    assert (cell["row"], cell["published"]) == ("a.pth", None)
    table = paper_table("9", [run], naming=named("VICReg, ResNet-50"))
    rows = paper_rows(table)
    assert len(rows) == 8 * 2
    (cell,) = (row for row in rows if row["measured"] is not None)
    assert {key: cell[key] for key in ("published", "measured", "std", "seeds", "difference")} == {
        "published": 41.9, "measured": 46.0, "std": 1.0, "seeds": 3, "difference": 4.1,
    }  # fmt: skip
    assert (cell["low"], cell["high"], cell["comparable"]) == (45.0, 55.0, True)
    assert (cell["record"], cell["marks"], cell["version"]) == ("runs/a.pth.json", [], 1)
    assert sum(row["bold"] for row in rows) == 2


def test_rows_of_other_tables_and_of_none() -> None:
    table = paper_table("1", [entry()], naming=named("DINO, ViT-B"))
    assert row_of(table, "a.pth").group == MEASURED_HERE
    assert table.remarks[0] == "a.pth: its row 'DINO, ViT-B' is of another table."
    with pytest.raises(ConfigError, match=r"no printed row 'VICRegLL'.*VICRegL"):
        paper_table("1", [entry()], naming=named("VICRegLL"))


def test_nothing_measured() -> None:
    with pytest.raises(ConfigError, match="nothing measured for table 8: no record of voc_fcn"):
        paper_table("8", [entry()], show="measured")
    with pytest.raises(ConfigError, match="no task measures time and memory"):
        paper_table("11", [entry()], show="measured")
    table = paper_table("11", [entry()])
    assert table.remarks == ("Table 11 is published only: no task measures its numbers.",)
    assert cell_text(table, "VICReg", "peak_memory") == "11.3G"
    assert table.show == "published" and not any("Cells:" in r for r in paper_grid(table).remarks)
    empty = paper_table("8", [])
    assert not any("Cells:" in remark for remark in paper_grid(empty).remarks)


def test_measured_alone_leaves_out_empty_rows() -> None:
    runs = [entry(), entry(name="b.pth"), entry(name="c.pth", status="diverged", **NO_SCORE)]
    naming = {"a.pth": Named("Mine", "BYOL")}
    table = paper_table("1", runs, naming=lambda r: naming.get(r.checkpoint.name), show="measured")
    assert [row.name for row in table.rows] == ["BYOL", "b.pth", "c.pth"]
    assert {row["row"] for row in paper_rows(table)} == {"BYOL", "b.pth", "c.pth"}
    assert {g.title for g in paper_grid(table).groups} == {"Global features", MEASURED_HERE}
    assert len(paper_table("1", runs).rows) == 12 + 3


def test_a_printed_row_says_whose_numbers_are_measured() -> None:
    run = entry(score=47.1, card={"title": "BYOL"})
    table = paper_table("1", [run], naming=lambda r: Named("Mine", "BYOL"))
    text = render(paper_grid(table), "markdown")
    assert "| BYOL [1] " in text and "[1] measured: Mine (BYOL, ResNet-50)" in text
    found = {row["column"]: row["measured_of"] for row in paper_rows(table) if row["row"] == "BYOL"}
    assert found[VOC] == "Mine (BYOL, ResNet-50)" and found["imagenet_linear"] == ""
    assert "measured: Mine" in render(
        paper_grid(
            paper_table("1", [run], naming=lambda r: Named("Mine", "BYOL"), show="measured")
        ),
        "markdown",
    )


def test_random_weights_in_a_printed_row_are_said_to_be() -> None:
    one = entry(name="random:resnet50", score=47.1)
    card = {"title": "Random weights"}
    record = changed(one.record, checkpoint={"method": "random", "card": card})
    table = paper_table(
        "1", [Entry(record, one.path)], naming=lambda r: Named("Chance", "VICRegL α=0.75")
    )
    (cell,) = [row for row in paper_rows(table) if row["measured"] is not None]
    assert cell["marks"] == ["random weights"] and cell["comparable"] is False
    footnotes = paper_grid(table).footnotes
    assert {"measured: Chance (random weights, ResNet-50)", "random weights"} <= set(footnotes)


@pytest.mark.parametrize(
    ("number", "arch", "backbones"),
    [
        ("1", "resnet50", None),
        ("1", "resnet18", "ResNet-50"),
        ("2", "resnet50", "ConvNeXt-S, ViT-S, ViT-B, ConvNeXt-B, ConvNeXt-XL"),
        ("2", "convnext_small", None),
        ("3", "resnet50", "ConvNeXt-S"),
        ("4", "convnext_small", "ResNet-50"),
        ("7", "resnet50", "ConvNeXt-S"),
    ],
)
def test_another_backbone_than_the_tables_is_said(
    number: str, arch: str, backbones: str | None
) -> None:
    table = paper_table(number, [entry(arch=arch)])
    remark = row_of(table, "a.pth").remark
    if backbones is None:
        assert remark == ""
    else:
        said, listed = remark.split(": ")
        assert said == "another backbone than the table's"
        assert sorted(listed.split(", ")) == sorted(backbones.split(", "))
        assert remark in paper_grid(table).footnotes


def test_what_is_measured_here_says_backbone_and_epochs() -> None:
    card = {"title": "DINO", "epochs": 100}
    run = entry(arch="vit_small_patch16", card=card)
    assert row_of(paper_table("2", [run]), "a.pth").lead == {
        "Method": "a.pth (DINO)",
        "Backbone": "ViT-S",
        "Params": "–",
        "Epochs": "100",
    }
    assert row_of(paper_table("6", [run]), "a.pth").lead == {
        "γ1": "a.pth (DINO, ViT-S)",
        "γ2": "–",
    }


def test_cells_are_what_they_hold() -> None:
    assert PaperCell().difference is None
    text = render(paper_grid(paper_table("1", [entry()])), "markdown")
    assert "| **Measured here** " in text and "| a.pth (m, ResNet-50) " in text


def test_the_run_with_fewest_deviations_stands_in_the_cell_as_in_the_leaderboard() -> None:
    few, more = ("precision: bf16",), ("precision: bf16", "iters: 10", "lrs: [0.1]")
    newer = "2027-01-01T00:00:00+00:00"
    runs = [entry(score=4.2, deviations=more, created=newer), entry(score=55.5, deviations=few)]
    runs.append(entry(score=66.6, deviations=few, created=newer, marks=("they contradict",)))
    runs = [replace(run, path=Path(f"{k}.json")) for k, run in enumerate(runs)]
    for some in (runs, runs[::-1]):
        table = paper_table("1", some, naming=named("BYOL"))
        cells = [row.cells[VOC].measured for row in table.rows if VOC in row.cells]
        scores = [cell.score for cell in cells if cell is not None]
        assert scores == [55.5, 66.6, 4.2]
        (order,) = {
            tuple(cell.entry.record.best.score for cell in row.cells.values())  # type: ignore[union-attr]
            for row in leaderboard(some).rows
            if row.turn == 0
        }
        assert order == (55.5,)


def test_a_contradicted_record_is_not_comparable() -> None:
    table = paper_table("1", [entry(score=47.3, marks=("they contradict",))], naming=named("BYOL"))
    assert cell_text(table, "BYOL") == "47.1 / 47.3 ± 1.0[2] / (+0.2)"
    assert paper_grid(table).footnotes[1] == "they contradict"
    (cell,) = [row for row in paper_rows(table) if row["measured"] is not None]
    assert cell["comparable"] is False and cell["marks"] == ["they contradict"]


def frcnn(preset: str, score: float, *, own: str | None = "moco", **changes: Any) -> Entry:
    """A record of the protocol that has two presets."""
    card = {} if own is None else {"detection_preset": own}
    run = entry(task="voc_det_frcnn_c4", metric="ap", score=score, card=card, **changes)
    record = changed(run.record, task={"preset": preset})
    return replace(run, record=record, path=Path(f"{run.path}-{preset}"))


def test_the_cards_own_preset_goes_first_and_several_are_said() -> None:
    newer = "2027-01-01T00:00:00+00:00"
    runs = [frcnn("lars", 20.0, created=newer), frcnn("moco", 50.0)]
    table = paper_table("9", runs, naming=named("MoCo v2"))
    column = "voc_det_frcnn_c4"
    assert cell_text(table, "MoCo v2, ResNet-50", column) == "57.0 / 50.0 ± 1.0[2] / −7.0"
    assert cell_text(table, "a.pth, run 2", column) == "– / 20.0 ± 1.0[3]"
    footnotes = paper_grid(table).footnotes
    assert footnotes[1:3] == ("preset moco", "preset lars (the checkpoint's card has moco)")


@pytest.mark.parametrize(
    ("preset", "own", "marks"),
    [
        ("moco", "moco", []),
        ("lars", "moco", ["preset lars (the checkpoint's card has moco)"]),
        ("lars", "lars", []),
        ("lars", None, []),  # a record of before cards said it
    ],
)
def test_a_preset_alone_is_said_where_it_is_not_the_cards(
    preset: str, own: str | None, marks: list[str]
) -> None:
    table = paper_table("9", [frcnn(preset, 50.0, own=own)])
    (cell,) = [row for row in paper_rows(table) if row["measured"] is not None]
    assert cell["marks"] == marks


def bold(table: PaperTable, column: str = VOC) -> dict[str, list[str]]:
    """Row -> what is bold in its cell."""
    grid = paper_grid(table)
    index = [one.name for one in table.layout.columns].index(column) + grid.leads
    rows = [row for group in grid.groups for row in group.rows]
    found = {
        name.name: [p.text for p in row[index] if p.bold]
        for name, row in zip(table.rows, rows, strict=True)
    }
    return {name: texts for name, texts in found.items() if texts}


@pytest.mark.parametrize("show", ["both", "measured"])
def test_the_best_comparable_measured_number_of_a_column_is_bold(show: Any) -> None:
    runs = [
        entry(name="a.pth", score=50.0),
        entry(name="b.pth", score=60.0),
        entry(name="c.pth", score=70.0, deviations=("x: 1 instead of 2",)),
        entry(name="d.pth", score=80.0, marks=("they contradict",)),
        entry(name="e.pth", score=90.0, profile="ci"),
        entry(name="f.pth", status="diverged", **NO_SCORE),
    ]
    printed = {"VICRegL α=0.75": ["55.9"]} if show == "both" else {}
    table = paper_table("1", runs, show=show)
    assert bold(table) == printed | {"b.pth": ["60.0 ± 1.0"]}
    said = [remark.split(":")[0] for remark in paper_grid(table).remarks if "Bold" in remark]
    assert said == [*(["Bold"] if show == "both" else []), "Bold among the measured numbers"]
    one = paper_table("1", [runs[0], *runs[2:]], show=show)
    assert bold(one) == printed
    assert not any("measured numbers" in remark for remark in paper_grid(one).remarks)
    further = replace(runs[0], path=Path("further.json"))
    assert bold(paper_table("1", [runs[0], further], show=show)) == printed
    tied = paper_table("1", [*runs, entry(name="g.pth", score=60.0)], show=show)
    assert bold(tied) == printed | {"b.pth": ["60.0 ± 1.0"], "g.pth": ["60.0 ± 1.0"]}


@pytest.mark.parametrize(("number", "printed"), [("1", True), ("4", False)])
def test_printed_bold_is_explained_where_the_table_has_it(number: str, printed: bool) -> None:
    remarks = paper_grid(paper_table(number, [entry()])).remarks
    assert any(remark.startswith("Bold: the paper's") for remark in remarks) is printed
    assert remarks[0].startswith("Cells:")


def test_what_is_in_two_columns_of_the_leaderboard_is_not_bold() -> None:
    runs = [frcnn("moco", 50.0), frcnn("lars", 60.0, own="lars", name="b.pth")]
    printed = bold(paper_table("9", []), "voc_det_frcnn_c4")
    assert bold(paper_table("9", runs), "voc_det_frcnn_c4") == printed
    same = [runs[0], frcnn("moco", 60.0, name="b.pth")]
    found = bold(paper_table("9", same), "voc_det_frcnn_c4")
    assert found == printed | {"b.pth": ["60.0 ± 1.0"]}


def test_nothing_of_the_newest_version_measured() -> None:
    words = r"nothing measured for table 1: .*\(voc_linear v1, the column is of v3\)"
    with pytest.raises(ConfigError, match=words):
        paper_table("1", [entry()], show="measured", versions={VOC: 3})
    assert len(paper_table("1", [entry()], versions={VOC: 3}).rows) == 12


@pytest.mark.parametrize("form", ["markdown", "latex", "html"])
def test_names_with_line_breaks_and_control_characters_stay_in_their_row(form: str) -> None:
    run = entry(name="a\n\n| b\x1b[31m\u202ec.pth", deviations=("x:\r\ny",))
    for grid in (paper_grid(paper_table("1", [run])), leaderboard_grid(leaderboard([run]))):
        text = render(grid, form)
        assert all(one.isprintable() for one in text.replace("\n", ""))
        (line,) = (line for line in text.splitlines() if "c.pth" in line)
        assert line.count("50.0") == 1
