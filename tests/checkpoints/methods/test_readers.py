"""Every reader against every layout: whose file it is, and which branch of it is the backbone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import (
    LAYOUTS,
    Layout,
    Shapes,
    convnext_shapes,
    detectron2_detector,
    insloc_full,
    make_state,
    moco_v2_full,
    moco_v3_full,
    other,
    prefixed,
    resnet_shapes,
    vit_shapes,
)
from vicregl_bench.checkpoints import (
    READERS,
    Contents,
    Resolution,
    find_containers,
    find_reader,
    recognise,
    resolve,
)
from vicregl_bench.checkpoints.methods.published import table_1
from vicregl_bench.checkpoints.weights import is_counter
from vicregl_bench.errors import CheckpointError

SMALL: dict[str, Shapes] = {
    "resnet18x0.25": resnet_shapes("resnet18"),
    "vit_tiny_patch16": vit_shapes(),
    "vit_small_patch16_12heads": vit_shapes(),
    "vit_small_patch14_dinov2": vit_shapes(patch=14, layer_scale=True),
    "vit_small_patch14_reg4_dinov2": vit_shapes(patch=14, layer_scale=True, registers=4),
    "convnext_atto": convnext_shapes(layer_scale=True),
    "convnext_atto_no_layerscale": convnext_shapes(),
}
"""Made-up shapes in place of the real ones of each fixture's architecture."""


def state_of(layout: Layout) -> dict[str, Tensor]:
    return make_state(SMALL[layout.arch])


def contents_of(layout: Layout) -> Contents:
    return find_containers(layout.make(state_of(layout), 3))


def find(contents: Contents, method: str, targets: dict[str, Shapes], **more: Any) -> Resolution:
    reader = find_reader(method)
    return resolve(
        reader.rearrange(contents) if reader.rearrange else contents,
        targets,
        path="f.pth",
        prefer=reader.prefer_prefixes,
        prefer_archs=reader.prefer_archs,
        **more,
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised_as_its_own_methods(name: str) -> None:
    assert recognise(contents_of(LAYOUTS[name])).card.method == LAYOUTS[name].detected


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_right_branch_is_taken_whole(name: str) -> None:
    layout, state = LAYOUTS[name], state_of(LAYOUTS[name])
    found = find(contents_of(layout), layout.method, {layout.arch: SMALL[layout.arch]})
    assert found.coverage.address == layout.address
    weights = {key for key in state if not is_counter(key)}
    assert weights <= found.tensors.keys()
    assert all(torch.equal(found.tensors[key], state[key]) for key in weights)


def test_no_reader_but_the_unspecific_takes_anothers_layout() -> None:
    """The order of the registry decides between few: those that other readers leave over."""
    unspecific = {"bare", "torchvision", "timm"}
    taken = {
        (name, reader.card.method)
        for name, layout in LAYOUTS.items()
        for contents in [contents_of(layout)]
        for reader in READERS
        if reader.card.method not in {layout.detected, *unspecific} and reader.recognises(contents)
    }
    assert taken == {
        ("resim", "moco_v2"),
        ("resim_one_gpu", "moco_v2"),
        ("resim_converted", "detectron2_rgb"),
        ("ibot", "dino"),
    }


def test_every_reader_has_a_layout() -> None:
    assert {layout.method for layout in LAYOUTS.values()} | {"own"} == {
        reader.card.method for reader in READERS
    }


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.card.method)
def test_a_reader_says_what_it_reads(reader: Any) -> None:
    for line in (reader.files, reader.architectures, reader.verified):
        assert line and "\n" not in line and not line.endswith(".")
    assert len(set(reader.prefer_prefixes)) == len(reader.prefer_prefixes)


@pytest.mark.parametrize(
    "name",
    [
        *("moco_v2", "moco_v3", "byol", "pixpro", "densecl", "insloc", "cp2", "resim", "dino"),
        *("ibot", "timm", "solo_learn", "lightly", "lightly_benchmark", "mmselfsup"),
    ],
)
def test_without_a_card_two_branches_are_a_tie(name: str) -> None:
    layout = LAYOUTS[name]
    reader = find_reader(layout.method)
    contents = contents_of(layout)
    if name == "insloc":  # its twin's last stage is not joined
        contents = contents_of(LAYOUTS["insloc_fpn"])
    elif reader.rearrange:
        contents = reader.rearrange(contents)
    with pytest.raises(CheckpointError, match="different backbones"):
        resolve(contents, {layout.arch: SMALL[layout.arch]}, path="f.pth")


