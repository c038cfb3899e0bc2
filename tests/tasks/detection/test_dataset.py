import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset, XMLDataset
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmdet.models import DetDataPreprocessor
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import (
    DetectionData,
    Picture,
    make_coco,
    make_voc_boxes,
    read_detection,
)
from vicregl_bench.errors import ConfigError, DataError
from vicregl_bench.heads.region_proposals import Truth
from vicregl_bench.tasks.detection.dataset import (
    DetectionPictures,
    OrientationSampler,
    preprocessor,
    test_loader,
    test_pipeline,
    train_loader,
    train_pipeline,
)
from vicregl_bench.tasks.detection.settings import DetectionDataSection
from vicregl_bench.tasks.positions import PositionSampler

test_loader.__test__ = False  # type: ignore[attr-defined]
test_pipeline.__test__ = False  # type: ignore[attr-defined]

DATA = DetectionDataSection(
    dataset="voc_boxes",
    variant="voc07",
    num_classes=20,
    short_sides=(48, 64, 80),
    test_short_side=72,
    longest=90,
    flip=0.5,
)
BATCH, SEED = 4, 3


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    """9 wide and 5 high training pictures, all objects of one of which are difficult."""
    root = tmp_path_factory.mktemp("boxes")
    wide, high = (
        read_detection(
            "voc_boxes", make_voc_boxes(root / name, train=count, val=3, seed=5, size=size)
        )
        for name, count, size in (("wide", 9, (80, 64)), ("high", 5, (64, 96)))
    )
    path = high.train[0].annotation
    path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    mixed = (*wide.train[:5], *high.train, *wide.train[5:])
    return replace(wide, train=mixed)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> DetectionData:
    """6 training pictures, some with a crowd."""
    out = make_coco(tmp_path_factory.mktemp("coco") / "coco", train=6, val=3, seed=7, size=(80, 64))
    return read_detection("coco", out)


@pytest.fixture(params=["made", "real"])
def voc_tree(request: pytest.FixtureRequest, tmp_path: Path) -> DetectionData:
    if request.param == "made":
        root = make_voc_boxes(tmp_path / "boxes", train=6, val=3, seed=1)
        return read_detection("voc_boxes", root)
    return real(request.getfixturevalue("shared"), "voc_boxes", "voc2007_det")


@pytest.fixture(params=["made", "real"])
def coco_tree(request: pytest.FixtureRequest) -> DetectionData:
    if request.param == "made":
        made: DetectionData = request.getfixturevalue("coco")
        return made
    return real(request.getfixturevalue("shared"), "coco", "coco_mini")


def real(shared: Path, name: str, folder: str) -> DetectionData:
    root = shared / "data" / folder
    if not root.is_dir():
        pytest.skip(f"no ../shared/data/{folder}")
    return read_detection(name, root)


def edited(picture: Picture, path: Path, old: str, new: str) -> Picture:
    """The picture with another annotation."""
    text = picture.annotation.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return replace(picture, annotation=path)


def loader(dataset: DetectionData, workers: int = 0, **kwargs: Any) -> Any:
    config = train_loader(
        dataset, dataset.train, DATA, batch_size=BATCH, seed=SEED, workers=workers, **kwargs
    )
    return Runner.build_dataloader(config, seed=0)


def batches(built: Any, count: int, after: int = 0) -> list[Any]:
    """Batches as mmengine's training loop takes them, resumed after some iterations."""
    iterator = _InfiniteDataloaderIterator(built)
    iterator.skip_iter(after)
    return [next(iterator) for _ in range(count)]


