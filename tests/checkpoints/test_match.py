from typing import Any

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import (
    Shapes,
    make_state,
    mlp,
    prefixed,
    resnet_shapes,
    vicregl_full,
)
from vicregl_bench.checkpoints import Resolution, find_containers, resolve
from vicregl_bench.errors import CheckpointError


def find(loaded: object, targets: dict[str, Shapes], **options: Any) -> Resolution:
    return resolve(find_containers(loaded), targets, path="f.pth", **options)


def error_of(loaded: object, targets: dict[str, Shapes], **options: Any) -> list[str]:
    with pytest.raises(CheckpointError) as caught:
        find(loaded, targets, **options)
    lines = str(caught.value).splitlines()
    assert len(lines) <= 2 + 8
    return lines


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.encoder.", "a.b_c."])
@pytest.mark.parametrize("container", ["", "state_dict", "x.y.z"])
def test_arch_container_and_prefix_are_found(
    targets: dict[str, Shapes], arch: str, prefix: str, container: str
) -> None:
    state = make_state(targets[arch])
    loaded: dict[str, Any] = prefixed(state, prefix)
    for name in reversed(container.split(".") if container else []):
        loaded = {name: loaded, "epoch": 1}
    found = find(loaded, targets)
    assert (found.coverage.arch, found.coverage.container) == (arch, container)
    assert found.coverage.prefix == prefix
    assert found.coverage.complete and found.coverage.unexpected == ()
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[key], state[key]) for key in state)


def test_equal_shapes_are_settled_by_the_order_of_the_targets(
    targets: dict[str, Shapes], resnet50: dict[str, Tensor]
) -> None:
    found = find(resnet50, targets)
    assert (found.coverage.arch, found.also_fits) == ("resnet50", ("resnet50_v1",))
    found = find(resnet50, targets, arch="resnet50_v1")
    assert (found.coverage.arch, found.also_fits) == ("resnet50_v1", ("resnet50",))


def test_head_and_neighbours_are_reported(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    loaded = vicregl_full(resnet18 | {"fc.weight": torch.ones(3, 3)})
    coverage = find(loaded, targets).coverage
    assert coverage.address == "model.module.backbone."
    assert coverage.unexpected == ("fc.weight",)
    assert dict(coverage.dropped) == {
        "module.maps_projector": 8,
        "module.projector": 8,
        "module.classifier": 2,
    }
    assert len(coverage.matched) == coverage.total == len(resnet18)


def test_missing_counters_are_harmless(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    bare = {key: value for key, value in resnet18.items() if "num_batches" not in key}
    coverage = find(bare, targets).coverage
    assert coverage.complete and coverage.missing == ()
    assert len(coverage.missing_harmless) == 20
    assert len(coverage.matched) == len(resnet18) - 20


@pytest.mark.parametrize(
    "key", ["layer4.1.bn2.running_var", "layer2.0.downsample.1.bias", "conv1.weight"]
)
def test_every_parameter_and_statistic_is_needed(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor], key: str
) -> None:
    del resnet18[key]
    lines = error_of(resnet18, targets)
    assert lines[0].startswith("f.pth: weights fit no known backbone: resnet18 comes nearest")
    assert f"119 of 120 tensors covered, {key} is missing" in lines[0]
    if key == "conv1.weight":
        resnet18["conv1.weight"] = torch.ones(4, 3, 3, 3)
        lines = error_of(resnet18, targets)
        assert "conv1.weight is [4, 3, 3, 3], wanted [4, 3, 7, 7]" in lines[0]


def test_deep_stem_is_refused(targets: dict[str, Shapes], resnet50: dict[str, Tensor]) -> None:
    del resnet50["conv1.weight"]
    resnet50 |= {f"conv1.{number}.weight": torch.ones(4, 3, 3, 3) for number in (0, 3, 6)}
    for arch in (None, "resnet50"):
        lines = error_of(resnet50, targets, arch=arch)
        assert "317 of 318 tensors covered" in lines[0]
        assert "conv1.weight is missing (the file has conv1.0.weight)" in lines[0]
        assert lines[1].startswith("nearest misses")
        assert "resnet50  317/318" in lines[2]


def test_other_arch_forced_names_the_one_that_fits(targets: dict[str, Shapes]) -> None:
    lines = error_of(make_state(targets["resnet18"]), targets, arch="resnet50")
    assert "weights do not fit resnet50" in lines[0]
    assert lines[0].endswith("pass --arch resnet18")


@pytest.mark.parametrize(
    ("held", "forced", "extra"),
    [("resnet34", "resnet18", "layer1.2.conv1"), ("resnet101", "resnet50", "layer3.6.conv1")],
)
def test_smaller_arch_forced_on_a_larger_one_is_refused(
    targets: dict[str, Shapes], held: str, forced: str, extra: str
) -> None:
    (line,) = error_of(prefixed(make_state(targets[held]), "module."), targets, arch=forced)
    assert f"weights hold more than {forced}" in line
    assert extra in line
    assert line.endswith(f"they look like {held}: pass --arch {held}")


def test_more_blocks_than_any_target_are_refused(targets: dict[str, Shapes]) -> None:
    lines = error_of(make_state(resnet_shapes("resnet152")), targets)
    assert "hold more than resnet101" in lines[0]
    assert "layer2.4.conv1.weight" in lines[0]


@pytest.mark.parametrize("extra", ["conv1.bias", "layer1.0.se.fc1.weight"])
def test_tensors_inside_the_backbone_that_no_target_takes_are_refused(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor], extra: str
) -> None:
    lines = error_of(resnet18 | {extra: torch.ones(4)}, targets)
    assert extra in lines[0]