def test_insloc_without_layer4_is_refused(resnet18: dict[str, Tensor]) -> None:
    trunk = {key: value for key, value in resnet18.items() if not key.startswith("layer4.")}
    contents = find_containers(insloc_full(trunk))
    assert recognise(contents).card.method == "insloc"
    with pytest.raises(CheckpointError, match=r"layer4\.0\.conv1\.weight is missing"):
        find(contents, "insloc", {"resnet18": SMALL["resnet18x0.25"]})


def test_the_joined_stage_is_the_query_branchs(resnet18: dict[str, Tensor]) -> None:
    found = find(find_containers(insloc_full(resnet18)), "insloc", {"r": SMALL["resnet18x0.25"]})
    key = "layer4.1.conv2.weight"
    assert torch.equal(found.tensors[key], resnet18[key])
    assert dict(found.coverage.dropped)["backbone_k"] > 0


def test_joining_adds_and_takes_nothing_away(resnet18: dict[str, Tensor]) -> None:
    contents = find_containers(detectron2_detector(resnet18))
    reader = find_reader("detectron2")
    assert reader.rearrange
    joined = reader.rearrange(contents)
    assert joined.containers[: len(contents.containers)] == contents.containers
    assert [found.name for found in joined.containers] == ["model", "model (res5 joined)"]
    whole = find_containers(detectron2_detector(resnet18, fpn=True))
    assert reader.rearrange(whole) == whole


def test_moco_v3s_vit_small_has_12_heads() -> None:
    shapes = vit_shapes()
    targets = {"vit_small_patch16": shapes, "vit_small_patch16_12heads": shapes}
    contents = find_containers(moco_v3_full(make_state(shapes)))
    found = find(contents, "moco_v3", targets)
    assert found.coverage.arch == "vit_small_patch16_12heads"
    assert found.also_fits == ("vit_small_patch16",)
    assert find(contents, "dino", targets, prefix="module.base_encoder.").coverage.arch == (
        "vit_small_patch16"
    )


def test_model_zoo_detectors_have_their_stride_in_the_first_1x1(
    resnet50: dict[str, Tensor],
) -> None:
    shapes = resnet_shapes("resnet50")
    targets = {"resnet50": shapes, "resnet50_v1": shapes}
    for method, name in (("detectron2", "resnet50_v1"), ("detectron2_rgb", "resnet50")):
        contents = find_containers(LAYOUTS[method].make(resnet50, 0))
        assert find(contents, method, targets).coverage.arch == name


def test_input_of_detectors_and_of_simclr_is_another() -> None:
    bgr = find_reader("detectron2").card
    assert (bgr.channel_order, bgr.std) == ("bgr", (1.0, 1.0, 1.0))
    assert bgr.mean == (103.53, 116.28, 123.675)
    simclr = find_reader("simclr").card
    assert (simclr.mean, simclr.std) == ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
@pytest.mark.parametrize("mark", ["patch", "registers"])
def test_dinov2_without_mask_token_is_told_by_its_patches_or_registers(
    mark: str, prefix: str
) -> None:
    options = {"patch": 14} if mark == "patch" else {"registers": 4}
    state = make_state(vit_shapes(layer_scale=True, **options))
    assert recognise(find_containers(prefixed(state, prefix))).card.method == "dinov2"


@pytest.mark.parametrize(
    ("options", "extra", "method"),
    [
        ({"patch": 14}, {}, "bare"),  # MAE's ViT-H/14 has no LayerScale
        ({"layer_scale": True}, {}, "bare"),  # DeiT III's smaller ones
        (
            {"patch": 14, "layer_scale": True},
            {"head.weight": torch.ones(10, 4)},
            "timm",
        ),  # DeiT III
    ],
)
def test_other_vits_are_not_taken_for_dinov2(
    options: dict[str, Any], extra: dict[str, Tensor], method: str
) -> None:
    state = make_state(vit_shapes(**options)) | extra
    assert recognise(find_containers(state)).card.method == method


