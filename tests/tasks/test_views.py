"""Views of a picture under mmengine's loops, against mmsegmentation's own model of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.models import EncoderDecoder, SegTTAModel

from vicregl_bench.checkpoints import Card
from vicregl_bench.data import read_voc_segmentation
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.segmentation import dataset
from vicregl_bench.tasks.segmentation.metric import SweepIoUMetric
from vicregl_bench.tasks.segmentation.settings import TestSection
from vicregl_bench.tasks.segmentation.views import evaluated

DATA = load_task("voc_linear", "ci", {"data.test_resize": [128, 96]}).settings.data
TEST = TestSection(flip=True, scales=(0.5, 1.0))


def network(mode: dict[str, Any]) -> EncoderDecoder:
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = EncoderDecoder(
        data_preprocessor=dataset.preprocessor(DATA, Card("m", "t", "s")),
        backbone={"type": "ResNet", "depth": 18, "base_channels": 8, "norm_eval": True},
        decode_head={
            "type": "FCNHead",
            "in_channels": 8,
            "in_index": 0,
            "channels": 16,
            "num_convs": 1,
            "num_classes": 21,
            "align_corners": False,
            "norm_cfg": {"type": "BN"},
        },
        test_cfg=ConfigDict(mode),
    )
    weight = model.decode_head.conv_seg.weight
    with torch.no_grad():  # as many classes as can be, from features that are all positive
        weight.copy_(torch.randn_like(weight)).sub_(weight.mean(dim=1, keepdim=True))
    return model


def loader(root: Path, test: TestSection | None) -> dict[str, Any]:
    voc = read_voc_segmentation(root)
    return dataset.test_loader(voc, voc.val[:3], DATA, workers=0, test=test)


def run(root: Path, work: Path, model: torch.nn.Module, loop: str) -> SweepIoUMetric:
    metric = SweepIoUMetric(keep=[str(pair.image) for pair in read_voc_segmentation(root).val])
    kind = {"ValLoop": "val", "TestLoop": "test"}[loop]
    runner = Runner(
        model=model,
        work_dir=str(work),
        default_scope="mmseg",
        experiment_name=f"{work.name}-{loop}",
        **{
            f"{kind}_dataloader": loader(root, TEST),
            f"{kind}_cfg": {"type": loop},
            f"{kind}_evaluator": Evaluator([metric]),
        },
    )
    getattr(runner, kind)()
    return metric


@pytest.mark.parametrize(
    "mode", [{"mode": "whole"}, {"mode": "slide", "crop_size": (64, 64), "stride": (43, 43)}]
)
def test_both_loops_evaluate_what_mmsegmentation_predicts(
    mode: dict[str, Any], tiny_voc: Path, tmp_path: Path
) -> None:
    model = network(mode)
    in_val = run(tiny_voc, tmp_path, evaluated(model, TEST), "ValLoop")
    in_test = run(tiny_voc, tmp_path, evaluated(model, TEST), "TestLoop")
    theirs = SegTTAModel(module=model).eval()
    (kept,) = in_val.kept  # of the one head
    assert len(kept) == 3
    assert in_val.outcome is not None and in_test.outcome is not None
    batches = list(Runner.build_dataloader(loader(tiny_voc, TEST), seed=0))
    for index, (batch, plain) in enumerate(
        zip(batches, Runner.build_dataloader(loader(tiny_voc, None), seed=0), strict=True)
    ):
        with torch.no_grad():
            expected = theirs.test_step(batch)[0]
            unaugmented = model.test_step(plain)[0].pred_sem_seg.data
        labels = torch.from_numpy(kept[Path(expected.img_path).stem])[None]
        assert torch.equal(labels, expected.pred_sem_seg.data.to(torch.uint8))
        assert len(set(labels.flatten().tolist())) > 3
        assert not torch.equal(labels, unaugmented)
        right = (labels == expected.gt_sem_seg.data) & (expected.gt_sem_seg.data != 255)
        assert int(in_val.outcome.intersect[index].sum()) == int(right.sum())
    assert (in_val.outcome.intersect == in_test.outcome.intersect).all()
    assert in_val.outcome.names == in_test.outcome.names


def test_the_merged_sample_is_the_first_views_without_logits(tiny_voc: Path) -> None:
    model: Any = evaluated(network({"mode": "whole"}), TEST).eval()
    batch = next(iter(Runner.build_dataloader(loader(tiny_voc, TEST), seed=0)))
    with torch.no_grad():
        [sample] = model.val_step(batch)
    assert sample.img_path.endswith(".jpg") and not sample.flip
    assert sample.pred_sem_seg.shape == sample.gt_sem_seg.shape == sample.ori_shape
    assert "seg_logits" not in sample


def test_without_views_the_model_itself_is_evaluated() -> None:
    model = network({"mode": "whole"})
    assert evaluated(model, None) is model
