import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from vicregl_bench.engine.settings import build_settings, flatten, parse_overrides
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.detection.settings import DetectionSettings
from vicregl_bench.tasks.protocol import (
    SETTINGS,
    config_folder,
    load_task,
    protocol_info,
    task_names,
)
from vicregl_bench.tasks.segmentation.settings import SegmentationSettings
from vicregl_bench.tasks.settings import WarmupSection

GOLDEN = Path(__file__).parents[1] / "golden"


def segmentation(name: str, profile: str = "paper", **options: Any) -> SegmentationSettings:
    settings = load_task(name, profile, **options).settings
    assert isinstance(settings, SegmentationSettings)
    return settings


def detection(name: str, profile: str = "paper", **options: Any) -> DetectionSettings:
    settings = load_task(name, profile, **options).settings
    assert isinstance(settings, DetectionSettings)
    return settings


def test_voc_linear_is_the_papers_text() -> None:
    task, s = load_task("voc_linear"), segmentation("voc_linear")
    assert (task.info.name, task.info.version, task.profile) == ("voc_linear", 1, "paper")
    assert s.backbone.output_stride == 16
    assert s.head and (s.head.batch_norm, s.head.dropout) == (False, 0.0)
    assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.02, 0.01)
    assert s.sweep.seeds == 3
    assert (s.schedule.iters, s.schedule.batch_size) == (40000, 16)
    assert (s.schedule.optimizer.momentum, s.schedule.optimizer.weight_decay) == (0.9, 5e-4)
    poly = s.schedule.poly
    assert poly and (poly.power, poly.eta_min) == (0.9, 1e-4)
    assert (s.data.variant, s.data.crop, s.data.resize) == ("voc12aug", (512, 512), (2048, 512))
    assert (s.data.ratio_range, s.data.cat_max_ratio) == ((0.5, 2.0), 0.75)
    assert task.deviations == ()


KINDS = {  # what of a protocol may be another: family and, where it counts, architecture
    "": ("resnet", "resnet50"),
    "-convnext": ("convnext", "convnext_small_no_layerscale"),
    "-convnext_xlarge": ("convnext", "convnext_xlarge_no_layerscale"),
    "-vit": ("vit", "vit_base_patch16"),
    "-swin": ("swin", "swin_tiny_patch4_window7"),
}


def _is_for(name: str, family: str) -> bool:
    only = protocol_info(name).only
    return only is None or family in only


def _differs(name: str) -> bool:
    """Whether a protocol has other numbers for other families."""
    config = Config.fromfile(config_folder() / f"{name}.py")
    return bool(config.get("families")) or len(config["profiles"]) > 2


def _presets(name: str, kind: str) -> dict[str, str | None]:
    """End of a golden file's name -> preset; ResNets have several."""
    several = name == "voc_det_frcnn_c4" and not kind
    return {"": "moco", "-lars": "lars"} if several else {"": None}


@pytest.mark.parametrize(
    ("name", "kind", "preset"),
    [
        (name, kind, preset)
        for name in task_names()
        for kind in KINDS
        if _is_for(name, KINDS[kind][0])
        for preset in _presets(name, kind)
    ],
)
@pytest.mark.parametrize("profile", ["paper", "ci"])
def test_no_number_changes_without_a_new_version(
    name: str, profile: str, kind: str, preset: str
) -> None:
    """The golden file holds every setting; a change of one needs a new version and a new file."""
    family, arch = KINDS[kind]
    chosen = _presets(name, kind)[preset]
    task = load_task(name, profile, family=family, arch=arch, preset=chosen)
    of = kind if _differs(name) else ""
    file = GOLDEN / f"{name}-v{task.info.version}-{profile}{of}{preset}.json"
    assert task.settings.dump() == json.loads(file.read_text())


def test_every_golden_file_is_of_a_protocol() -> None:
    expected = {
        f"{name}-v{protocol_info(name).version}-{profile}{kind}{preset}.json"
        for name in task_names()
        for profile in ("paper", "ci")
        for kind in (KINDS if _differs(name) else [""])
        if _is_for(name, KINDS[kind][0])
        for preset in _presets(name, kind)
    }
    assert {path.name for path in GOLDEN.glob("*.json")} == expected


