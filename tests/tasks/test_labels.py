"""What the loaders make of the masks of each data set."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from vicregl_bench.data import Pair, SegmentationData, read_segmentation
from vicregl_bench.data import ade20k as ade
from vicregl_bench.errors import DataError
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.segmentation.dataset import LoadLabels, test_loader, train_loader

test_loader.__test__ = False  # type: ignore[attr-defined]


def loaded(transform: Any, mask: Path, zero_is_other: bool = False) -> npt.NDArray[np.uint8]:
    results: dict[str, Any] = {
        "seg_map_path": str(mask),
        "seg_fields": [],
        "label_map": None,
        "reduce_zero_label": zero_is_other,  # of mmseg's own transform
    }
    labels: npt.NDArray[np.uint8] = transform(results)["gt_seg_map"]
    return labels


def labels_of(dataset: SegmentationData, task: str) -> list[torch.Tensor]:
    """Labels (H, W) of the val pictures as they come out of the test loader."""
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    config = test_loader(dataset, dataset.val, load_task(task, "ci").settings.data, workers=0)
    built = Runner.build_dataloader(config, seed=0)
    assert built.dataset.metainfo["classes"] == dataset.classes
    return [batch["data_samples"][0].gt_sem_seg.data[0] for batch in built]


@pytest.mark.parametrize("name", ["voc", "cityscapes", "ade20k"])
def test_labels_are_those_of_the_data_set(name: str, request: pytest.FixtureRequest) -> None:
    dataset = read_segmentation(name, request.getfixturevalue(f"tiny_{name}"))
    for labels, pair in zip(labels_of(dataset, f"{name}_linear"), dataset.val, strict=True):
        expected = dataset.read_labels(pair)
        assert np.array_equal(labels.numpy(), expected)
        assert set(np.unique(expected)) <= {*range(len(dataset.classes)), 255}


def test_cityscapes_label_ids_become_train_ids(tiny_cityscapes: Path) -> None:
    from vicregl_bench.data.cityscapes import LABEL_IDS

    pairs = read_segmentation("cityscapes", tiny_cityscapes).val
    transform = LoadLabels(LABEL_IDS.lookup.tolist())
    for pair in pairs:
        by_id = Path(str(pair.mask).replace("labelTrainIds", "labelIds"))
        assert np.array_equal(loaded(transform, by_id), np.asarray(Image.open(pair.mask)))


def test_ade20k_equals_mmsegs_reduce_zero_label(tiny_ade20k: Path, shared: Path) -> None:
    masks = [pair.mask for pair in read_segmentation("ade20k", tiny_ade20k).val]
    masks += sorted((shared / "data/ade20k_sample/annotations").glob("*.png"))
    for mask in masks:
        peer = loaded(LoadAnnotations(), mask, zero_is_other=True)
        assert np.array_equal(loaded(LoadLabels(ade.MASKS.lookup.tolist()), mask), peer)


def test_other_of_ade20k_is_not_trained(tmp_path: Path) -> None:
    """Value 0 gives neither loss nor gradient; pixels beside it give what they would alone."""
    mask = np.zeros((8, 8), dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "other.png")
    mask[:3] = 150
    Image.fromarray(mask).save(tmp_path / "mixed.png")
    transform = LoadLabels(ade.MASKS.lookup.tolist())
    features = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    sweep = LinearSweep(5, 150, [HeadSpec(0.1, 0)])

    def trained(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.from_numpy(loaded(transform, tmp_path / name))[None]
        loss = sweep.accumulate_gradients(features, labels)[0]
        assert sweep.weights[0].grad is not None
        return loss, sweep.weights[0].grad

    loss, gradient = trained("other.png")
    # logarithms are summed and subtracted in float32
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
    assert float(gradient.abs().max()) == pytest.approx(0.0, abs=1e-7)
    loss, _ = trained("mixed.png")
    logits = torch.einsum("cd,dhw->chw", sweep.weights[0], features[0])[:, :3].flatten(1)
    alone = -logits.log_softmax(dim=0)[149].sum().detach() / 64
    assert float(loss) == pytest.approx(float(alone), rel=1e-5)


def test_real_ade20k_pairs_through_the_training_loader(shared: Path) -> None:
    folder = shared / "data/ade20k_sample"
    if not folder.is_dir():
        pytest.skip("no ADE20k pictures in ../shared/data/ade20k_sample")
    pictures = sorted((folder / "images").glob("*.jpg"))
    pairs = [Pair(p.stem, p, folder / "annotations" / f"{p.stem}.png") for p in pictures]
    assert len(pairs) == 3
    dataset = SegmentationData(
        name="ade20k",
        variant="challenge2016",
        root=folder,
        classes=ade.ADE20K_CLASSES,
        palette=((0, 0, 0),) * 150,
        masks=ade.MASKS,
        train=tuple(pairs),
        val=tuple(pairs),
        notes=(),
    )
    DefaultScope.get_instance("mmseg", scope_name="mmseg")
    data = load_task("ade20k_linear", "ci").settings.data
    config = train_loader(dataset, pairs, data, batch_size=3, seed=0, workers=0)
    batch = next(iter(Runner.build_dataloader(config, seed=0)))
    assert len(batch["inputs"]) == 3
    for picture, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
        labels = sample.gt_sem_seg.data
        assert picture.shape[1:] == labels.shape[1:]
        assert max(labels.shape[1:]) <= 256
        official = np.asarray(Image.open(sample.metainfo["seg_map_path"]))
        allowed = {255 if value == 0 else value - 1 for value in np.unique(official).tolist()}
        assert set(labels.unique().tolist()) <= allowed
        assert len(set(labels.unique().tolist()) - {255}) > 1


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png is of mode RGB"):
        loaded(LoadLabels(range(256)), tmp_path / "mask.png")
