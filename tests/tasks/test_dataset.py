from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import read_voc_segmentation
from vicregl_bench.tasks.positions import PositionSampler
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.segmentation.dataset import (
    SegmentationPairs,
    preprocessor,
    test_loader,
    test_pipeline,
    train_loader,
    train_pipeline,
)
from vicregl_bench.tasks.segmentation.settings import TestSection

test_loader.__test__ = False  # type: ignore[attr-defined]
test_pipeline.__test__ = False  # type: ignore[attr-defined]
DATA = load_task("voc_linear", "ci", {"data.crop": [64, 64], "data.resize": [256, 64]})


def loader(root: Path, workers: int, skip: int = 0) -> Any:
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    dataset = read_voc_segmentation(root)
    config = train_loader(
        dataset, dataset.train, DATA.settings.data, batch_size=4, seed=3, workers=workers
    )
    built = Runner.build_dataloader(config, seed=0)
    built.sampler.skip(skip)
    return built


def crops(batches: Any) -> torch.Tensor:
    return torch.stack([torch.stack(b["inputs"]) for b in batches if len(b["inputs"])])


def test_order_is_a_permutation_an_epoch_and_continues_anywhere() -> None:
    sampler = PositionSampler(range(5), seed=1)
    stream = list(islice(sampler, 15))
    assert [position for position, _ in stream] == list(range(15))
    epochs = [[i for _, i in stream[e * 5 : e * 5 + 5]] for e in range(3)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    resumed = PositionSampler(range(5), seed=1)
    resumed.skip(7)
    assert list(islice(resumed, 8)) == stream[7:]


def test_resumed_and_parallel_loading_see_the_same_crops(tiny_voc: Path) -> None:
    def batches(**kwargs: Any) -> list[list[torch.Tensor]]:
        return [b["inputs"] for b in islice(iter(loader(tiny_voc, **kwargs)), 4)]

    whole = batches(workers=0)
    parallel = batches(workers=2)
    resumed = batches(workers=0, skip=8)
    for a, b in zip(whole, parallel, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for a, b in zip(whole[2:], resumed[:2], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_augmentation_follows_the_position_and_leaves_the_generators_alone(
    tiny_voc: Path,
) -> None:
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    voc = read_voc_segmentation(tiny_voc)
    pipeline = train_pipeline(DATA.settings.data, voc.masks)
    dataset = SegmentationPairs(voc.train, seed=0, pipeline=pipeline)
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    first, again, other = (dataset[(p, 0)]["inputs"] for p in (5, 5, 6))
    assert np.random.rand() == expected
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


@pytest.mark.parametrize(
    ("test", "views"),
    [
        (TestSection(flip=True, scales=(0.5, 1.25)), [(64, 0), (64, 1), (160, 0), (160, 1)]),
        (TestSection(flip=True), [(128, 0), (128, 1)]),
        (TestSection(), [(128, 0)]),
    ],
)
def test_views_are_scaled_and_flipped_and_their_masks_are_not(
    test: TestSection, views: list[tuple[int, int]], tiny_voc: Path
) -> None:
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    voc = read_voc_segmentation(tiny_voc)
    data = DATA.settings.data.model_copy(update={"test_resize": (128, 96)})

    def batches(given: TestSection | None) -> list[Any]:
        config = test_loader(voc, voc.val[:2], data, workers=0, test=given)
        return list(Runner.build_dataloader(config, seed=0))

    for plain, several in zip(batches(None), batches(test), strict=True):
        assert len(several["inputs"]) == len(views)
        [expected], [straight] = plain["data_samples"], plain["inputs"]
        for (side, flip), inputs, samples in zip(
            views, several["inputs"], several["data_samples"], strict=True
        ):
            [picture], [sample] = inputs, samples
            assert max(picture.shape) == side and sample.img_shape == picture.shape[1:]
            assert (sample.flip, sample.flip_direction) == (
                (True, "horizontal") if flip else (False, None)
            )
            assert sample.ori_shape == expected.ori_shape
            assert torch.equal(sample.gt_sem_seg.data, expected.gt_sem_seg.data)
            if side == 128:
                assert torch.equal(picture.flip(-1) if flip else picture, straight)


def test_small_pictures_are_padded_with_ignored_pixels() -> None:
    from mmengine.structures import PixelData
    from mmseg.models import SegDataPreProcessor
    from mmseg.structures import SegDataSample

    config = preprocessor(
        DATA.settings.data,
        Card("m", "t", "s", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )
    config.pop("type")
    picture = torch.zeros(3, 40, 64, dtype=torch.uint8)
    picture[0] = 9  # blue: mmcv reads BGR
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 40, 64, dtype=torch.uint8)))
    sample.set_metainfo({"img_shape": (40, 64)})
    batch = SegDataPreProcessor(**config)(
        {"inputs": [picture], "data_samples": [sample]}, training=True
    )
    assert batch["inputs"].shape == (1, 3, 64, 64)
    assert batch["inputs"][0, :, 0, 0].tolist() == [0.0, 0.0, 9.0]  # RGB
    label = batch["data_samples"][0].gt_sem_seg.data
    assert label[0, :40].unique().tolist() == [1]
    assert label[0, 40:].unique().tolist() == [255]


def test_real_masks_are_read_as_indices(shared: Path) -> None:
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    dataset = read_voc_segmentation(shared / "data/voc2012_seg/VOCdevkit")
    config = test_loader(dataset, dataset.val[:10], DATA.settings.data, workers=0)
    labels = [
        batch["data_samples"][0].gt_sem_seg.data.unique()
        for batch in Runner.build_dataloader(config, seed=0)
    ]
    seen = set(torch.cat(labels).tolist())
    assert {0, 255} <= seen <= {*range(21), 255}
    assert len(seen) > 4
