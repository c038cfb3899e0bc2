"""One head of ours against mmsegmentation's own EncoderDecoder with an FCNHead without layers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder, SegTTAModel
from mmseg.models.losses import CrossEntropyLoss
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode

from vicregl_bench.backbones.frozen import FrozenTrunk
from vicregl_bench.backbones.openmmlab import BenchBackbone  # noqa: F401  registered for mmseg
from vicregl_bench.backbones.resnet import build_resnet, random_resnet_state, resnet_options
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.backbones.zoo import find_architecture
from vicregl_bench.data import read_voc_segmentation
from vicregl_bench.heads.fcn_sweep import FcnSweep
from vicregl_bench.heads.linear_sweep import LinearSweep
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.tasks.protocol import load_task
from vicregl_bench.tasks.segmentation import dataset, frozen_segmentor
from vicregl_bench.tasks.segmentation.frozen_segmentor import FrozenSweepSegmentor, windows
from vicregl_bench.tasks.segmentation.settings import SlideSection, TestSection
from vicregl_bench.tasks.segmentation.sweeps import build_sweep, head_maps
from vicregl_bench.tasks.training import build_optimizer

SIZE, CLASSES, WIDTH = 96, 21, 512
PREPROCESSOR = {
    "type": "mmseg.SegDataPreProcessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "size": (SIZE, SIZE),
    "seg_pad_val": 255,
}


def damped_state() -> dict[str, torch.Tensor]:
    """Random weights whose features stay of a natural size, so that lr 0.1 trains."""
    state = random_resnet_state("resnet18", 0)
    return {k: v * 0.3 if k.endswith("bn2.weight") else v for k, v in state.items()}


def batch(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for height in (SIZE, 70):  # the second is padded
        inputs.append(
            torch.randint(0, 256, (3, height, SIZE), generator=generator, dtype=torch.uint8)
        )
        label = torch.randint(0, CLASSES, (1, height, SIZE), generator=generator)
        label[:, :7] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo({"img_shape": (height, SIZE)})
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def test_picture(original: tuple[int, int]) -> dict[str, Any]:
    picture = torch.randint(0, 256, (3, 64, 97), dtype=torch.uint8)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, *original, dtype=torch.long)))
    sample.set_metainfo({"img_shape": (64, 97), "ori_shape": original})
    return {"inputs": [picture], "data_samples": [sample]}


test_picture.__test__ = False  # type: ignore[attr-defined]


def peer() -> tuple[EncoderDecoder, OptimWrapper]:
    init_default_scope("mmseg")
    model = EncoderDecoder(
        data_preprocessor=PREPROCESSOR,
        backbone={
            "type": "ResNet",
            **resnet_options("resnet18", 16),
            "frozen_stages": 4,
            "norm_eval": True,
        },
        decode_head={
            "type": "FCNHead",
            "in_channels": WIDTH,
            "in_index": 3,
            "channels": WIDTH,
            "num_convs": 0,
            "concat_input": False,
            "dropout_ratio": 0.0,
            "num_classes": CLASSES,
            "align_corners": False,
            "loss_decode": {"type": CrossEntropyLoss},
        },
        test_cfg=ConfigDict(mode="whole"),
    )
    model.backbone.load_state_dict(damped_state())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 2
    return model, OptimWrapper(torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=5e-4))


def ours(
    heads: list[HeadSpec], slide: SlideSection | None = None
) -> tuple[FrozenSweepSegmentor, OptimWrapper]:
    backbone = build_resnet("resnet18", 16)
    backbone.load_state_dict(damped_state())
    sweep = LinearSweep(WIDTH, CLASSES, heads)
    model = FrozenSweepSegmentor(FrozenTrunk(backbone), sweep, PREPROCESSOR, slide=slide)
    optimizer = torch.optim.SGD(sweep.param_groups(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    return model, OptimWrapper(optimizer)


def linear_heads(model: FrozenSweepSegmentor) -> LinearSweep:
    assert isinstance(model.sweep, LinearSweep)
    return model.sweep


def test_twenty_iterations_equal_mmsegmentation() -> None:
    theirs, their_wrapper = peer()
    mine, my_wrapper = ours([HeadSpec(0.01, 3), HeadSpec(0.1, 0)])
    head = theirs.decode_head.conv_seg
    with torch.no_grad():
        head.weight.copy_(linear_heads(mine).weights[1][:, :, None, None])
        head.bias.zero_()
    begun = head.weight.detach().clone()
    for step in range(20):
        theirs.train()
        mine.train()
        their_log = theirs.train_step(batch(step), their_wrapper)
        losses = mine.loss(**mine.data_preprocessor(batch(step), True))["loss_per_head"]
        my_wrapper.step()
        my_wrapper.zero_grad()
        assert float(losses[1]) == pytest.approx(float(their_log["loss"].detach()), rel=1e-5)
    for one, other in (
        (linear_heads(mine).weights[1], head.weight[:, :, 0, 0]),
        (linear_heads(mine).biases[1], head.bias),
    ):
        # two ways of summing in float32, twenty iterations on
        assert float(((one - other).norm() / other.norm()).detach()) < 2e-5
    moved = (head.weight.detach() - begun).norm()
    assert float(moved) > 0.05 * float(begun.norm())


@pytest.mark.parametrize("slide", [None, SlideSection(crop=48, stride=32)])
@pytest.mark.parametrize("original", [(64, 97), (120, 181), (41, 60)])
def test_predictions_equal_mmsegmentation(
    original: tuple[int, int], slide: SlideSection | None
) -> None:
    theirs, _ = peer()
    if slide is not None:
        sizes = {"crop_size": (slide.crop,) * 2, "stride": (slide.stride,) * 2}
        theirs.test_cfg = ConfigDict(mode="slide", **sizes)
    mine, _ = ours([HeadSpec(0.1, 0), HeadSpec(0.1, 1)], slide)
    theirs.eval()
    for k in range(2):
        with torch.no_grad():
            theirs.decode_head.conv_seg.weight.copy_(
                linear_heads(mine).weights[k][:, :, None, None]
            )
            theirs.decode_head.conv_seg.bias.zero_()
            torch.manual_seed(0)
            expected = theirs.test_step(test_picture(original))[0].pred_sem_seg.data[0]
        torch.manual_seed(0)
        labels = mine.test_step(test_picture(original))[0].pred_sem_seg.data
        assert labels.shape == (2, *original)
        # a pixel on the border of two classes may fall to either side by rounding
        assert float((labels[k] == expected).float().mean()) > 0.999
    assert not torch.equal(labels[0], labels[1])


@pytest.mark.parametrize("slide", [None, SlideSection(crop=48, stride=32)])
def test_mean_over_views_equals_mmsegmentation(slide: SlideSection | None, tiny_voc: Path) -> None:
    theirs, _ = peer()
    if slide is not None:
        sizes = {"crop_size": (slide.crop,) * 2, "stride": (slide.stride,) * 2}
        theirs.test_cfg = ConfigDict(mode="slide", **sizes)
    mine, _ = ours([HeadSpec(0.1, 0), HeadSpec(0.1, 1)], slide)
    of_views = SegTTAModel(module=theirs).eval()
    mine.eval()
    voc = read_voc_segmentation(tiny_voc)
    data = load_task("voc_linear", "ci", {"data.test_resize": [96, 80]}).settings.data
    test = TestSection(flip=True, scales=(0.5, 1.0))
    plain, views = (
        Runner.build_dataloader(
            dataset.test_loader(voc, voc.val[:2], data, workers=0, test=given), seed=0
        )
        for given in (None, test)
    )
    for one, several in zip(plain, views, strict=True):
        with torch.no_grad():
            sample = mine.val_step(several)[0]
            labels = sample.pred_sem_seg.data
            unaugmented = mine.test_step(one)[0]
        for key in ("img_path", "ori_shape"):
            assert getattr(sample, key) == getattr(unaugmented, key)
        assert torch.equal(sample.gt_sem_seg.data, unaugmented.gt_sem_seg.data)
        for k in range(2):
            with torch.no_grad():
                theirs.decode_head.conv_seg.weight.copy_(
                    linear_heads(mine).weights[k][:, :, None, None]
                )
                theirs.decode_head.conv_seg.bias.zero_()
                expected = of_views.test_step(several)[0].pred_sem_seg.data[0]
            # a pixel on the border of two classes may fall to either side by rounding
            assert float((labels[k] == expected).float().mean()) > 0.999
            assert float((unaugmented.pred_sem_seg.data[k] == expected).float().mean()) < 0.99


def test_four_maps_equal_mmsegmentations_concatenation() -> None:
    """A ConvNeXt's stages under mmseg's `resize_concat`: losses and predictions of one head."""
    source = read_backbone("random:convnext_atto_no_layerscale")
    width = sum(source.architecture.widths)
    sweep = LinearSweep(width, CLASSES, [HeadSpec(0.1, 0)])
    mine = FrozenSweepSegmentor(
        FrozenTrunk(source.build()),
        sweep,
        PREPROCESSOR,
        maps=source.architecture.segmentation,
        slide=SlideSection(crop=64, stride=43),
    )
    init_default_scope("mmseg")
    head = {
        "type": "FCNHead",
        "in_channels": list(source.architecture.widths),
        "in_index": [0, 1, 2, 3],
        "input_transform": "resize_concat",
        "channels": width,
        "num_convs": 0,
        "concat_input": False,
        "dropout_ratio": 0.0,
        "num_classes": CLASSES,
        "align_corners": False,
    }
    theirs = EncoderDecoder(
        data_preprocessor=PREPROCESSOR,
        backbone={"type": "BenchBackbone", "ckpt": "random:convnext_atto_no_layerscale"},
        decode_head=head,
        test_cfg=ConfigDict(mode="slide", crop_size=(64, 64), stride=(43, 43)),
    )
    with torch.no_grad():
        theirs.decode_head.conv_seg.weight.copy_(sweep.weights[0][:, :, None, None])
        theirs.decode_head.conv_seg.bias.zero_()
    wrapper = OptimWrapper(torch.optim.AdamW(theirs.decode_head.conv_seg.parameters(), lr=1e-3))
    my_wrapper = OptimWrapper(torch.optim.AdamW(sweep.param_groups()))
    my_wrapper.param_groups[0]["lr"] = 1e-3
    for step in range(5):
        theirs.train()
        their_log = theirs.train_step(batch(step), wrapper)
        losses = mine.loss(**mine.data_preprocessor(batch(step), True))["loss_per_head"]
        my_wrapper.step()
        my_wrapper.zero_grad()
        assert float(losses[0]) == pytest.approx(float(their_log["loss"].detach()), rel=1e-4)
    theirs.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        expected = theirs.test_step(test_picture((80, 120)))[0].pred_sem_seg.data[0]
    torch.manual_seed(0)
    labels = mine.test_step(test_picture((80, 120)))[0].pred_sem_seg.data[0]
    assert float((labels == expected).float().mean()) > 0.999


def two_classes(seed: int) -> dict[str, Any]:
    """A batch of which there is something to learn."""
    made = batch(seed)
    for sample in made["data_samples"]:
        sample.gt_sem_seg.data[:, 7:] %= 2
    return made


def test_an_fcn_head_equals_mmsegmentation() -> None:
    """A frozen FCN with its auxiliary head, built from the task: losses and predictions."""
    changes = {
        "fcn.channels": 32,
        "fcn.auxiliary.channels": 16,
        "fcn.dropout": 0.0,  # ours draws from a stream of its own
        "fcn.auxiliary.dropout": 0.0,
        "sweep.lrs": [0.5, 0.1],
    }
    task = load_task("voc_fcn", "ci", changes, family="resnet", arch="resnet18")
    architecture = find_architecture("resnet18")
    stride = task.settings.backbone.output_stride
    assert stride == 16
    backbone = build_resnet("resnet18", stride)
    backbone.load_state_dict(damped_state())
    sweep = build_sweep(task.settings, architecture)
    assert isinstance(sweep, FcnSweep)
    mine = FrozenSweepSegmentor(
        FrozenTrunk(backbone), sweep, PREPROCESSOR, maps=head_maps(task.settings, architecture)
    )
    my_wrapper = build_optimizer(task, sweep.param_groups())
    init_default_scope("mmseg")
    common = {
        "type": "FCNHead",
        "dropout_ratio": 0.0,
        "num_classes": CLASSES,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "align_corners": False,
    }
    loss = {"type": CrossEntropyLoss, "use_sigmoid": False}
    theirs = EncoderDecoder(
        data_preprocessor=PREPROCESSOR,
        backbone={
            "type": "ResNet",
            **resnet_options("resnet18", 16),
            "frozen_stages": 4,
            "norm_eval": True,
        },
        decode_head=common
        | {"in_channels": 512, "in_index": 3, "channels": 32, "num_convs": 2}
        | {"concat_input": True, "loss_decode": loss | {"loss_weight": 1.0}},
        auxiliary_head=common
        | {"in_channels": 256, "in_index": 2, "channels": 16, "num_convs": 1}
        | {"concat_input": False, "loss_decode": loss | {"loss_weight": 0.4}},
        test_cfg=ConfigDict(mode="whole"),
    )
    theirs.backbone.load_state_dict(damped_state())
    theirs.decode_head.load_state_dict(sweep.decode_heads[1].state_dict())
    theirs.auxiliary_head.load_state_dict(sweep.auxiliary_heads[1].state_dict())
    trained = [p for p in theirs.parameters() if p.requires_grad]
    assert len(trained) == len(sweep.head_parameters(1))
    wrapper = OptimWrapper(torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=5e-4))
    seen: list[float] = []
    for step in range(5):
        theirs.train()
        mine.train()
        their_log = theirs.train_step(two_classes(step), wrapper)
        losses = mine.loss(**mine.data_preprocessor(two_classes(step), True))["loss_per_head"]
        my_wrapper.step()
        my_wrapper.zero_grad()
        assert float(losses[1]) == pytest.approx(float(their_log["loss"].detach()), rel=1e-4)
        seen.append(float(losses[1]))
    assert seen[-1] < 0.95 * seen[0]  # it did learn
    theirs.eval()
    mine.eval()
    with torch.no_grad():
        torch.manual_seed(0)
        expected = theirs.test_step(test_picture((120, 181)))[0].pred_sem_seg.data[0]
        torch.manual_seed(0)
        labels = mine.test_step(test_picture((120, 181)))[0].pred_sem_seg.data
    # a pixel on the border of two classes may fall to either side by rounding
    assert float((labels[1] == expected).float().mean()) > 0.999
    assert float((labels[0] == expected).float().mean()) < 0.99


def test_windows_cover_and_end_with_the_picture() -> None:
    rows = [rows for rows, columns in windows((100, 40), 48, 32) if columns.start == 0]
    assert [(r.start, r.stop) for r in rows] == [(0, 48), (32, 80), (52, 100)]
    assert {(c.start, c.stop) for _, c in windows((100, 40), 48, 32)} == {(0, 40)}


def test_the_trunk_is_neither_saved_nor_trained() -> None:
    mine, wrapper = ours([HeadSpec(0.1, 0)])
    assert not [key for key in mine.state_dict() if "layer" in key]
    mine.train()
    mine.train_step(batch(0), wrapper)
    assert mine._trunk.unchanged()
    assert wrapper.optimizer.param_groups[0]["lr"] == 0.1


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple) else (made,):
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.numel() * one.element_size())
        return made


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("slide", [None, SlideSection(crop=64, stride=43)])
def test_150_classes_are_labelled_a_few_at_a_time(
    slide: SlideSection | None, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tensor of a picture's size holds more than the budget, and the labels are the same."""
    torch.manual_seed(0)
    backbone = build_resnet("resnet18x0.25", 32)
    count = 15 if views == 1 else 3
    heads = [HeadSpec(0.1, seed) for seed in range(count)]
    model = FrozenSweepSegmentor(
        FrozenTrunk(backbone), LinearSweep(128, 150, heads), PREPROCESSOR, slide=slide
    ).eval()
    picture = test_picture((180, 260))
    if views > 1:
        several = [picture, test_picture((180, 260))]
        picture = {key: [view[key] for view in several] for key in picture}
    at_once = model.test_step(picture)[0].pred_sem_seg.data
    budget = 1 << 21  # of all heads and classes together it would be 421 MB, of one head 28 MB
    monkeypatch.setattr(frozen_segmentor, "_BUDGET_BYTES", budget)
    with LargestTensor() as largest:
        labels = model.test_step(picture)[0].pred_sem_seg.data
    assert largest.bytes <= budget
    assert labels.shape == (count, 180, 260)
    assert int(labels.max()) > (127 if views == 1 else 63)  # 11 classes fit the budget
    if views == 1:
        assert torch.equal(labels, at_once)
    else:  # probabilities are normalised in another order
        assert float((labels == at_once).float().mean()) > 0.999