def test_released_differs_where_the_released_configs_do() -> None:
    s = segmentation("voc_linear_released")
    assert s.backbone.output_stride == 8
    assert s.head and (s.head.batch_norm, s.head.dropout, s.head.init_std) == (True, 0.1, 0.01)
    assert s.sweep.lrs == (0.01,)


def test_cityscapes_is_the_papers_text_and_the_released_crop() -> None:
    s = segmentation("cityscapes_linear")
    assert (s.data.dataset, s.data.variant, s.data.num_classes) == ("cityscapes", "fine", 19)
    assert (s.data.crop, s.data.resize) == ((512, 512), (2048, 1024))
    assert s.data.test_resize == (2048, 1024) and s.slide is None  # whole pictures
    assert (s.schedule.iters, s.schedule.batch_size) == (40000, 8)
    assert s.head and (s.backbone.output_stride, s.head.batch_norm) == (16, False)
    assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.02, 0.01)
    released = segmentation("cityscapes_linear_released")
    assert released.data.crop == (512, 1024)  # (height, width)
    assert released.head and released.head.dropout == 0.1
    assert released.backbone.output_stride == 8
    assert (released.schedule.batch_size, released.sweep.lrs) == (8, (0.01,))
    other = segmentation("cityscapes_linear_released", family="convnext")
    assert (other.data.crop, other.schedule.batch_size) == ((512, 512), 8)


def test_ade20k_is_the_papers_text() -> None:
    s = segmentation("ade20k_linear", family="vit")
    assert (s.data.dataset, s.data.num_classes) == ("ade20k", 150)
    assert (s.data.crop, s.data.resize) == ((512, 512), (2048, 512))
    assert (s.schedule.iters, s.schedule.batch_size) == (160000, 16)
    assert (s.schedule.optimizer.type, s.schedule.optimizer.weight_decay) == ("AdamW", 0.05)
    assert s.schedule.warmup and s.schedule.warmup.iters == 1500
    assert s.schedule.warmup.start_factor == 1e-6
    assert s.schedule.poly and s.schedule.poly.power == 1.0
    assert s.slide and (s.slide.crop, s.slide.stride) == (512, 341)
    assert s.sweep.lrs == (1e-3, 8e-4, 3e-4, 1e-4, 8e-5)
    resnet = segmentation("ade20k_linear")
    assert (resnet.schedule.iters, resnet.schedule.optimizer.type) == (160000, "SGD")
    xlarge = segmentation(
        "ade20k_linear_released", family="convnext", arch="convnext_xlarge_no_layerscale"
    )
    assert (xlarge.sweep.lrs, xlarge.schedule.iters) == ((8e-5,), 160000)


FINE_TUNED = ["voc_linear_ft", "cityscapes_linear_ft", "ade20k_linear_ft"]
FCN = ["voc_fcn", "voc_fcn_ft"]


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("voc_linear_ft", ("1", "2")),
        ("cityscapes_linear_ft", ()),  # only VOC has a fine-tuned column
        ("ade20k_linear_ft", ()),
        ("voc_fcn", ("8",)),
        ("voc_fcn_ft", ("8",)),
        ("voc_det_linear", ("9",)),
        ("voc_det_frcnn_c4", ("9",)),
        ("coco_maskrcnn", ()),  # VICReg's table
        ("coco_semi_maskrcnn", ("10",)),
        *((f"coco_semi_maskrcnn_{percent}pct", ()) for percent in (1, 2, 5)),  # table 10 has 10 %
    ],
)
def test_tables_of_the_paper(name: str, tables: tuple[str, ...]) -> None:
    assert protocol_info(name).tables == tables


