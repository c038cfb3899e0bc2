from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from tests.made_record import changed
from tests.tables.test_paper_table import entry
from vicregl_bench.errors import ConfigError
from vicregl_bench.tables.named import Named
from vicregl_bench.tables.tradeoff import Line, Point, draw_tradeoff, tradeoff, tradeoff_figure

ALPHAS = {"a.pth": 1.0, "b.pth": 0.75}


def naming(record: Any) -> Named | None:
    name = record.checkpoint.name
    return Named(name, alpha=ALPHAS[name]) if name in ALPHAS else None


def pair(name: str, x: float, y: float, **more: Any) -> list[Any]:
    return [
        entry(name=name, task="imagenet_linear", metric="top1", score=x, **more),
        entry(name=name, score=y, **more),
    ]


def test_published_lines_are_the_papers_rows() -> None:
    lines = {line.title: line.points for line in tradeoff().lines}
    assert lines == {
        "ResNet-50, published (table 1)": (
            Point(0.75, 70.4, 55.9),
            Point(0.9, 71.2, 54.0),
            Point(1.0, 71.5, 47.8),
        ),
        "ConvNeXt-S, published (table 2)": (
            Point(0.75, 74.6, 67.5),
            Point(0.9, 75.9, 66.7),
            Point(1.0, 76.2, 60.1),
        ),
        "ConvNeXt-B, published (table 2)": (
            Point(0.75, 76.3, 70.4),
            Point(0.9, 77.1, 69.3),
            Point(1.0, 77.6, 67.2),
        ),
    }
    assert tradeoff().titles == ("imagenet_linear: top-1 (%)", "voc_linear: mIoU (%)")


def test_measured_points_are_one_line_in_order_of_alpha() -> None:
    entries = [*pair("a.pth", 70.0, 40.0), *pair("b.pth", 69.0, 45.0), *pair("c.pth", 1.0, 2.0)]
    found = tradeoff(entries, naming=naming)
    (line,) = (line for line in found.lines if not line.published)
    points = (Point(0.75, 69.0, 45.0, 1.0, 1.0), Point(1.0, 70.0, 40.0, 1.0, 1.0))
    assert line == Line("ResNet-50, measured", False, points)
    assert found.remarks == ("Not drawn, of unknown alpha: c.pth.",)


def test_alpha_of_the_card_and_of_vicreg() -> None:
    entries = [
        *pair("d.pth", 70.0, 40.0, card={"title": "VICReg"}),
        *pair("e.pth", 60.0, 45.0, card={"title": "VICRegL", "alpha": 0.5}),
    ]
    (line,) = (line for line in tradeoff(entries).lines if not line.published)
    assert [point.alpha for point in line.points] == [0.5, 1.0]


def test_the_best_founded_record_counts_and_deviations_are_starred() -> None:
    entries = [*pair("a.pth", 99.0, 99.0, profile="ci"), *pair("a.pth", 70.0, 40.0)]
    (line,) = (one for one in tradeoff(entries, naming=naming).lines if not one.published)
    assert [(point.x, point.y) for point in line.points] == [(70.0, 40.0)] and line.comparable
    entries = [*pair("a.pth", 60.0, 50.0, profile="ci"), *pair("b.pth", 70.0, 40.0)]
    lines = [one for one in tradeoff(entries, naming=naming).lines if not one.published]
    assert sorted(one.comparable for one in lines) == [False, True]  # of other protocols: apart
    assert lines[0].title.startswith(
        "ResNet-50, measured* (imagenet_linear v1 (ci); voc_linear v1 (ci))"
    )


def test_a_contradicted_record_is_starred_and_said() -> None:
    entries = pair("a.pth", 70.0, 40.0)
    assert tradeoff(entries, naming=naming).remarks == ()
    marked = [entries[0], replace(entries[1], marks=("they contradict",))]
    found = tradeoff([*marked, *pair("b.pth", 70.0, 40.0)], naming=naming)
    (line,) = (one for one in found.lines if not one.published)
    assert not line.comparable and line.title == "ResNet-50, measured*"
    remark = "Drawn, though other records contradict them: a.pth, voc_linear."
    assert found.remarks == (remark,)