def test_nothing_matched_lists_what_is_there(targets: dict[str, Shapes]) -> None:
    lines = error_of({"net": {"blocks.0.attn.qkv.weight": torch.ones(2, 2)}}, targets)
    assert "nothing in the file matches" in lines[0]
    assert lines[1] == "  net: 1 tensors, e.g. blocks.0.attn.qkv.weight"


@pytest.mark.parametrize("loaded", [{}, {"epoch": 3}, [1, 2], {"state": {0: {}}}])
def test_no_tensors(targets: dict[str, Shapes], loaded: object) -> None:
    (line,) = error_of(loaded, targets)
    assert "holds no tensors" in line


def test_different_backbones_are_a_tie_for_the_user(targets: dict[str, Shapes]) -> None:
    query, key = (make_state(targets["resnet18"], seed) for seed in (1, 2))
    loaded = {"state_dict": prefixed(query, "module.q.") | prefixed(key, "module.k.")}
    (line,) = error_of(loaded, targets)
    assert "holds 2 different backbones" in line
    assert "state_dict.module.q. (resnet18), state_dict.module.k. (resnet18)" in line
    assert "--prefix" in line
    for prefix in ("module.k.", "module.k", "state_dict.module.k."):
        found = find(loaded, targets, prefix=prefix)
        assert torch.equal(found.tensors["conv1.weight"], key["conv1.weight"])
        assert found.coverage.dropped == (("module.q", len(query)),)


def test_a_card_settles_a_tie(targets: dict[str, Shapes]) -> None:
    query, key = (make_state(targets["resnet18"], seed) for seed in (1, 2))
    loaded = prefixed(key, "module.k.") | prefixed(query, "module.q.")
    found = find(loaded, targets, prefer=("q.", "module.q."))
    assert found.coverage.prefix == "module.q."
    assert error_of(loaded, targets, prefer=("q.",))


def test_backbones_of_different_size_are_a_tie_as_well(targets: dict[str, Shapes]) -> None:
    loaded = {
        "teacher": make_state(targets["resnet34"]),
        "student": make_state(targets["resnet18"]),
    }
    (line,) = error_of(loaded, targets)
    assert "teacher. (resnet34), student. (resnet18)" in line
    assert find(loaded, targets, arch="resnet18").coverage.container == "student"


def test_equal_values_are_no_tie(targets: dict[str, Shapes], resnet18: dict[str, Tensor]) -> None:
    copy = {key: value.clone() for key, value in resnet18.items()}
    copy["bn1.num_batches_tracked"] += 5
    found = find({"model": resnet18, "model_ema": copy}, targets)
    assert found.coverage.container == "model"
    copy["layer4.1.bn2.bias"][0] += 1
    assert error_of({"model": resnet18, "model_ema": copy}, targets)