@pytest.mark.parametrize(
    ("name", "kind", "frozen"),
    [
        ("voc_linear", "segmentation_linear_frozen", True),
        ("voc_linear_ft", "segmentation_linear_finetuned", False),
        ("cityscapes_linear_ft", "segmentation_linear_finetuned", False),
        ("ade20k_linear_ft", "segmentation_linear_finetuned", False),
        ("voc_fcn", "segmentation_fcn_frozen", True),
        ("voc_fcn_ft", "segmentation_fcn_finetuned", False),
        ("voc_det_linear", "detection_linear_frozen", True),
        ("voc_det_frcnn_c4", "detection_c4_finetuned", False),
        ("coco_maskrcnn", "detection_mask_rcnn_finetuned", False),
        ("coco_semi_maskrcnn", "detection_mask_rcnn_finetuned", False),
        ("coco_semi_maskrcnn_1pct", "detection_mask_rcnn_finetuned", False),
    ],
)
def test_kinds(name: str, kind: str, frozen: bool) -> None:
    info = protocol_info(name)
    assert (info.kind, info.frozen, info.version) == (kind, frozen, 1)
    assert info.domain == kind.split("_")[0]


@pytest.mark.parametrize(
    ("name", "iters", "batch", "resize"),
    [
        ("voc_linear_ft", 40000, 16, (2048, 512)),
        ("cityscapes_linear_ft", 40000, 8, (2048, 1024)),
        ("ade20k_linear_ft", 160000, 16, (2048, 512)),
    ],
)
@pytest.mark.parametrize("family", ["resnet", "convnext", "vit", "swin"])
def test_linear_fine_tuned_is_the_papers_text(
    name: str, iters: int, batch: int, resize: tuple[int, int], family: str
) -> None:
    s = segmentation(name, family=family)
    assert (s.schedule.iters, s.schedule.batch_size) == (iters, batch)
    assert (s.data.crop, s.data.resize) == ((512, 512), resize)
    assert s.head and (s.head.batch_norm, s.head.dropout, s.head.init_std) == (False, 0.0, 0.01)
    assert s.fcn is None and s.test is None and s.schedule.accumulate is None
    optimizer, poly, warmup = s.schedule.optimizer, s.schedule.poly, s.schedule.warmup
    assert poly
    if family == "resnet":
        assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.02, 0.01)  # "frozen or fine-tuned"
        assert s.backbone.output_stride == 16
        assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 5e-4)
        assert (poly.power, poly.eta_min, warmup, s.slide) == (0.9, 1e-4, None, None)
    else:
        assert s.sweep.lrs == (1e-4, 8e-5, 3e-5, 1e-5, 8e-6, 3e-6, 1e-6)
        assert s.backbone.output_stride is None
        assert (optimizer.type, optimizer.betas) == ("AdamW", (0.9, 0.999))
        assert (optimizer.weight_decay, poly.power, poly.eta_min) == (0.05, 1.0, 0.0)
        assert warmup and (warmup.iters, warmup.start_factor) == (1500, 1e-6)
        assert s.slide and (s.slide.crop, s.slide.stride) == (512, 341)


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit", "swin"])
@pytest.mark.parametrize("name", FINE_TUNED)
def test_fine_tuned_is_frozen_but_for_the_grid(name: str, family: str) -> None:
    fine_tuned = segmentation(name, family=family)
    frozen = segmentation(name.removesuffix("_ft"), family=family)
    same_grid = fine_tuned.sweep.model_copy(update={"lrs": frozen.sweep.lrs})
    assert fine_tuned.model_copy(update={"sweep": same_grid}) == frozen


@pytest.mark.parametrize("name", FCN)
def test_fcn_is_mmsegmentations_and_densecls(name: str) -> None:
    s = segmentation(name)
    assert (s.data.dataset, s.data.variant, s.data.crop) == ("voc", "voc12aug", (512, 512))
    assert (s.schedule.iters, s.schedule.batch_size) == (20000, 16)
    optimizer, poly = s.schedule.optimizer, s.schedule.poly
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 5e-4)
    assert poly and (poly.power, poly.eta_min, s.schedule.warmup) == (0.9, 1e-4, None)
    assert s.backbone.output_stride == 8
    assert s.head is None and s.slide is None  # tested on whole pictures
    fcn = s.fcn
    assert fcn and (fcn.channels, fcn.num_convs, fcn.concat_input) == (512, 2, True)
    assert fcn.dropout == 0.1
    auxiliary = fcn.auxiliary
    assert (auxiliary.channels, auxiliary.num_convs, auxiliary.concat_input) == (256, 1, False)
    assert (auxiliary.dropout, auxiliary.loss_weight) == (0.1, 0.4)
    assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.01, 0.005)  # ours


