"""`show`, with and without --pictures, on hand-made records and kept predictions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.made_record import changed, make_record
from tests.records.test_matches import some_matches
from vicregl_bench.cli.main import _guarded
from vicregl_bench.cli.run_command import _chosen_pictures
from vicregl_bench.data import (
    CLASSES,
    make_coco,
    make_voc_boxes,
    read_detection,
    read_segmentation,
)
from vicregl_bench.errors import ConfigError
from vicregl_bench.records import Record, write_record
from vicregl_bench.records.detections import KeptDetections, save_detections
from vicregl_bench.records.matches import save_matches
from vicregl_bench.records.predictions import (
    KeptPrediction,
    image_below,
    predictions_path,
    save_predictions,
)

Captured = pytest.CaptureFixture[str]


def voc_record(root: Path, **changes: Any) -> Record:
    """A record with scores of VOC's classes whose data is at `root`."""
    return make_record(
        task={"settings": {"data": {"dataset": "voc"}}},
        data={"root": str(root)},
        best={"by_class": {name: float(4 * index) for index, name in enumerate(CLASSES)}},
        **changes,
    )


@pytest.fixture
def kept(tiny_voc: Path, tmp_path: Path) -> Path:
    """File of a record that keeps three val pictures, predicted rightly."""
    record = voc_record(tiny_voc)
    path = tmp_path / "runs" / record.file_name
    file = predictions_path(path)
    data = read_segmentation("voc", tiny_voc)
    predictions = []
    for pair in data.val[:3]:
        labels = data.read_labels(pair)
        predictions.append(KeptPrediction(image_below(pair.image, tiny_voc), labels, labels))
    save_predictions(file, predictions)
    return write_record(path.parent, record.model_copy(update={"predictions_file": file.name}))


def names(tiny_voc: Path) -> list[str]:
    return [pair.name for pair in read_segmentation("voc", tiny_voc).val]


def failure(capsys: Captured, *words: str) -> str:
    capsys.readouterr()
    assert _guarded(list(words)) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


def drawn(out: str) -> list[Path]:
    paths = [Path(line) for line in out.splitlines()]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG" and min(image.size) > 200
    return paths


def kinds(paths: list[Path]) -> list[str]:
    return [path.name.split(".")[-2] for path in paths]


def grey(path: Path) -> int:
    """Pixels of panels that stand for a missing picture."""
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == 200).all(axis=2).sum())


def test_pictures_lie_beside_the_record_and_their_paths_are_printed(
    kept: Path, capsys: Captured
) -> None:
    assert _guarded(["show", str(kept), "--pictures"]) == 0
    output = capsys.readouterr()
    paths = drawn(output.out)
    assert kinds(paths) == ["predictions", "curve", "classes"]
    assert {path.parent for path in paths} == {kept.parent}
    assert paths[0].name == f"{kept.stem}.predictions.png"
    assert output.err == "" and grey(paths[0]) < 500