@pytest.mark.parametrize("other", [{"preset": "moco"}, {"select": "holdout"}, {"version": 2}])
def test_what_shares_no_column_shares_no_line(other: dict[str, Any]) -> None:
    pairs = pair("a.pth", 60.0, 50.0)
    others = [replace(one, record=changed(one.record, task=other)) for one in pairs]
    found = tradeoff([*others, *pair("b.pth", 70.0, 40.0)], naming=naming)
    lines = [one for one in found.lines if not one.published]
    assert [len(line.points) for line in lines] == [1, 1]
    assert len({line.title for line in lines}) == 2


def test_other_tasks_have_no_published_line() -> None:
    entries = [
        entry(task="folder_linear", metric="top1", score=90.0),
        entry(),
        entry(name="b.pth"),
    ]
    found = tradeoff(entries, naming=naming, x="folder_linear")
    assert [line.title for line in found.lines] == ["ResNet-50, measured"]
    assert found.remarks == ("Not drawn, without a finished record of both tasks: b.pth.",)
    assert [line.title for line in tradeoff(y="ade20k_linear").lines] == [
        "ConvNeXt-S, published (table 2)",
        "ConvNeXt-B, published (table 2)",
    ]


def test_nothing_to_draw() -> None:
    with pytest.raises(ConfigError, match=r"nothing to draw.*folder_linear.*alpha: c\.pth"):
        tradeoff(pair("c.pth", 1.0, 2.0), naming=naming, x="folder_linear")
    with pytest.raises(ConfigError, match="both are voc_linear"):
        tradeoff(x="voc_linear")


def crowd(steps: tuple[float, float], at: tuple[float, float]) -> Any:
    """Six measured points of profile ci, side by side, and the printed ones."""
    alphas = {f"{alpha}.pth": alpha for alpha in (0.5, 0.6, 0.75, 0.8, 0.9, 1.0)}
    entries = []
    for k, name in enumerate(alphas):
        entries += pair(name, at[0] + k * steps[0], at[1] + k * steps[1], profile="ci")
    return tradeoff(entries, naming=lambda r: Named("n", alpha=alphas[r.checkpoint.name]))


@pytest.mark.parametrize(
    ("steps", "at"), [((0.05, -0.1), (71.0, 54.0)), ((0.05, -0.1), (21.0, 4.0)), ((0, 0), (73, 60))]
)
def test_no_label_lies_on_another(steps: tuple[float, float], at: tuple[float, float]) -> None:
    figure = tradeoff_figure(crowd(steps, at))
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    labels = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in labels]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    said = [text.get_text() for text in labels]
    assert set(said) == {f"α={alpha:g}" for alpha in (0.5, 0.6, 0.75, 0.8, 0.9, 1)}
    assert said.count("α=0.6") == 1 and said.count("α=0.9") == 1  # printed: both ends alone
    assert all(axes.bbox.count_contains(box.corners()) == 4 for box in boxes)


def test_what_does_not_compare_is_said_in_the_plot() -> None:
    def said(found: Any) -> str:
        (axes,) = tradeoff_figure(found).axes
        return str(axes.get_legend().get_title().get_text())

    words = "not comparable with the printed points"
    assert words in said(crowd((0.05, -0.1), (71.0, 54.0)))
    assert said(tradeoff()) == "" == said(tradeoff(pair("a.pth", 70.0, 40.0), naming=naming))


def test_it_is_drawn_and_twice_the_same(tmp_path: Path) -> None:
    found = tradeoff(pair("a.pth", 70.0, 40.0, profile="ci"), naming=naming)
    draw_tradeoff(found, tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10
    draw_tradeoff(found, tmp_path / "f.pdf")
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    for name in ("f.svg", "g.svg"):
        draw_tradeoff(found, tmp_path / name)
    svg = (tmp_path / "f.svg").read_bytes()
    assert svg == (tmp_path / "g.svg").read_bytes() and b"not comparable" in svg
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf"):
        draw_tradeoff(found, tmp_path / "f.gif")