def test_fcn_frozen_and_fine_tuned_have_the_same_numbers() -> None:
    assert load_task("voc_fcn").settings == load_task("voc_fcn_ft").settings


@pytest.mark.parametrize("family", ["convnext", "vit", "swin"])
@pytest.mark.parametrize("name", FCN)
def test_fcn_is_for_resnets_only(name: str, family: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is for resnet backbones, not {family}"):
        load_task(name, family=family)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        (name, family)
        for name in task_names()
        for family in ["resnet", "convnext", "vit", "swin"]
        if SETTINGS[protocol_info(name).kind] is SegmentationSettings and _is_for(name, family)
    ],
)
def test_what_all_segmentation_tasks_share(name: str, family: str) -> None:
    s = segmentation(name, family=family)
    assert (s.data.cat_max_ratio, s.data.ratio_range, s.data.flip) == (0.75, (0.5, 2.0), 0.5)
    assert s.data.test_resize == s.data.resize
    assert s.sweep.seeds == 3
    assert (s.slide is None) == (family == "resnet")


SHORT_SIDES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
MOCO_WARM_UP = WarmupSection(iters=100, start_factor=0.001)
LARS_WARM_UP = WarmupSection(iters=1000, start_factor=0.333)


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit"])
@pytest.mark.parametrize("name", ["voc_det_linear", "voc_det_frcnn_c4"])
def test_what_detection_on_voc_shares(name: str, family: str) -> None:
    s = detection(name, family=family)
    assert (s.data.dataset, s.data.variant, s.data.num_classes) == ("voc_boxes", "voc0712", 20)
    assert (s.data.short_sides, s.data.test_short_side) == (SHORT_SIDES, 800)
    assert (s.data.longest, s.data.flip) == (1333, 0.5)
    assert (s.schedule.iters, s.schedule.batch_size, s.schedule.poly) == (24000, 16, None)
    steps = s.schedule.steps
    assert steps and (steps.milestones, steps.gamma) == ((18000, 22000), 0.1)
    assert (s.detector.anchors, s.detector.regions) == (256, 512)
    assert s.detector.proposals_test == (6000, 1000)
    assert (s.detector.score_threshold, s.detector.nms_threshold) == (0.05, 0.5)
    assert s.detector.detections == 100
    assert s.sweep.seeds == 3


@pytest.mark.parametrize("family", ["resnet", "convnext", "vit"])
def test_linear_detection_is_ours(family: str) -> None:
    s = detection("voc_det_linear", family=family)
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 1e-4)
    assert (s.schedule.warmup, s.sweep.warmups) == (MOCO_WARM_UP, None)
    assert s.sweep.lrs == (0.1, 0.05, 0.02, 0.01, 0.005)
    assert s.backbone.output_stride == (16 if family == "resnet" else None)
    assert s.precise_bn is None  # BatchNorm is frozen


@pytest.mark.parametrize(("preset", "weight"), [("moco", 1.0), ("lars", 0.2)])
def test_c4_detection_is_mocos_with_the_presets_in_its_grid(preset: str, weight: float) -> None:
    s = detection("voc_det_frcnn_c4", preset=preset)
    assert s.detector.rpn_loss_weight == weight
    assert s.detector.proposals_train == (12000, 2000)  # detectron2's C4
    assert s.precise_bn == 200
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 1e-4)
    assert optimizer.norm_decay is False
    # MoCo's point is 0.02 with the first warm-up, VICReg's (B.3) 0.1 with the second
    assert s.schedule.warmup is None
    assert s.sweep.lrs == (0.02, 0.05, 0.1)
    assert s.sweep.warmups == (MOCO_WARM_UP, LARS_WARM_UP)