def test_only_some_elsewhere(kept: Path, tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    out, (first, second, third, *_) = tmp_path / "drawn", names(tiny_voc)
    heights = []
    for only in (first, f"{third}.jpg, {first}", f"{first},{second},{third}"):
        assert _guarded(["show", str(kept), "--pictures", "--only", only, "--out", str(out)]) == 0
        paths = drawn(capsys.readouterr().out)
        assert {path.parent for path in paths} == {out}
        heights.append(Image.open(paths[0]).size[1])
    assert heights[0] < heights[1] < heights[2]
    assert not list(kept.parent.glob("*.png"))


def test_a_picture_that_was_not_kept(kept: Path, tiny_voc: Path, capsys: Captured) -> None:
    absent, there = names(tiny_voc)[3], names(tiny_voc)[0]
    text = failure(capsys, "show", str(kept), "--pictures", "--only", f"{there},{absent}")
    assert f"no prediction of {absent}, only of {there}," in text
    assert "`vicregl-bench run --pictures NAMES --force`" in text
    assert not list(kept.parent.glob("*.png"))
    assert "not ','" in failure(capsys, "show", str(kept), "--pictures", "--only", ",")


def test_against_another_record(kept: Path, tiny_voc: Path, capsys: Captured) -> None:
    other = write_record(kept.parent, voc_record(tiny_voc, name="b.pth", key="o" * 64))
    assert _guarded(["show", str(kept), "--pictures"]) == 0
    alone = Image.open(drawn(capsys.readouterr().out)[2]).size
    assert _guarded(["show", str(kept), "--pictures", "--against", str(other)]) == 0
    output = capsys.readouterr()
    assert Image.open(drawn(output.out)[2]).size > alone
    assert output.err == ""


def test_records_that_cannot_stand_beside(kept: Path, capsys: Captured) -> None:
    def against(record: Record) -> str:
        other = write_record(kept.parent / "other", record)
        return failure(capsys, "show", str(kept), "--pictures", "--against", str(other))

    assert "other classes" in against(make_record())
    assert "every head diverged" in against(make_record(best=None, status="diverged"))
    assert "nowhere" in failure(
        capsys, "show", str(kept), "--pictures", "--against", "nowhere.json"
    )
    assert not list(kept.parent.glob("*.png"))


def test_records_of_other_data_stand_beside_with_a_warning(
    kept: Path, tiny_voc: Path, capsys: Captured
) -> None:
    record = voc_record(tiny_voc, name="b.pth")
    other = write_record(kept.parent, changed(record, data={"fingerprint": "other"}, key="o" * 64))
    assert _guarded(["show", str(kept), "--pictures", "--against", str(other)]) == 0
    assert "other data" in capsys.readouterr().err


def test_pictures_that_moved(kept: Path, tiny_voc: Path, tmp_path: Path, capsys: Captured) -> None:
    text = kept.read_text()
    kept.write_text(text.replace(str(tiny_voc), str(tmp_path / "gone")))
    assert _guarded(["show", str(kept), "--pictures"]) == 0
    output = capsys.readouterr()
    assert "3 of 3 pictures" in output.err and "--data-root" in output.err
    assert grey(drawn(output.out)[0]) > 3 * 286 * 150
    # the data set's own folder, though paths were kept from above it
    inner = read_segmentation("voc", tiny_voc).root
    assert _guarded(["show", str(kept), "--pictures", "--data-root", str(inner)]) == 0
    output = capsys.readouterr()
    assert output.err == "" and grey(drawn(output.out)[0]) < 500


@pytest.mark.parametrize("state", ["old", "gone", "damaged"])
def test_without_predictions_the_rest_is_drawn(
    state: str, kept: Path, tiny_voc: Path, capsys: Captured
) -> None:
    file = predictions_path(kept)
    if state == "old":
        kept = write_record(kept.parent / "old", voc_record(tiny_voc))
    elif state == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    assert _guarded(["show", str(kept), "--pictures"]) == 0
    output = capsys.readouterr()
    assert kinds(drawn(output.out)) == ["curve", "classes"]
    assert output.err.startswith("warning: no predictions drawn: ") and "--force" in output.err
    assert "--force" in failure(capsys, "show", str(kept), "--pictures", "--only", "a")


def test_a_record_without_scores_has_nothing_to_draw(tmp_path: Path, capsys: Captured) -> None:
    path = write_record(tmp_path, make_record(best=None, results=(), status="interrupted"))
    text = failure(capsys, "show", str(path), "--pictures")
    assert "nothing to draw" in text and "interrupted" in text


@pytest.mark.parametrize(
    "words", [["--against", "x.json"], ["--only", "a"], ["--out", "x"], ["--data-root", "x"]]
)
def test_options_of_pictures_need_pictures(words: list[str], kept: Path, capsys: Captured) -> None:
    text = failure(capsys, "show", str(kept), *words)
    assert words[0] in text and "--pictures" in text


def test_json_is_alone_on_stdout(kept: Path, capsys: Captured) -> None:
    assert _guarded(["show", str(kept), "--pictures", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == json.loads(kept.read_text())
    assert kinds(drawn(output.err)) == ["predictions", "curve", "classes"]


def test_without_pictures_the_record_is_shown(kept: Path, capsys: Captured) -> None:
    assert _guarded(["show", str(kept)]) == 0
    assert "best mIoU 50.00" in capsys.readouterr().out
    assert not list(kept.parent.glob("*.png"))


@pytest.mark.parametrize("dataset", ["voc", "cityscapes", "ade20k"])
def test_colours_are_the_data_sets(dataset: str, tiny_voc: Path, tmp_path: Path) -> None:
    from vicregl_bench.data import class_colours, make_ade20k, make_cityscapes

    root = tiny_voc
    if dataset == "cityscapes":
        root = make_cityscapes(tmp_path / "c", train=2, val=1, seed=0)
    elif dataset == "ade20k":
        root = make_ade20k(tmp_path / "a", train=2, val=1, seed=0)
    data = read_segmentation(dataset, root)
    known = [*range(len(data.classes)), 255]
    np.testing.assert_array_equal(class_colours(dataset)[known], data.colour_map()[known])


def test_what_run_pictures_takes() -> None:
    assert _chosen_pictures(None) is None
    assert _chosen_pictures("4") == 4
    assert _chosen_pictures("0") == 0
    assert _chosen_pictures("2007_000033, 2007_000042.jpg") == ("2007_000033", "2007_000042")
    assert _chosen_pictures("000139") == ("000139",)  # a picture's name
    assert _chosen_pictures("139,") == ("139",)
    for text in ("", "-1", ","):
        with pytest.raises(ConfigError, match="--pictures takes"):
            _chosen_pictures(text)


def box_record(dataset: str, root: Path, **changes: Any) -> Record:
    """A record of detection on a grid over warm-ups."""
    results = [
        {
            "lr": lr,
            "seed": 0,
            "score": 30 + 100 * lr,
            "scores": {"ap": 30 + 100 * lr},
            "options": {"warmup.iters": iters},
        }
        for lr in (0.1, 0.02)
        for iters in (100, 1000)
    ]
    names = read_detection(dataset, root).classes
    return make_record(
        task={"settings": {"data": {"dataset": dataset}}, "metric": "ap"},
        data={"root": str(root)},
        results=results,
        best={"by_class": {name: float(index) for index, name in enumerate(names)}},
        **changes,
    )


@pytest.fixture(params=["voc_boxes", "coco"])
def boxes(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """File of a record of detection that keeps three val pictures."""
    make, name = (make_coco, "coco") if request.param == "coco" else (make_voc_boxes, "")
    root = make(tmp_path / "data" / name, train=2, val=3, seed=0, size=(160, 120), classes=4)
    data, record = read_detection(request.param, root), box_record(request.param, root)
    path = tmp_path / "runs" / record.file_name
    file = predictions_path(path)
    kept = []
    for picture in data.val:
        there = data.annotations(picture)
        kept.append(
            KeptDetections(
                image=image_below(picture.image, root),
                size=(there.height, there.width),
                truth_boxes=there.boxes,
                truth_labels=there.labels,
                ignored=there.ignored,
                boxes=there.boxes + 2,
                scores=np.linspace(0.9, 0.2, len(there.boxes)),
                labels=there.labels,
            )
        )
    save_detections(file, kept, data.classes)
    return write_record(path.parent, record.model_copy(update={"predictions_file": file.name}))


def box_set(record: Path) -> tuple[str, Path]:
    """Name and root of the data set of a record."""
    content = json.loads(record.read_text())
    return content["task"]["settings"]["data"]["dataset"], Path(content["data"]["root"])


def test_boxes_are_drawn_like_label_maps(boxes: Path, capsys: Captured) -> None:
    assert _guarded(["show", str(boxes), "--pictures"]) == 0
    output = capsys.readouterr()
    paths = drawn(output.out)
    assert kinds(paths) == ["predictions", "curve", "classes"]
    assert output.err == "" and grey(paths[0]) < 500
    whole = Image.open(paths[0]).size[1]
    names = [picture.name for picture in read_detection(*box_set(boxes)).val]
    assert _guarded(["show", str(boxes), "--pictures", "--only", names[1]]) == 0
    assert Image.open(drawn(capsys.readouterr().out)[0]).size[1] < whole / 2
    text = failure(capsys, "show", str(boxes), "--pictures", "--only", "nothing")
    assert f"no prediction of nothing, only of {', '.join(names)};" in text


def test_boxes_beside_another_record(boxes: Path, capsys: Captured) -> None:
    other = write_record(boxes.parent, box_record(*box_set(boxes), name="b.pth", key="o" * 64))
    assert _guarded(["show", str(boxes), "--pictures", "--against", str(other)]) == 0
    output = capsys.readouterr()
    assert kinds(drawn(output.out)) == ["predictions", "curve", "classes"]
    assert output.err == ""


def test_pictures_with_boxes_that_moved(boxes: Path, capsys: Captured) -> None:
    _, root = box_set(boxes)
    boxes.write_text(boxes.read_text().replace(str(root), str(root.parent / "gone")))
    assert _guarded(["show", str(boxes), "--pictures"]) == 0
    output = capsys.readouterr()
    assert "3 of 3 pictures" in output.err and "--data-root" in output.err
    assert grey(drawn(output.out)[0]) > 3 * 2 * 400 * 300
    # the folder above, though paths were kept from the data set's own
    assert _guarded(["show", str(boxes), "--pictures", "--data-root", str(root.parent)]) == 0
    output = capsys.readouterr()
    assert output.err == "" and grey(drawn(output.out)[0]) < 500


def test_boxes_that_were_not_kept_or_are_label_maps(boxes: Path, capsys: Captured) -> None:
    file = predictions_path(boxes)
    save_predictions(file, [])
    assert _guarded(["show", str(boxes), "--pictures"]) == 0
    output = capsys.readouterr()
    assert kinds(drawn(output.out)) == ["curve", "classes"]
    assert "holds no predictions of a run" in output.err and "--force" in output.err


def match_record(**changes: Any) -> Record:
    """A record of correspondence: one point, no classes."""
    result = {"lr": None, "seed": 0, "score": 50.0, "scores": {"match_accuracy": 50.0}}
    settings = {"data": {"dataset": "voc"}}
    return make_record(
        task={"name": "voc_correspondence", "settings": settings, "metric": "match_accuracy"},
        results=[result],
        best={"lr": None, "by_class": {}},
        **changes,
    )


def test_matches_bring_their_views_and_have_no_curve(tmp_path: Path, capsys: Captured) -> None:
    record = match_record()
    file = predictions_path(tmp_path / record.file_name)
    save_matches(file, [some_matches(), replace(some_matches(), image="b.png")])
    path = write_record(tmp_path, record.model_copy(update={"predictions_file": file.name}))
    assert _guarded(["show", str(path), "--pictures"]) == 0
    output = capsys.readouterr()
    paths = drawn(output.out)
    assert kinds(paths) == ["predictions"] and output.err == ""
    whole = Image.open(paths[0]).size[1]
    assert _guarded(["show", str(path), "--pictures", "--only", "b"]) == 0
    assert Image.open(drawn(capsys.readouterr().out)[0]).size[1] < 0.6 * whole
    text = failure(capsys, "show", str(path), "--pictures", "--only", "c")
    assert "no prediction of c, only of a, b;" in text


def test_matches_that_were_not_kept(tmp_path: Path, capsys: Captured) -> None:
    path = write_record(tmp_path, match_record())
    text = failure(capsys, "show", str(path), "--pictures")
    assert "nothing to draw" in text and "--pictures 0" in text and "--force" in text


def test_a_task_that_keeps_none_says_so(tmp_path: Path, capsys: Captured) -> None:
    path = write_record(tmp_path, make_record(task={"name": "folder_knn", "metric": "top1"}))
    text = failure(capsys, "show", str(path), "--pictures", "--only", "a")
    assert "folder_knn keeps none of single pictures" in text and "--force" not in text