def same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether batches have the same pictures, pixels and boxes."""
    return all(
        len(x["inputs"]) == len(y["inputs"])
        and all(torch.equal(p, q) for p, q in zip(x["inputs"], y["inputs"], strict=True))
        and all(
            p.img_path == q.img_path
            and torch.equal(p.gt_instances.bboxes.tensor, q.gt_instances.bboxes.tensor)
            for p, q in zip(x["data_samples"], y["data_samples"], strict=True)
        )
        for x, y in zip(a, b, strict=True)
    )


def names(batch: Any) -> list[str]:
    return [sample.img_path for sample in batch["data_samples"]]


def with_extent(instances: list[Any]) -> list[Any]:
    return [i for i in instances if i["bbox"][2] > i["bbox"][0] and i["bbox"][3] > i["bbox"][1]]


def entries(peer: Any) -> list[Any]:
    """All that a data set has of its pictures."""
    return [peer.get_data_info(index) for index in range(len(peer))]


def assert_same_entries(ours: Any, peer: Sequence[Any]) -> int:
    """That two data sets have the same pictures and objects; how many do not count."""
    assert len(ours) == len(peer) > 0
    ignored = 0
    for a, b in zip(entries(ours), peer, strict=True):
        for key in ("img_id", "height", "width"):
            assert a[key] == b[key]
        assert Path(a["img_path"]) == Path(b["img_path"])
        assert a["instances"] == b["instances"]
        ignored += sum(instance["ignore_flag"] for instance in a["instances"])
    return ignored


def trained_on(infos: list[Any]) -> list[Any]:
    """Pictures that have an object which counts, without boxes of no extent."""
    for info in infos:
        info["instances"] = with_extent(info["instances"])
    return [info for info in infos if any(not i["ignore_flag"] for i in info["instances"])]


def test_voc_is_what_mmdets_xml_dataset_reads(voc_tree: DetectionData) -> None:
    """But for the flag of difficult objects, which are trained on here, as in detectron2."""
    folder = voc_tree.root / "VOC2007"
    difficult = 0
    for split, file in (("train", "trainval"), ("val", "test")):
        peer = XMLDataset(
            ann_file=str(folder / f"ImageSets/Main/{file}.txt"),
            data_prefix={"sub_data_root": str(folder)},
            metainfo={"classes": voc_tree.classes},
            test_mode=True,
        )
        pictures, expected = voc_tree.splits[split], entries(peer)
        for picture, info in zip(pictures, expected, strict=True):
            flags = [instance["ignore_flag"] for instance in info["instances"]]
            assert flags == voc_tree.annotations(picture).difficult.tolist()
            difficult += sum(flags)
            info["instances"] = [instance | {"ignore_flag": 0} for instance in info["instances"]]
        tested = DetectionPictures(voc_tree, pictures, test_mode=True)
        assert assert_same_entries(tested, expected) == 0
        assert_same_entries(DetectionPictures(voc_tree, pictures), trained_on(expected))
    assert difficult > 0


def test_coco_is_what_mmdets_coco_dataset_reads(coco_tree: DetectionData) -> None:
    crowds = 0
    for split, pictures in coco_tree.splits.items():
        peer = CocoDataset(
            ann_file=str(coco_tree.root / f"annotations/instances_{split}2017.json"),
            data_prefix={"img": str(coco_tree.root / f"{split}2017")},
            test_mode=True,
        )
        assert peer.metainfo["classes"] == coco_tree.classes
        ours = DetectionPictures(coco_tree, pictures, masks=True, test_mode=True)
        crowds += assert_same_entries(ours, entries(peer))
        plain = DetectionPictures(coco_tree, pictures)
        assert len(plain) == len(trained_on(entries(peer)))
        assert not any("mask" in i for i in plain.get_data_info(0)["instances"])
    assert crowds > 0


def test_boxes_masks_and_pixels_go_through_training_together(coco_tree: DetectionData) -> None:
    dataset = DetectionPictures(
        coco_tree,
        coco_tree.train,
        seed=SEED,
        masks=True,
        pipeline=train_pipeline(DATA, masks=True),
    )
    flips = set()
    for position, index in enumerate(range(min(len(dataset), 12))):
        info, packed = dataset.get_data_info(index), dataset[(position, index)]
        sample = packed["data_samples"]
        height, width = sample.img_shape
        flips.add(sample.flip)
        assert sample.scale_factor == (width / info["width"], height / info["height"])
        assert (sample.img_id, sample.ori_shape) == (
            info["img_id"],
            (info["height"], info["width"]),
        )
        original = cv2.resize(cv2.imread(info["img_path"]), (width, height))
        expected = original[:, ::-1] if sample.flip else original
        assert np.array_equal(packed["inputs"].permute(1, 2, 0).numpy(), expected)
        for ignored, found in ((0, sample.gt_instances), (1, sample.ignored_instances)):
            objects = [i for i in info["instances"] if i["ignore_flag"] == ignored]
            boxes: Any = np.array([i["bbox"] for i in objects]).reshape(-1, 4)
            boxes = boxes * (sample.scale_factor * 2)
            boxes = boxes.clip(0, (width, height) * 2)
            if sample.flip:
                boxes = np.stack(
                    [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1
                )
            # float32 on coordinates up to 90
            assert np.allclose(found.bboxes.tensor.numpy(), boxes, atol=1e-4)
            assert found.labels.tolist() == [i["bbox_label"] for i in objects]
            assert (found.masks.height, found.masks.width) == (height, width)
            assert len(found.masks) == len(objects)
        for box, rings in zip(
            sample.gt_instances.bboxes.tensor.numpy(), sample.gt_instances.masks, strict=True
        ):
            points = np.concatenate(rings).reshape(-1, 2)
            outline = np.concatenate([points.min(axis=0), points.max(axis=0)])
            # an outline goes through centres of pixels (made) or is drawn by hand: within 2 pixels
            assert np.abs(outline - box).max() < 2
    assert flips == {False, True}


def test_crowds_are_ignored_and_difficult_objects_are_trained_on(
    voc: DetectionData, coco: DetectionData
) -> None:
    for dataset in (voc, coco):
        ignored = counted = difficult = 0
        for batch in batches(loader(dataset, masks=dataset is coco), 4):
            for sample in batch["data_samples"]:
                [picture] = [p for p in dataset.train if str(p.image) == sample.img_path]
                truth = dataset.annotations(picture)
                wanted = truth.labels[~truth.crowd].tolist()
                assert sample.gt_instances.labels.tolist() == wanted
                assert sample.ignored_instances.labels.tolist() == (
                    truth.labels[truth.crowd].tolist()
                )
                counted += len(wanted)
                ignored += int(truth.crowd.sum())
                difficult += int(truth.difficult.sum())
                taken = Truth.of(sample)
                assert len(taken.boxes) == len(wanted) > 0
                assert len(taken.ignored) == truth.crowd.sum()
                assert taken.frame.size == sample.img_shape
                assert taken.frame.scale == sample.scale_factor
        assert counted > 0
        assert (ignored > 0, difficult > 0) == ((True, False) if dataset is coco else (False, True))


def detectron2_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """`ResizeShortestEdge.get_output_shape` of detectron2 0.6."""
    size = short * 1.0
    scale = size / min(height, width)
    newh, neww = (size, scale * width) if height < width else (scale * height, size)
    if max(newh, neww) > longest:
        scale = longest * 1.0 / max(newh, neww)
        newh, neww = newh * scale, neww * scale
    return int(newh + 0.5), int(neww + 0.5)


def test_sizes_are_detectron2s(voc: DetectionData) -> None:
    dataset = DetectionPictures(voc, voc.train, seed=SEED, pipeline=train_pipeline(DATA))
    for index, (original, seen) in {0: ((64, 80), 3), 6: ((96, 64), 2)}.items():
        possible = {detectron2_size(*original, short, DATA.longest) for short in DATA.short_sides}
        assert len(possible) == seen  # of the high ones, 64 and 80 come to the same
        sizes = [dataset[(p, index)]["data_samples"].img_shape for p in range(40)]
        assert set(sizes) == possible
        assert min(sizes.count(size) for size in possible) >= 6  # 40 draws of 3


@pytest.mark.parametrize(
    ("original", "short", "size"),
    [
        ((375, 500), 800, (800, 1067)),  # the shorter side decides
        ((500, 281), 800, (1333, 749)),  # the longer one does
        ((60, 248), 800, (322, 1333)),  # a tie, that `Resize` with keep_ratio rounds to 323
        ((400, 400), 2000, (1333, 1333)),  # more than the longer side may have
    ],
)
def test_size_of_a_test_picture(
    original: tuple[int, int], short: int, size: tuple[int, int], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((*original, 3), np.uint8))
    data = DATA.model_copy(update={"test_short_side": short, "longest": 1333})
    assert detectron2_size(*original, short, 1333) == size
    made = read_detection("voc_boxes", make_voc_boxes(tmp_path / "b", train=1, val=1, seed=0))
    picture = replace(made.val[0], image=tmp_path / "a.jpg")
    dataset = DetectionPictures(made, (picture,), test_mode=True, pipeline=test_pipeline(data))
    sample = dataset[0]["data_samples"]
    assert sample.img_shape == size and sample.ori_shape == original
    assert sample.scale_factor == (size[1] / original[1], size[0] / original[0])


def test_batches_are_of_one_orientation(voc: DetectionData) -> None:
    built = loader(voc)
    landscape = built.dataset.landscape
    assert landscape.count(True) == 9 and landscape.count(False) == 5
    stream = list(islice(built.sampler, 40 * BATCH))
    kinds = [
        {landscape[index] for _, index in stream[i : i + BATCH]}
        for i in range(0, len(stream), BATCH)
    ]
    assert all(len(kind) == 1 for kind in kinds)
    assert {kind for [kind] in kinds} == {True, False}
    positions = [position for position, _ in stream]
    assert len(set(positions)) == len(positions)
    order = dict(islice(PositionSampler(landscape, SEED), 1000))
    assert all(order[position] == index for position, index in stream)
    for batch in batches(built, 6):
        assert len({p.shape[1] <= p.shape[2] for p in batch["inputs"]}) == 1


def test_batches_are_those_of_mmdets_sampler(voc: DetectionData) -> None:
    dataset = DetectionPictures(voc, voc.train)
    order = [index for _, index in islice(PositionSampler(dataset, SEED), 30 * len(dataset))]

    class Order(torch.utils.data.Sampler[int]):
        def __init__(self) -> None:
            self.dataset = dataset

        def __iter__(self) -> Any:
            return iter(order)

    ours = [index for _, index in islice(OrientationSampler(dataset, BATCH, SEED), 80 * BATCH)]
    peer = list(islice(AspectRatioBatchSampler(Order(), BATCH), 80))
    assert ours == [index for batch in peer for index in batch]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_the_same_batches(voc: DetectionData, workers: int) -> None:
    whole = batches(loader(voc), 12)
    assert same(whole, batches(loader(voc, workers), 12))
    for done in (1, 5, 9):
        assert same(whole[done:], batches(loader(voc, workers), 12 - done, after=done))
    assert not same(whole[:1], whole[1:2])


def test_augmentation_differs_between_positions_and_seeds(voc: DetectionData) -> None:
    pipeline = train_pipeline(DATA)
    dataset = DetectionPictures(voc, voc.train, seed=0, pipeline=pipeline)
    other = DetectionPictures(voc, voc.train, seed=1, pipeline=pipeline)

    def drawn(of: Any) -> list[Any]:
        samples = [of[(position, 0)]["data_samples"] for position in range(12)]
        return [(sample.img_shape, sample.flip) for sample in samples]

    assert drawn(dataset) == drawn(dataset) != drawn(other)
    assert len(set(drawn(dataset))) > 3
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    dataset[(5, 0)]
    assert np.random.rand() == expected


def test_pictures_without_objects_are_tested_but_not_trained_on(
    voc: DetectionData, tmp_path: Path
) -> None:
    difficult, *others = [p for p in voc.train if voc.annotations(p).height == 96]
    assert voc.annotations(difficult).difficult.all()
    empty = edited(others[0], tmp_path / "empty.xml", "<object>", "<thing>")
    empty.annotation.write_text(empty.annotation.read_text().replace("</object>", "</thing>"))
    pictures = (others[1], difficult, empty, others[2])

    def ids(**kwargs: Any) -> list[str]:
        dataset = DetectionPictures(voc, pictures, **kwargs)
        return [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]

    assert ids() == [others[1].id, difficult.id, others[2].id]
    assert ids(test_mode=True) == [picture.id for picture in pictures]
    config = test_loader(voc, pictures, DATA, workers=0)
    tested = list(Runner.build_dataloader(config, seed=0))
    assert [names(batch) for batch in tested] == [[str(picture.image)] for picture in pictures]
    assert [batch["data_samples"][0].img_id for batch in tested] == [p.id for p in pictures]
    with pytest.raises(DataError, match="no object to train on in 1 pictures of voc_boxes"):
        DetectionPictures(voc, (empty,))


def test_pictures_of_crowds_alone_are_tested_but_not_trained_on(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "coco", train=3, val=1, seed=0, size=(80, 64))
    path = root / "annotations/instances_train2017.json"
    document = json.loads(path.read_text())
    crowds, *others = (image["id"] for image in document["images"])
    for annotation in document["annotations"]:
        if annotation["image_id"] == crowds:
            annotation["iscrowd"] = 1
            annotation["segmentation"] = {"size": [64, 80], "counts": [0, 64 * 80]}
    path.write_text(json.dumps(document))
    made = read_detection("coco", root)
    assert made.annotations(made.train[0]).crowd.all()

    def ids(**kwargs: Any) -> list[int]:
        dataset = DetectionPictures(made, made.train, **kwargs)
        return [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]

    assert ids() == ids(masks=True) == others
    assert ids(test_mode=True) == [crowds, *others]
    with pytest.raises(DataError, match="no object to train on in 1 pictures of coco"):
        DetectionPictures(made, made.train[:1])


def test_boxes_without_extent_are_not_trained_on(voc: DetectionData, tmp_path: Path) -> None:
    picture = voc.train[0]
    objects = "".join(
        f"<object><name>person</name><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
        f"<ymin>{y}</ymin><xmax>{u}</xmax><ymax>{v}</ymax></bndbox></object>"
        for x, y, u, v in (
            (7, 9, 7, 20),  # one pixel wide
            (0, 4, 1, 20),  # in the picture after the cut: none of it
            (80, 4, 81, 20),  # its last column, which mmdet counts as an edge
            (0, 0, 81, 65),  # a pixel beyond on all sides
        )
    )
    changed = edited(picture, tmp_path / "a.xml", "</annotation>", objects + "</annotation>")
    dataset = DetectionPictures(voc, (changed,), pipeline=train_pipeline(DATA))
    before = len(voc.annotations(picture).labels)
    found = [i["bbox"] for i in dataset.get_data_info(0)["instances"]]
    assert found[before:] == [[79, 3, 80, 19], [-1, -1, 80, 64]]
    tested = DetectionPictures(voc, (changed,), test_mode=True)
    assert len(tested.get_data_info(0)["instances"]) == before + 4
    for position in range(10):
        Truth.of(dataset[(position, 0)]["data_samples"])


def test_masks(coco: DetectionData, voc: DetectionData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="voc_boxes has no masks"):
        DetectionPictures(voc, voc.train, masks=True)
    root = make_coco(tmp_path / "coco", train=2, val=1, seed=0)
    path = root / "annotations/instances_train2017.json"
    document = json.loads(path.read_text())
    bare, other = (image["id"] for image in document["images"])
    for annotation in document["annotations"]:
        if annotation["image_id"] == bare:
            del annotation["segmentation"]
    path.write_text(json.dumps(document))
    made = read_detection("coco", root)
    assert len(DetectionPictures(made, made.train)) == 2
    dataset = DetectionPictures(made, made.train, masks=True)
    assert [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))] == [other]


def test_configurations_are_copied_without_the_annotations(coco: DetectionData) -> None:
    config = train_loader(coco, coco.train, DATA, batch_size=2, seed=0, workers=0)
    assert Runner.build_dataloader(copy.deepcopy(config), seed=0).dataset.dataset is coco
    tests = test_loader(coco, coco.val, DATA, workers=0)
    assert Runner.build_dataloader(copy.deepcopy(tests), seed=0).dataset.dataset is coco


@pytest.mark.parametrize("scope", ["mmdet", "mmseg"])
def test_transforms_do_not_follow_the_default_scope(scope: str, voc: DetectionData) -> None:
    expected = batches(loader(voc), 1)
    with DefaultScope.overwrite_default_scope(scope):
        assert same(expected, batches(loader(voc), 1))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_preprocessor(order: Any, coco: DetectionData) -> None:
    card = Card("m", "t", "s", mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0), channel_order=order)
    config = preprocessor(card, masks=True, divisor=32)
    assert config.pop("type") == "mmdet.DetDataPreprocessor"
    [batch] = batches(loader(coco, masks=True), 1)
    pictures = [picture.float() for picture in batch["inputs"]]
    found = DetDataPreprocessor(**config)(batch, training=True)
    height, width = (-(-max(p.shape[d] for p in pictures) // 32) * 32 for d in (1, 2))
    assert found["inputs"].shape == (BATCH, 3, height, width)
    for picture, inputs, sample in zip(
        pictures, found["inputs"], found["data_samples"], strict=True
    ):
        planes = picture.flip(0) if order == "rgb" else picture  # mmcv reads BGR
        expected = (planes - torch.tensor(card.mean)[:, None, None]) / (
            torch.tensor(card.std)[:, None, None]
        )
        h, w = sample.img_shape
        torch.testing.assert_close(inputs[:, :h, :w], expected)
        assert not inputs[:, h:].any() and not inputs[:, :, w:].any()
        masks = sample.gt_instances.masks
        assert (masks.height, masks.width) == (height, width)
    config = preprocessor(card)
    assert (config["pad_mask"], config["pad_size_divisor"]) == (False, 1)


@pytest.mark.parametrize("name", ["voc_boxes", "coco"])
def test_real_pictures_at_the_protocols_sizes(name: str, shared: Path) -> None:
    dataset = real(shared, name, {"voc_boxes": "voc2007_det", "coco": "coco_mini"}[name])
    update = {"short_sides": tuple(range(480, 801, 32)), "test_short_side": 800, "longest": 1333}
    data = DATA.model_copy(update=update)
    masks = name == "coco"
    config = train_loader(
        dataset, dataset.train, data, batch_size=4, seed=0, workers=0, masks=masks
    )
    for batch in batches(Runner.build_dataloader(config, seed=0), 4):
        for picture, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            truth = Truth.of(sample)
            height, width = picture.shape[1:]
            assert (height, width) == truth.frame.size
            original = sample.ori_shape[0], sample.ori_shape[1]
            possible = {detectron2_size(*original, side, 1333) for side in data.short_sides}
            assert (height, width) in possible
            assert (truth.boxes >= 0).all()
            assert (truth.boxes <= torch.tensor([width, height] * 2)).all()
    config = test_loader(dataset, dataset.val[:3], data, workers=0)
    for batch in Runner.build_dataloader(config, seed=0):
        [sample] = batch["data_samples"]
        original = sample.ori_shape[0], sample.ori_shape[1]
        assert sample.img_shape == detectron2_size(*original, 800, 1333)
        assert {"img_id", "img_path", "ori_shape", "scale_factor"} <= set(sample.metainfo)