def test_presets_differ_in_nothing_else_and_need_no_override() -> None:
    moco, lars = (load_task("voc_det_frcnn_c4", preset=preset) for preset in ("moco", "lars"))
    assert (moco.preset, lars.preset) == ("moco", "lars")
    assert moco.deviations == lars.deviations == ()
    one, other = (flatten(task.settings.dump()) for task in (moco, lars))
    assert {key for key in one if one[key] != other[key]} == {"detector.rpn_loss_weight"}
    assert one.keys() == other.keys()


@pytest.mark.parametrize(
    ("name", "preset", "suggested", "chosen"),
    [
        ("voc_det_frcnn_c4", None, None, "moco"),
        ("voc_det_frcnn_c4", None, "lars", "lars"),
        ("voc_det_frcnn_c4", "moco", "lars", "moco"),
        ("voc_det_frcnn_c4", "lars", None, "lars"),
        ("voc_det_frcnn_c4", None, "adam", "moco"),  # of another protocol's presets
        ("voc_det_linear", None, "lars", None),
        ("voc_linear", None, "lars", None),
    ],
)
def test_which_preset(
    name: str, preset: str | None, suggested: str | None, chosen: str | None
) -> None:
    assert load_task(name, "ci", preset=preset, suggested=suggested).preset == chosen


def test_presets_there_are_not() -> None:
    with pytest.raises(
        ConfigError, match="no preset 'adam' of resnet backbones; it has moco, lars"
    ):
        load_task("voc_det_frcnn_c4", preset="adam")
    with pytest.raises(ConfigError, match="voc_det_linear has no preset 'lars' of resnet"):
        load_task("voc_det_linear", preset="lars")
    with pytest.raises(ConfigError, match="no preset 'lars' of convnext backbones; it has none"):
        load_task("voc_det_frcnn_c4", family="convnext", preset="lars")
    assert load_task("voc_det_frcnn_c4", family="vit", suggested="lars").preset is None


def test_a_warm_up_of_one_iteration_is_none() -> None:
    with pytest.raises(ConfigError, match=r"warmup\.iters = 1 is impossible"):
        load_task("voc_linear", family="vit", overrides={"schedule.warmup.iters": 1})


def test_a_frozen_task_has_one_warm_up() -> None:
    grid = {"sweep.warmups": [{"iters": 2, "start_factor": 0.1}]}
    with pytest.raises(ConfigError, match=r"sweep\.warmups"):
        load_task("voc_det_linear", overrides=grid)


@pytest.mark.parametrize("family", ["convnext", "vit"])
def test_c4_detection_of_other_families_is_ours(family: str) -> None:
    s = detection("voc_det_frcnn_c4", family=family)
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.betas) == ("AdamW", (0.9, 0.999))
    assert (optimizer.weight_decay, optimizer.norm_decay) == (0.05, False)
    assert s.sweep.lrs == (2e-4, 1e-4, 5e-5)
    assert s.sweep.warmups == (WarmupSection(iters=1000, start_factor=0.001),)
    assert s.precise_bn == 200


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("coco_maskrcnn", "coco2017"),
        ("coco_semi_maskrcnn", "coco2017_10pct"),
        *((f"coco_semi_maskrcnn_{p}pct", f"coco2017_{p}pct") for p in (1, 2, 5)),
    ],
)
def test_mask_rcnn_is_vicregs_1x(name: str, variant: str) -> None:
    s = detection(name)
    assert (s.data.dataset, s.data.variant, s.data.num_classes) == ("coco", variant, 80)
    assert (s.data.short_sides, s.data.test_short_side, s.data.longest) == ((800,), 800, 1333)
    assert (s.schedule.iters, s.schedule.batch_size) == (90000, 16)
    steps = s.schedule.steps
    assert steps and (steps.milestones, steps.gamma) == ((60000, 80000), 0.1)
    assert s.schedule.warmup == WarmupSection(iters=50, start_factor=0.001)
    assert 0.04 in s.sweep.lrs and s.sweep.lrs == (0.02, 0.04, 0.08)
    optimizer = s.schedule.optimizer
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ("SGD", 0.9, 1e-4)
    assert (s.detector.proposals_train, s.detector.proposals_test) == ((2000, 1000), (1000, 1000))
    assert s.precise_bn is None


