"""The detectors against mmdetection's own, built from its configs, and what they are made of."""

from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
import torchvision
from mmcv import ops
from mmdet.models import FasterRCNN, MaskRCNN
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from tests.tasks.detection.pictures import (
    CLASSES,
    PREPROCESSOR,
    SCALE,
    SIDE,
    batch,
    losses,
    predictions,
)
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.detection.models import (
    FasterRCNNOptions,
    MaskRCNNOptions,
    build_frcnn_c4,
    build_mask_rcnn_fpn,
)

MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim/configs/_base_/models"
SMALL: dict[str, Any] = {
    "proposals_train": (200, 50),
    "proposals_test": (100, 20),
    "anchors": 64,
    "regions": 32,
}
SMALL_FPN: dict[str, Any] = {**SMALL, "channels": 16, "fc_channels": 32}
BOX_LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "acc"}
TINY = "resnet18x0.25"
ARCHS = [TINY, "convnext_atto", "vit_tiny_patch16"]


def c4(arch: str = TINY, run_seed: int = 0, head_seed: int = 0, **options: Any) -> Any:
    return build_frcnn_c4(
        read_backbone(f"random:{arch}"),
        FasterRCNNOptions(**{**SMALL, **options}),
        num_classes=CLASSES,
        data_preprocessor=PREPROCESSOR,
        run_seed=run_seed,
        head_seed=head_seed,
    )


def fpn(arch: str = TINY, **options: Any) -> Any:
    return build_mask_rcnn_fpn(
        read_backbone(f"random:{arch}"),
        MaskRCNNOptions(**{**SMALL_FPN, **options}),
        num_classes=CLASSES,
        data_preprocessor=PREPROCESSOR,
        run_seed=0,
        head_seed=0,
    )


def step(model: Any) -> dict[str, Any]:
    found = losses(model, batch())
    sum(value for name, value in found.items() if "loss" in name).backward()
    return found


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_training_step_reaches_every_parameter(arch: str) -> None:
    model = c4(arch)
    found = step(model)
    assert set(found) == BOX_LOSSES
    assert all(torch.isfinite(value).all() for value in found.values())
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []  # distributed training would wait for them
    first = next(model.backbone.parameters())
    norm = model.roi_head.shared_head.norm.weight
    for parameter in (first, next(model.roi_head.shared_head.stage.parameters()), norm):
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("arch", ARCHS)
def test_boxes_are_of_the_original_pictures(arch: str) -> None:
    data = batch()
    found = predictions(c4(arch), data)
    for instances, sample in zip(found, data["data_samples"], strict=True):
        height, width = sample.ori_shape
        assert 0 < len(instances) <= 100
        assert instances.scores.min() > 0.05
        assert int(instances.labels.min()) >= 0 and int(instances.labels.max()) < CLASSES
        assert (instances.bboxes >= 0).all()
        assert (instances.bboxes <= torch.tensor([width, height, width, height])).all()
        assert instances.bboxes[:, 2].max() > width * SCALE


def test_parameters_are_those_of_the_paper() -> None:
    """ResNet, RPN with 15 anchors, extra BatchNorm, a linear layer each for classes and boxes."""
    rpn = 64 * 64 * 9 + 64 + 64 * 15 + 15 + 64 * 60 + 60
    linear = 128 * (CLASSES + 1) + CLASSES + 1 + 128 * 4 * CLASSES + 4 * CLASSES
    backbone = count(read_backbone(f"random:{TINY}").build())
    assert count(c4()) == backbone + rpn + 2 * 128 + linear
    assert count(c4(rpn_channels=8)) < count(c4())


