import re
from pathlib import Path

import pytest

from tests.tables.test_published import CITATION, FILES, PRINTED_BACKBONES, SPELLED, text_rows
from vicregl_bench.errors import ConfigError
from vicregl_bench.tables.layout import CAPTIONS, find_row, layout
from vicregl_bench.tables.paper_output import paper_grid
from vicregl_bench.tables.paper_table import paper_table
from vicregl_bench.tables.rendering import render


def test_table_1_as_printed() -> None:
    table = layout("1")
    assert table.leads == ("Method", "Epochs")
    assert [column.path for column in table.columns] == [
        ("Linear Cls. (%)", "ImageNet", "Frozen"),
        ("Linear Seg. (mIoU)", "Pascal VOC", "Frozen"),
        ("Linear Seg. (mIoU)", "Pascal VOC", "Fine-Tuned"),
        ("Linear Seg. (mIoU)", "Cityscapes", "Frozen"),
    ]
    assert [row.name for row in table.rows][-3:] == ["ReSim", "VICRegL α=0.9", "VICRegL α=0.75"]
    assert [row.group for row in table.rows] == ["Global features"] * 4 + [
        *["Local features"] * 6,
        *["Ours"] * 2,
    ]
    best = [name for row in table.rows for name, one in row.numbers.items() if one.bold]
    assert best == ["imagenet_linear", "voc_linear", "voc_linear_ft", "cityscapes_linear"]


@pytest.mark.parametrize("number", CAPTIONS)
def test_every_row_has_a_name_of_its_own(number: str) -> None:
    table = layout(number)
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    for row in table.rows:
        assert row.name in row.names
        assert all(find_row(table, name) is row for name in row.names)
        assert tuple(row.lead) == table.leads
        assert set(row.numbers) == {column.name for column in table.columns}


def test_settings_stand_where_the_paper_has_them() -> None:
    assert [row.lead for row in layout("6").rows][1] == {"γ1": "20", "γ2": "4"}
    assert [row.lead["Multi-crop"] for row in layout("5").rows] == ["", "", "✓", "✓"]
    assert [row.lead["Criterion"] for row in layout("7").rows] == ["I", "VI", "VIC"]
    assert [row.lead["Method"] for row in layout("3").rows] == ["Baseline", "Ls", "Ld", "Ls-Ld"]
    assert layout("2").rows[-1].lead["Params"] == "350M"
    assert [row.numbers["time_100_epochs"].text for row in layout("11").rows] == ["11h", "13h"]
    assert layout("11").columns[0].path == ("time / 100 epochs",)


@pytest.mark.parametrize(
    ("number", "name", "found"),
    [
        ("1", "vicregl alpha = 0.75", "VICRegL α=0.75"),
        ("1", "VICRegL α=0.75, ResNet-50", "VICRegL α=0.75"),
        ("2", "VICRegL α=0.75, ConvNeXt-XL", "VICRegL α=0.75, ConvNeXt-XL"),
        ("9", "VICRegL α=0.75, resnet-50", "VICRegL α=0.75, ResNet-50"),
        ("2", "VICRegL α=0.75", None),  # three rows of table 2, one of table 1
        ("8", "DINO, ViT-B", None),
    ],
)
def test_names_find_rows(number: str, name: str, found: str | None) -> None:
    row = find_row(layout(number), name)
    assert (None if row is None else row.name) == found


def test_a_row_that_no_table_has_names_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"no printed row 'VICRegL α=0\.8'.*near it: .*α=0\.9"):
        find_row(layout("1"), "VICRegL α=0.8")
    with pytest.raises(ConfigError, match="no table '12'"):
        layout("12")


# --- what is rendered against the seed's text ---


@pytest.mark.parametrize("number", ["1", "2", "8", "9"])
def test_rendered_rows_are_those_of_the_text(number: str, shared: Path) -> None:
    """Every row, in the text's order, its method and its numbers in order in the text's line."""
    if not (shared / "seeds").is_dir():
        pytest.skip("no ../shared/seeds with the papers' text beside the project")
    part = "appendix" if int(number) > 7 else "main"
    (path,) = (shared / "seeds").glob(f"{FILES['vicregl', part]}_*.txt")
    there = text_rows("vicregl", number, path.read_text())
    markdown = render(paper_grid(paper_table(number, show="published")), "markdown")
    lines = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    rows = [line for line in lines if re.search(r"\d\.\d", line.replace("α=0.", ""))]
    assert len(rows) == len(there) == len(layout(number).rows)
    for line, (head, cells) in zip(rows, there, strict=True):
        shown = [cell.strip() for cell in line.strip("|").split("|")]
        lead, results = shown[: -len(cells)], shown[-len(cells) :]
        numbers = [float(re.sub(r"\*| \[\d\]", "", text)) for text in results]
        assert numbers == [value for value, _ in cells], head
        bare = CITATION.sub("", head).replace("Moco-v3", "MoCo v3")
        method = re.sub(r" \[\d\]$", "", lead[0]).replace("α=", "α = ")
        assert bare.startswith(method), (bare, method)
        rest = " ".join(lead[1:])
        for long, short in (*SPELLED.items(), ("ResNet-50", "R50")):
            rest = re.sub(rf"{re.escape(long)}(?![\w/])", short, rest)
        assert bare.removeprefix(method).replace("†", "").split() == rest.split()
    assert ("vicregl", number) not in PRINTED_BACKBONES or "Backbone" in layout(number).leads


def test_marks_do_not_stand_for_a_wrong_number() -> None:
    """A changed number would be seen: the rendered one is the file's."""
    markdown = render(paper_grid(paper_table("9", show="published")), "markdown")
    assert "| **75.4** " in markdown and "75.5" not in markdown