@pytest.mark.parametrize(
    ("name", "family", "lrs", "seeds", "iters", "batch"),
    [
        ("voc_det_linear", "resnet", (0.1, 0.05, 0.02, 0.01, 0.005), 3, 60, 4),
        ("voc_det_frcnn_c4", "resnet", (0.01,), 1, 100, 2),
        ("voc_det_frcnn_c4", "vit", (1e-4,), 1, 100, 2),
        ("coco_semi_maskrcnn", "swin", (0.0025,), 1, 30, 2),
    ],
)
def test_ci_profile_of_detection(
    name: str, family: str, lrs: tuple[float, ...], seeds: int, iters: int, batch: int
) -> None:
    s = detection(name, "ci", family=family)
    assert load_task(name, "ci", family=family).deviations == ()
    assert (s.sweep.lrs, s.sweep.seeds) == (lrs, seeds)
    assert (s.schedule.iters, s.schedule.batch_size) == (iters, batch)
    assert (s.data.test_short_side, s.data.longest) == (256, 448)


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [
        ("voc_det_linear", "swin", "is for resnet and convnext and vit backbones, not swin"),
        ("voc_det_frcnn_c4", "swin", "is for resnet and convnext and vit backbones, not swin"),
        ("coco_maskrcnn", "vit", "is for resnet and convnext and swin backbones, not vit"),
    ],
)
def test_detection_is_not_for_every_family(name: str, family: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(name, family=family)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("voc_det_linear", {"schedule.accumulate": 2}, "schedule.accumulate is for fine-tuning"),
        ("voc_det_frcnn_c4", {"schedule.accumulate": 3}, "2 is not 3 equal parts"),
        (
            "voc_det_frcnn_c4",
            {"schedule.iters": 50},
            "a step at 92 of 50 iterations is none: .* below 50",
        ),
        ("voc_det_frcnn_c4", {"schedule.steps.milestones": [40, 20]}, "milestones rise"),
        (
            "voc_det_frcnn_c4",
            {"sweep.warmups": [{"iters": 100, "start_factor": 0.1}]},
            "100 iterations of warm-up leave none of 100",
        ),
        (
            "voc_det_frcnn_c4",
            {"sweep.warmups": [{"iters": 5, "start_factor": 0.1}] * 2},
            "a warm-up stands twice",
        ),
        ("voc_det_frcnn_c4", {"precise_bn": 0}, "precise_bn = 0 is impossible"),
        ("voc_det_linear", {"data.variant": "voc12"}, "voc_boxes has voc0712 and voc07"),
        ("voc_det_linear", {"data.dataset": "coco"}, "data.variant"),
        ("voc_det_linear", {"test.flip": True}, "no setting 'test.flip'"),
        ("voc_det_linear", {"detector.region": 3}, "near it: detector.regions"),
    ],
)
def test_impossible_settings_of_detection(
    name: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(name, "ci", overrides)


@pytest.mark.parametrize("name", ["ade20k_linear", "voc_linear", "voc_linear_released"])
def test_ci_profile_is_part_of_the_protocol(name: str) -> None:
    task, s = load_task(name, "ci"), segmentation(name, "ci")
    assert s.data.crop == (256, 256)
    assert s.data.resize == s.data.test_resize == (1024, 256)
    assert (s.schedule.iters, s.schedule.batch_size) == (60, 8)
    assert task.deviations == ()


@pytest.mark.parametrize(
    ("name", "family", "lrs"),
    [
        ("voc_linear_ft", "resnet", (0.02, 0.01)),
        ("voc_linear_ft", "convnext", (1e-4, 1e-5)),
        ("cityscapes_linear_ft", "vit", (1e-4, 1e-5)),
        ("ade20k_linear_ft", "swin", (1e-4, 1e-5)),
        ("voc_fcn", "resnet", (0.05, 0.01)),
    ],
)
def test_ci_profile_of_dear_tasks_has_two_rates_and_one_seed(
    name: str, family: str, lrs: tuple[float, ...]
) -> None:
    task, s = load_task(name, "ci", family=family), segmentation(name, "ci", family=family)
    assert (s.sweep.lrs, s.sweep.seeds) == (lrs, 1)
    assert (s.schedule.iters, s.schedule.batch_size) == (60, 8)
    size = (512, 256) if s.data.dataset == "cityscapes" else (1024, 256)
    assert (s.data.crop, s.data.resize, s.data.test_resize) == ((256, 256), size, size)
    if family != "resnet":
        assert s.schedule.warmup and s.schedule.warmup.iters == 2
        assert s.slide and (s.slide.crop, s.slide.stride) == (256, 171)
    assert task.deviations == ()


def test_ci_profile_of_fine_tuned_fcn_has_one_rate_and_smaller_batches() -> None:
    s = segmentation("voc_fcn_ft", "ci")
    assert (s.sweep.lrs, s.sweep.seeds) == ((0.02,), 1)
    assert (s.schedule.iters, s.schedule.batch_size) == (160, 4)
    assert s.data.crop == (256, 256) and s.backbone.output_stride == 16


SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


@pytest.mark.parametrize(
    ("name", "overrides", "deviations", "dumped"),
    [
        (
            "voc_linear",
            {"test.flip": True},
            ["test.flip: true instead of none"],
            {"test": {"flip": True}},
        ),
        (
            "voc_fcn",
            {"test.scales": SCALES},
            [f"test.scales: {SCALES} instead of none"],
            {"test": {"scales": SCALES}},
        ),
        (
            "voc_fcn_ft",
            {"test.flip": True, "test.scales": SCALES},
            ["test.flip: true instead of none", f"test.scales: {SCALES} instead of none"],
            {"test": {"flip": True, "scales": SCALES}},
        ),
        (
            "voc_linear_ft",
            {"schedule.accumulate": 4},
            ["schedule.accumulate: 4 instead of none"],
            {"schedule": {"accumulate": 4}},
        ),
        # what says no more than the protocol does is none
        ("voc_linear", {"test.flip": False, "test.scales": [1.0]}, [], {}),
        ("voc_linear", {"schedule.accumulate": 1}, [], {}),
        ("voc_linear_ft", {"schedule.accumulate": 1}, [], {}),
    ],
)
def test_optional_settings_are_deviations(
    name: str,
    overrides: dict[str, object],
    deviations: list[str],
    dumped: dict[str, dict[str, object]],
) -> None:
    plain = load_task(name, "ci").settings.dump()
    assert "test" not in plain and "accumulate" not in plain["schedule"]
    task = load_task(name, "ci", overrides)
    assert [str(d) for d in task.deviations] == deviations
    merged = {key: plain.get(key, {}) | dumped.get(key, {}) for key in [*plain, *dumped]}
    assert task.settings.dump() == merged
    assert build_settings(SegmentationSettings, flatten(merged)) == task.settings  # and back


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("voc_linear_ft", {"schedule.accumulate": 3}, "a batch of 8 is not 3 equal parts"),
        ("voc_linear_ft", {"schedule.accumulate": 0}, "schedule.accumulate = 0 is impossible"),
        ("voc_linear", {"schedule.accumulate": 4}, "schedule.accumulate is for fine-tuning"),
        ("voc_fcn", {"schedule.accumulate": 4}, "schedule.accumulate is for fine-tuning"),
        ("voc_linear", {"test.scales": []}, "test.scales"),
        ("voc_linear", {"test.scales": [0.0]}, "test.scales"),
        ("voc_linear", {"test.flips": True}, "near it: test.flip"),
        ("voc_fcn", {"head.dropout": 0.1}, "no setting 'head.dropout'"),
        ("voc_linear_ft", {"fcn.channels": 64}, "no setting 'fcn.channels'"),
        ("voc_fcn", {"fcn.auxiliary.loss_weight": 0}, "fcn.auxiliary.loss_weight"),
    ],
)
def test_impossible_optional_settings(
    name: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(name, "ci", overrides)


def test_a_protocol_has_one_kind_of_head() -> None:
    linear, fcn = (flatten(load_task(name).settings.dump()) for name in ("voc_linear", "voc_fcn"))
    neither = {key: value for key, value in linear.items() if not key.startswith("head.")}
    for impossible in (neither, linear | fcn):
        with pytest.raises(ConfigError, match="either a linear head or FCN's"):
            build_settings(SegmentationSettings, impossible)


def test_overrides_are_deviations_and_only_where_they_change_something() -> None:
    overrides = {"schedule.iters": 10, "sweep.lrs": [0.1, 0.05, 0.03, 0.02, 0.01]}
    task = load_task("voc_linear", "ci", overrides)
    assert task.settings.schedule.iters == 10
    assert [str(d) for d in task.deviations] == ["schedule.iters: 10 instead of 60"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"schedule.itrs": 10}, "near it: schedule.iters"),
        ({"schedule.iters": 0}, "schedule.iters = 0 is impossible"),
        ({"schedule.iters": "many"}, "schedule.iters"),
        ({"backbone.output_stride": 4}, "8, 16 or 32"),
        ({"sweep.lrs": []}, "sweep.lrs"),
        ({"sweep.lrs": [-0.1]}, "sweep.lrs"),
        ({"head.dropout": 1.0}, "head.dropout"),
        ({"protocol.version": 9}, "no setting"),
        ({"data.num_classes": 25}, "data.num_classes = 25 is impossible.*voc has 21 classes"),
        ({"data.variant": "fine"}, "data.variant.*voc has voc12aug and voc12"),
        ({"data.dataset": "ade20k"}, "data.variant.*ade20k has challenge2016"),
        ({"data.dataset": "imagenet"}, "data.dataset"),
        ({"data.ignore_index": 0}, "data.ignore_index"),
        ({"sweep.lrs": [0.1, 0.1]}, "stands twice"),
        ({"sweep.lrs": [float("inf")]}, "sweep.lrs"),
        ({"schedule.batch_size": 10**9}, "schedule.batch_size"),
    ],
)
def test_impossible_overrides(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task("voc_linear", "ci", overrides)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="did you mean voc_linear"):
        load_task("voc_liner")
    with pytest.raises(ConfigError, match="no profile 'quick'"):
        load_task("voc_linear", "quick")