def test_empty_prefix_means_the_bare_keys(targets: dict[str, Shapes]) -> None:
    top, ema = (make_state(targets["resnet18"], seed) for seed in (1, 2))
    loaded: dict[str, Any] = top | {"ema": ema}
    (line,) = error_of(loaded, targets)
    assert '"" (resnet18), ema. (resnet18)' in line
    assert find(loaded, targets, prefix="").coverage.container == ""
    assert find(loaded, targets, prefix="ema").coverage.container == "ema"


def test_unknown_prefix_lists_the_candidates(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    loaded = prefixed(resnet18, "module.backbone.") | mlp("module.projector.", 1)
    (line,) = error_of(loaded, targets, prefix="encoder.")
    assert line.endswith("candidates: module.backbone.")


def test_unknown_arch_says_where_the_known_are(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    (line,) = error_of(resnet18, targets, arch="resnet19")
    assert "unknown backbone 'resnet19'" in line and "ls architectures" in line


def test_a_damaged_preferred_place_is_not_replaced_by_another(
    targets: dict[str, Shapes],
) -> None:
    """The query encoder lacks a statistic; the key encoder is whole and is not what is meant."""
    query, key = (make_state(targets["resnet18"], seed) for seed in (1, 2))
    loaded = {
        "state_dict": prefixed(query, "encoder_q.") | prefixed(key, "encoder_k."),
    }
    prefer = ("state_dict.encoder_q.",)
    assert find(loaded, targets, prefer=prefer).coverage.prefix == "encoder_q."
    del loaded["state_dict"]["encoder_q.layer3.0.bn1.running_var"]
    first, *_ = error_of(loaded, targets, prefer=prefer)
    assert "layer3.0.bn1.running_var is missing" in first
    assert "to take state_dict.encoder_k. instead" in first
    found = find(loaded, targets, prefer=prefer, prefix="encoder_k")
    assert (found.coverage.prefix, found.coverage.chosen) == ("encoder_k.", "--prefix")


def test_a_small_whole_backbone_beside_a_large_one_is_seen(targets: dict[str, Shapes]) -> None:
    small, large = make_state(targets["resnet18"]), make_state(targets["resnet101"])
    extra: Shapes = {f"layer3.{n}.conv1.weight": (16, 64, 1, 1) for n in range(23, 1400)}
    huge = {**targets["resnet101"], **extra}  # more than ten times as many tensors
    loaded = {"a": {**large, **make_state(extra)}, "b": small}
    first, *_ = error_of(loaded, {"resnet18": targets["resnet18"], "huge": huge})
    assert "holds 2 different backbones" in first


def test_what_settled_the_place_is_said(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor]
) -> None:
    assert find(resnet18, targets).coverage.chosen == "the only one"
    twice = find({"a": resnet18, "b": dict(resnet18)}, targets)
    assert twice.coverage.chosen == "equal values in several places"
    other = make_state(targets["resnet18"], 5)
    preferred = find({"a": resnet18, "b": other}, targets, prefer=("b",))
    assert preferred.coverage.chosen == "the method's card prefers b"


@pytest.mark.parametrize(
    "key", ["absolute_pos_embed", "rel_pos_bias.table", "norm_pre.weight", "prompt_embeddings"]
)
def test_what_the_features_go_through_may_not_be_left_over(
    targets: dict[str, Shapes], resnet18: dict[str, Tensor], key: str
) -> None:
    first, *_ = error_of({**resnet18, key: torch.ones(2)}, targets)
    assert f"changes the features, e.g. {key}" in first


def test_ties_of_odd_tensors_are_no_tracebacks(targets: dict[str, Shapes]) -> None:
    one, other = make_state(targets["resnet18"]), make_state(targets["resnet18"])
    for state in (one, other):
        state["conv1.weight"] = state["conv1.weight"].to_sparse()
    (line,) = error_of({"a": one, "b": other}, targets)
    assert "2 different backbones" in line


def test_work_on_many_prefixes_is_bounded(
    targets: dict[str, Shapes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vicregl_bench.checkpoints import match

    covered = 0
    cover = match._cover

    def counted(*arguments: Any) -> Any:
        nonlocal covered
        covered += 1
        return cover(*arguments)

    monkeypatch.setattr(match, "_cover", counted)
    hostile = {f"m{n}.bn1.weight": torch.ones(4) for n in range(2000)}
    error_of(hostile, targets)
    assert covered <= match._MOST_PLACES * len(targets)