def test_moco_v1_is_not_taken_for_v2(resnet18: dict[str, Tensor]) -> None:
    full = moco_v2_full(resnet18)
    weights = full["state_dict"]
    for name in ("encoder_q", "encoder_k"):
        for part in ("weight", "bias"):
            weights[f"module.{name}.fc.{part}"] = weights.pop(f"module.{name}.fc.0.{part}")
            del weights[f"module.{name}.fc.2.{part}"]
    assert recognise(find_containers(full)).card.method == "bare"


def test_detcon_in_one_tree_or_with_two_networks(resnet18: dict[str, Tensor]) -> None:
    target = {"resnet18": SMALL["resnet18x0.25"]}
    make = LAYOUTS["detcon"].make
    online, twin = make(resnet18, 0), make(other(resnet18), 0)
    one = {"experiment": {**online["params"], **online["state"]}}
    key = "layer4.1.conv2.weight"
    assert torch.equal(find(find_containers(one), "detcon", target).tensors[key], resnet18[key])
    two = {f"online_{name}": tree for name, tree in online.items()} | {
        f"target_{name}": tree for name, tree in twin.items()
    }
    with pytest.raises(CheckpointError, match="different backbones"):
        find(find_containers(two), "detcon", target)
    found = find(
        find_containers(two), "detcon", target, prefix="online_params and online_state.res_net50."
    )
    assert torch.equal(found.tensors[key], resnet18[key])


def test_haiku_kernels_are_turned_and_numpy_arrays_read(resnet18: dict[str, Tensor]) -> None:
    rng = np.random.default_rng(0)
    made = LAYOUTS["detcon"].make(resnet18, 0)
    kernel = rng.standard_normal((7, 7, 3, 4), dtype=np.float32)
    average = rng.random((1, 1, 1, 4), dtype=np.float32)
    made["params"]["res_net50/~/initial_conv"]["w"] = kernel
    made["state"]["res_net50/~/initial_batchnorm/~/var_ema"]["average"] = average
    target = {"resnet18": SMALL["resnet18x0.25"]}
    found = find(find_containers(made), "detcon", target).tensors
    weight = found["conv1.weight"]
    assert weight.shape == (4, 3, 7, 7)
    for row, column, into, out in ((0, 6, 2, 3), (5, 1, 0, 2)):
        assert weight[out, into, row, column].item() == kernel[row, column, into, out]
    assert found["bn1.running_var"].tolist() == average.ravel().tolist()


def test_cp2_under_a_trained_name_only(resnet18: dict[str, Tensor]) -> None:
    loaded = {"state_dict": prefixed(resnet18, "module.encoder_q.")}
    assert recognise(find_containers(loaded)).card.method == "bare"


def test_numbers_of_vicregls_paper() -> None:
    assert [
        (found.task, found.arch, found.value, found.source)
        for found in find_reader("densecl").card.references
    ] == [
        ("imagenet_linear", "resnet50", 65.0, "VICRegL, table 1, row DenseCL"),
        ("voc_linear", "resnet50", 45.3, "VICRegL, table 1, row DenseCL"),
        ("cityscapes_linear", "resnet50", 11.2, "VICRegL, table 1, row DenseCL"),
        ("voc_fcn", "resnet50", 63.8, "VICRegL, table 8, row DenseCL, frozen"),
        ("voc_det_frcnn_c4", "resnet50", 58.7, "VICRegL, table 9, row DenseCL R50"),
        ("voc_det_linear", "resnet50", 43.0, "VICRegL, table 9, row DenseCL R50"),
    ]
    assert table_1("X", 1.0, 2.0, 3.0)[1].value == 2.0


def test_lars_is_the_preset_of_what_was_trained_with_it() -> None:
    lars = {reader.card.method for reader in READERS if reader.card.detection_preset == "lars"}
    assert lars == {
        *("vicregl", "vicreg", "barlow_twins", "byol", "simclr", "swav", "vissl", "detcon")
    }