def test_parse_overrides() -> None:
    words = ["a.b=3", "c=1e-3", "d=0.1,0.2", "e=voc12", "f=[1, 2]", "g=true"]
    assert parse_overrides(words) == {
        "a.b": 3,
        "c": 1e-3,
        "d": [0.1, 0.2],
        "e": "voc12",
        "f": [1, 2],
        "g": True,
    }
    with pytest.raises(ConfigError, match="key=value"):
        parse_overrides(["iters"])


def test_every_task_loads_in_every_profile() -> None:
    for name in task_names():
        info = protocol_info(name)
        assert info.name == name
        for profile in ("paper", "ci"):
            assert load_task(name, profile).info == info


def test_a_setting_taken_away_is_a_deviation_too() -> None:
    task = load_task("voc_linear", "ci", {"backbone.output_stride": None})
    assert [str(d) for d in task.deviations] == ["backbone.output_stride: none instead of 16"]


@pytest.mark.parametrize(
    ("task", "overrides", "message"),
    [
        ("voc_det_frcnn_c4", {"sweep.warmups": 5}, r"it is a list, such as \[5\]"),
        ("voc_det_frcnn_c4", {"sweep.warmups": [5]}, "it is a group of settings"),
        ("voc_det_frcnn_c4", {"sweep.warmups": "[{iters:5"}, "this JSON does not parse"),
        ("voc_det_linear", {"sweep.lrs": []}, "it needs at least one value"),
        (
            "voc_det_frcnn_c4",
            {"sweep.warmups": [{"iters": 5, "start": 0.1}]},
            "start_factor.* is missing|there is no such setting",
        ),
        (
            "voc_det_frcnn_c4",
            {"schedule.iters": 8, "schedule.steps.milestones": [7]},
            "^these settings are impossible: .*set sweep.warmups too",
        ),
    ],
)
def test_impossible_settings_are_named_in_words(
    task: str, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(task, "ci", overrides)