def test_new_layers_follow_from_the_seeds() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = c4().state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    again, other = c4().state_dict(), c4(head_seed=1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    differ = {name for name, value in first.items() if not torch.equal(value, other[name])}
    layers = (
        "rpn_head.rpn_conv",
        "rpn_head.rpn_cls",
        "rpn_head.rpn_reg",
        "roi_head.bbox_head.fc_cls",
        "roi_head.bbox_head.fc_reg",
    )
    assert differ == {f"{layer}.weight" for layer in layers}
    for layer, std in zip(layers, (0.01, 0.01, 0.01, 0.01, 0.001), strict=True):
        weight = first[f"{layer}.weight"]
        # the standard deviation of n values is known to 1 / sqrt(2 n); four times that
        assert weight.std() == pytest.approx(std, rel=4 / (2 * weight.numel()) ** 0.5)
        assert not first[f"{layer}.bias"].any()


def test_the_runner_does_not_initialise_again() -> None:
    for model in (c4(), fpn()):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.init_weights()
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_class_of_ones_own_is_built() -> None:
    class Mine(FasterRCNN):  # type: ignore[misc]
        pass

    model = build_frcnn_c4(
        read_backbone(f"random:{TINY}"),
        FasterRCNNOptions(),
        num_classes=CLASSES,
        data_preprocessor=PREPROCESSOR,
        run_seed=0,
        head_seed=0,
        detector=Mine,
    )
    assert isinstance(model, Mine)


@pytest.mark.parametrize("arch", [TINY, "vit_small_patch14_dinov2"])
def test_anchors_are_detectron2s(arch: str) -> None:
    """Its cells: for each area and ratio r = h / w, w = sqrt(area / r), around the corner."""
    generator = c4(arch).rpn_head.prior_generator
    expected = []
    for size in (32, 64, 128, 256, 512):
        for ratio in (0.5, 1.0, 2.0):
            width = (size**2 / ratio) ** 0.5
            expected.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    (base,) = generator.base_anchors
    order = torch.arange(15).reshape(5, 3).T.reshape(-1)  # by ratio, then size
    torch.testing.assert_close(base, torch.tensor(expected)[order])
    stride = 14 if "14" in arch else 16
    (grid,) = generator.grid_priors([(2, 3)], device="cpu")
    torch.testing.assert_close(grid[15 * 4], base[0] + stride)


def mmdet_config(name: str) -> Any:
    """Mmdetection's own; of C4 with detectron2's rule for an object's best anchor."""
    if not MMDET_CONFIGS.is_dir():
        pytest.skip("this mmdetection came without its configs")
    config = Config.fromfile(MMDET_CONFIGS / name).model
    if "shared_head" in config.roi_head:
        config.train_cfg.rpn.assigner.min_pos_iou = 1e-6
    return config


def peer(name: str, detector: Any, model: Any) -> Any:
    """Mmdetection's detector of its own config and modules, with a ResNet-18 and our weights."""
    config = mmdet_config(name)
    norm = {"type": "BN", "requires_grad": True}
    trained = {"norm_cfg": norm, "norm_eval": False, "style": "pytorch"}
    config.backbone.update(depth=18, frozen_stages=-1, init_cfg=None, **trained)
    config.data_preprocessor.update(PREPROCESSOR, type="mmdet.DetDataPreprocessor")
    head = config.roi_head
    head.bbox_head.num_classes = CLASSES
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        if extractor in head:
            head[extractor].roi_layer.use_torchvision = True
    if "shared_head" in head:
        head.shared_head.update(depth=18, init_cfg=None, **trained)
        head.bbox_roi_extractor.out_channels, head.bbox_head.in_channels = 256, 512
        config.rpn_head.update(in_channels=256, feat_channels=256)
        config.data_preprocessor.pad_size_divisor = 1
    else:
        head.mask_head.num_classes = CLASSES
        config.neck.in_channels = [64, 128, 256, 512]
    config.train_cfg.rpn.sampler.num = SMALL["anchors"]
    config.train_cfg.rcnn.sampler.num = SMALL["regions"]
    for settings, counts in (
        (config.train_cfg.rpn_proposal, SMALL["proposals_train"]),
        (config.test_cfg.rpn, SMALL["proposals_test"]),
    ):
        settings.nms_pre, settings.max_per_img = counts
    config.pop("type")
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = detector(**config)
    renamed = {
        key.replace("backbone.body.", "backbone.").replace("head.stage.", "head.layer4."): value
        for key, value in model.state_dict().items()
        if ".shared_head.norm." not in key
    }
    built.load_state_dict(renamed, strict=True)
    return built.train()


def agree(ours: Any, theirs: Any) -> None:
    """Losses, gradients and predictions of one batch, samplers seeded alike."""
    found, expected = losses(ours, batch()), losses(theirs, batch())
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for all_losses in (found, expected):
        sum(value for name, value in all_losses.items() if "loss" in name).backward()
    for mine, its in (
        (ours.backbone.body.conv1, theirs.backbone.conv1),
        (ours.roi_head.bbox_head.fc_reg, theirs.roi_head.bbox_head.fc_reg),
    ):
        torch.testing.assert_close(mine.weight.grad, its.weight.grad, rtol=1e-3, atol=1e-6)
    for mine, its in zip(predictions(ours, batch()), predictions(theirs, batch()), strict=True):
        assert len(mine) == len(its) > 0
        torch.testing.assert_close(mine.bboxes, its.bboxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(mine.scores, its.scores)
        assert torch.equal(mine.labels, its.labels)
        if "masks" in its:
            assert torch.equal(mine.masks, its.masks)


def test_c4_is_mmdets_but_for_the_extra_norm() -> None:
    """Their samplers are made as small as ours, which keeps the test short."""
    ours = c4("resnet18")
    ours.roi_head.shared_head.norm = nn.Identity()
    theirs = peer("faster-rcnn_r50-caffe-c4.py", FasterRCNN, ours)
    agree(ours, theirs)


def test_fpn_is_mmdets() -> None:
    ours = fpn("resnet18", channels=256, fc_channels=1024)
    theirs = peer("mask-rcnn_r50_fpn.py", MaskRCNN, ours)
    agree(ours, theirs)


@pytest.mark.parametrize(
    ("build", "name"),
    [(c4, "faster-rcnn_r50-caffe-c4.py"), (fpn, "mask-rcnn_r50_fpn.py")],
)
def test_settings_are_those_of_mmdets_configs(build: Any, name: str) -> None:
    options = FasterRCNNOptions() if build is c4 else MaskRCNNOptions()
    ours = build(**{key: getattr(options, key) for key in SMALL})
    theirs = mmdet_config(name)
    assert (ours.train_cfg, ours.test_cfg) == (theirs.train_cfg, theirs.test_cfg)


def test_the_extra_norm_comes_last_in_the_region_head() -> None:
    model = c4()
    head = model.roi_head.shared_head
    regions = torch.randn(4, 64, 14, 14)
    features = head(regions)
    torch.testing.assert_close(features.mean((0, 2, 3)), torch.zeros(128), rtol=0, atol=1e-5)
    assert isinstance(head.norm, nn.BatchNorm2d) and head.norm.weight.eq(1).all()


def test_lars_weighs_the_rpn_down() -> None:
    usual, lars = losses(c4(), batch()), losses(c4(rpn_loss_weight=0.2), batch())
    for name, value in usual.items():
        factor = 0.2 if "rpn" in name else 1.0
        torch.testing.assert_close(lars[name], factor * value)


def test_regions_are_torchvisions() -> None:
    extractor = c4().roi_head.bbox_roi_extractor
    features = torch.randn(2, 64, 6, 7)
    rois = torch.tensor([[0.0, 3, 5, 60, 77], [1, 0, 0, 111, 95], [1, 20, 20, 22, 21]])
    expected = torchvision.ops.roi_align(features, rois, 14, 1 / 16, 0, aligned=True)
    assert torch.equal(extractor((features,), rois), expected)


def test_suppression_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator) * 80
    boxes = torch.cat([corners, corners + 5 + torch.rand(300, 2, generator=generator) * 40], 1)
    scores, labels = torch.rand(300, generator=generator), torch.arange(300) % 3
    _, kept = ops.nms(boxes, scores, 0.5)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, 0.5))
    settings = ConfigDict(type="nms", iou_threshold=0.7)
    _, kept = ops.batched_nms(boxes, scores, labels, settings)
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, labels, 0.7))


@pytest.mark.parametrize("arch", [TINY, "convnext_atto"])
def test_masks_are_trained_and_found_in_the_original_pictures(arch: str) -> None:
    model = fpn(arch)
    found = step(model)
    assert set(found) == BOX_LOSSES | {"loss_mask"}
    assert all(torch.isfinite(value).all() for value in found.values())
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.requires_grad for p in model.parameters())
    data = batch()
    for instances, sample in zip(predictions(model, data), data["data_samples"], strict=True):
        assert instances.masks.dtype == torch.bool
        assert instances.masks.shape == (len(instances), *sample.ori_shape)
        assert instances.bboxes[:, 2].max() > SIDE


def test_impossible_backbones() -> None:
    with pytest.raises(ConfigError, match="strides"):
        fpn("vit_tiny_patch16")
    with pytest.raises(ConfigError, match="cannot be split"):
        c4("swin_tiny_patch4_window7")
