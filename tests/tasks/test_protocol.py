import json
from pathlib import Path

import pytest

from vicregl_bench.engine.settings import parse_overrides
from vicregl_bench.errors import ConfigError
from vicregl_bench.tasks.protocol import load_task, protocol_info, task_names

GOLDEN = Path(__file__).parents[1] / "golden"


def test_voc_linear_is_the_papers_text() -> None:
    task = load_task("voc_linear")
    s = task.settings
    assert (task.info.name, task.info.version, task.profile) == ("voc_linear", 1, "paper")
    assert s.backbone.output_stride == 16
    assert (s.head.batch_norm, s.head.dropout) == (False, 0.0)
    assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.02, 0.01)
    assert s.sweep.seeds == 3
    assert (s.schedule.iters, s.schedule.batch_size) == (40000, 16)
    assert (s.schedule.optimizer.momentum, s.schedule.optimizer.weight_decay) == (0.9, 5e-4)
    assert (s.schedule.poly.power, s.schedule.poly.eta_min) == (0.9, 1e-4)
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["paper", "ci"])
@pytest.mark.parametrize("name", task_names())
def test_no_number_changes_without_a_new_version(name: str, profile: str, kind: str) -> None:
    """The golden file holds every setting; a change of one needs a new version and a new file."""
    family, arch = KINDS[kind]
    task = load_task(name, profile, family=family, arch=arch)
    golden = json.loads((GOLDEN / f"{name}-v{task.info.version}-{profile}{kind}.json").read_text())
    assert task.settings.dump() == golden


def test_released_differs_where_the_released_configs_do() -> None:
    s = load_task("voc_linear_released").settings
    assert s.backbone.output_stride == 8
    assert (s.head.batch_norm, s.head.dropout, s.head.init_std) == (True, 0.1, 0.01)
    assert s.sweep.lrs == (0.01,)


def test_cityscapes_is_the_papers_text_and_the_released_crop() -> None:
    s = load_task("cityscapes_linear").settings
    assert (s.data.dataset, s.data.variant, s.data.num_classes) == ("cityscapes", "fine", 19)
    assert (s.data.crop, s.data.resize) == ((512, 512), (2048, 1024))
    assert s.data.test_resize == (2048, 1024) and s.slide is None  # whole pictures
    assert (s.schedule.iters, s.schedule.batch_size) == (40000, 8)
    assert (s.backbone.output_stride, s.head.batch_norm) == (16, False)
    assert s.sweep.lrs == (0.1, 0.05, 0.03, 0.02, 0.01)
    released = load_task("cityscapes_linear_released").settings
    assert released.data.crop == (512, 1024)  # (height, width)
    assert (released.backbone.output_stride, released.head.dropout) == (8, 0.1)
    assert (released.schedule.batch_size, released.sweep.lrs) == (8, (0.01,))
    other = load_task("cityscapes_linear_released", family="convnext").settings
    assert (other.data.crop, other.schedule.batch_size) == ((512, 512), 8)


def test_ade20k_is_the_papers_text() -> None:
    s = load_task("ade20k_linear", family="vit").settings
    assert (s.data.dataset, s.data.num_classes) == ("ade20k", 150)
    assert (s.data.crop, s.data.resize) == ((512, 512), (2048, 512))
    assert (s.schedule.iters, s.schedule.batch_size) == (160000, 16)
    assert (s.schedule.optimizer.type, s.schedule.optimizer.weight_decay) == ("AdamW", 0.05)
    assert s.schedule.warmup and s.schedule.warmup.iters == 1500
    assert (s.schedule.warmup.start_factor, s.schedule.poly.power) == (1e-6, 1.0)
    assert s.slide and (s.slide.crop, s.slide.stride) == (512, 341)
    assert s.sweep.lrs == (1e-3, 8e-4, 3e-4, 1e-4, 8e-5)
    resnet = load_task("ade20k_linear").settings
    assert (resnet.schedule.iters, resnet.schedule.optimizer.type) == (160000, "SGD")
    xlarge = load_task(
        "ade20k_linear_released", family="convnext", arch="convnext_xlarge_no_layerscale"
    ).settings
    assert (xlarge.sweep.lrs, xlarge.schedule.iters) == ((8e-5,), 160000)


@pytest.mark.parametrize("name", task_names())
@pytest.mark.parametrize("family", ["resnet", "convnext", "vit", "swin"])
def test_what_all_segmentation_tasks_share(name: str, family: str) -> None:
    s = load_task(name, family=family).settings
    assert (s.data.cat_max_ratio, s.data.ratio_range, s.data.flip) == (0.75, (0.5, 2.0), 0.5)
    assert s.data.test_resize == s.data.resize
    assert s.sweep.seeds == 3
    assert (s.slide is None) == (family == "resnet")


@pytest.mark.parametrize("name", ["ade20k_linear", "voc_linear", "voc_linear_released"])
def test_ci_profile_is_part_of_the_protocol(name: str) -> None:
    task = load_task(name, "ci")
    s = task.settings
    assert s.data.crop == (256, 256)
    assert s.data.resize == s.data.test_resize == (1024, 256)
    assert (s.schedule.iters, s.schedule.batch_size) == (60, 8)
    assert task.deviations == ()


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
