import re

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.layouts import mlp, prefixed
from tests.checkpoints.names.peers import assert_same, resnet, without
from vicregl_bench.checkpoints.names import find_dialect, join_haiku
from vicregl_bench.errors import CheckpointError

DETECTRON2 = find_dialect("detectron2", "resnet")
LIGHTLY = find_dialect("lightly", "resnet")
HAIKU = find_dialect("haiku", "resnet")

# detectron2/modeling/backbone/resnet.py: BasicStem, BottleneckBlock with a shortcut
_NORM = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
_DETECTRON2_KEYS = {
    f"{module}.{leaf}"
    for module in (
        "stem.conv1",
        *(
            f"res{stage}.0.{conv}"
            for stage in (2, 3, 4, 5)
            for conv in ("conv1", "conv2", "conv3", "shortcut")
        ),
        *(f"res4.1.{conv}" for conv in ("conv1", "conv2", "conv3")),
    )
    for leaf in ("weight", *_NORM)
}


def test_detectron2_names() -> None:
    state = resnet().state_dict()
    assert DETECTRON2.write is not None
    written = DETECTRON2.write(state)
    assert set(written) == _DETECTRON2_KEYS
    assert written["stem.conv1.norm.running_var"] is state["bn1.running_var"]
    assert written["res2.0.shortcut.weight"] is state["layer1.0.downsample.0.weight"]
    assert written["res5.0.shortcut.norm.bias"] is state["layer4.0.downsample.1.bias"]
    assert written["res4.1.conv3.norm.weight"] is state["layer3.1.bn3.weight"]


def test_a_stage_in_the_head_of_a_c4_detector_is_renamed_where_it_is() -> None:
    assert DETECTRON2.write is not None
    written = DETECTRON2.write(resnet().state_dict())
    detector = {
        f"{'roi_heads.' if key.startswith('res5') else 'backbone.'}{key}": value
        for key, value in written.items()
    } | {"proposal_generator.rpn_head.conv.weight": torch.zeros(8, 8, 3, 3)}
    read = DETECTRON2.read(detector)
    assert read is not None
    assert torch.equal(read["roi_heads.layer4.0.conv1.weight"], written["res5.0.conv1.weight"])
    assert torch.equal(read["backbone.layer1.0.bn1.bias"], written["res2.0.conv1.norm.bias"])
    assert "proposal_generator.rpn_head.conv.weight" in read


def test_detectron2_counters_of_a_trained_batch_norm_are_read() -> None:
    assert DETECTRON2.write is not None
    written = DETECTRON2.write(resnet().state_dict())
    read = DETECTRON2.read({**written, "stem.conv1.norm.num_batches_tracked": torch.tensor(3)})
    assert read is not None
    assert read["bn1.num_batches_tracked"] == 3


@pytest.mark.parametrize("bottleneck", [True, False])
def test_lightly_sequential(bottleneck: bool) -> None:
    model = resnet(bottleneck)
    sequential = nn.Sequential(*list(model.children())[:-1])
    state = prefixed(sequential.state_dict(), "backbone.")
    heads = mlp("projection_head.layers.", 1)
    expected = prefixed(model.state_dict(), "backbone.") | heads
    assert_same(LIGHTLY.read(state | heads), expected)
    assert LIGHTLY.write is not None
    assert_same(LIGHTLY.write(model.state_dict()), sequential.state_dict())


def test_other_sequentials_are_not_lightly() -> None:
    projector = mlp("", 1) | prefixed(mlp("", 2), "4.") | prefixed(mlp("", 3), "backbone.")
    assert LIGHTLY.read(projector) is None
    first_stages = nn.Sequential(*list(resnet().children())[:6]).state_dict()
    assert LIGHTLY.read(first_stages) is None


def _haiku(
    state: dict[str, Tensor], *, network: str = "res_net50"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and state of haiku's ResNet (v1), made from torchvision's."""
    params: dict[str, Tensor] = {}
    running: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        path = re.sub(r"layer(\d)\.(\d+)\.", _haiku_block, module)
        path = {"conv1": "initial_conv", "bn1": "initial_batchnorm"}.get(path, path)
        path = path.replace("downsample.0", "shortcut_conv")
        path = path.replace("downsample.1", "shortcut_batchnorm")
        path = re.sub(r"/conv(\d)$", lambda m: f"/conv_{int(m[1]) - 1}", path)
        path = f"{network}/~/" + re.sub(r"/bn(\d)$", lambda m: f"/batchnorm_{int(m[1]) - 1}", path)
        row = value.reshape(1, 1, 1, -1)
        if value.ndim == 4:
            params[f"{path}/w"] = value.permute(2, 3, 1, 0)
        elif leaf in ("weight", "bias"):
            params[f"{path}/{'scale' if leaf == 'weight' else 'offset'}"] = row
        elif leaf in ("running_mean", "running_var"):
            average = f"{path}/~/{leaf.removeprefix('running_')}_ema"
            running[f"{average}/average"] = row
            running[f"{average}/hidden"] = row * 0.9
            running[f"{average}/counter"] = torch.tensor(5)
    return params, running


def _haiku_block(found: re.Match[str]) -> str:
    return f"block_group_{int(found[1]) - 1}/~/block_{found[2]}/~/"


_PROJECTOR = {"projector/linear/w": torch.ones(8, 4), "projector/linear/b": torch.ones(4)}
_NO_COUNTERS = re.compile(r"(?!.*num_batches_tracked)")


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("lead", ["", "params/"])
def test_haiku_reads_torchvision_values_back(bottleneck: bool, lead: str) -> None:
    state = {k: v for k, v in resnet(bottleneck).state_dict().items() if _NO_COUNTERS.match(k)}
    params, running = _haiku(state)
    container = prefixed(params | running | _PROJECTOR, lead)
    prefix = lead.replace("/", ".")
    expected = prefixed(state, f"{prefix}res_net50.") | {
        f"{prefix}projector.linear.w": _PROJECTOR["projector/linear/w"],
        f"{prefix}projector.linear.b": _PROJECTOR["projector/linear/b"],
    }
    read = HAIKU.read(container)
    assert_same(read, expected)
    assert read is not None
    assert all(value.is_contiguous() for value in read.values())


def test_haiku_names() -> None:
    params, running = _haiku(dict(resnet().state_dict()))
    assert "res_net50/~/initial_conv/w" in params
    assert "res_net50/~/block_group_2/~/block_1/~/conv_2/w" in params
    assert "res_net50/~/block_group_0/~/block_0/~/shortcut_batchnorm/scale" in params
    assert "res_net50/~/block_group_3/~/block_0/~/batchnorm_1/~/var_ema/average" in running


@pytest.mark.parametrize("leads", [("", ""), ("online_params/", "online_state/")])
def test_haiku_parameters_and_state_are_joined(leads: tuple[str, str]) -> None:
    state = {k: v for k, v in resnet().state_dict().items() if _NO_COUNTERS.match(k)}
    params, running = _haiku(state)
    joined = join_haiku(prefixed(params, leads[0]), prefixed(running, leads[1]))
    assert_same(HAIKU.read(joined), prefixed(state, "res_net50."))


def test_one_container_with_both_trees_is_joined_with_nothing() -> None:
    state = {k: v for k, v in resnet().state_dict().items() if _NO_COUNTERS.match(k)}
    params, running = _haiku(state)
    both = prefixed(params, "params/") | prefixed(running, "state/")
    assert_same(HAIKU.read(join_haiku(both, {})), prefixed(state, "res_net50."))


def test_two_networks_of_one_name_are_not_joined() -> None:
    params, running = _haiku(dict(resnet().state_dict()))
    both = prefixed(params, "online_params/") | prefixed(params, "target_params/")
    with pytest.raises(CheckpointError, match="two haiku networks have a res_net50/~/initial_conv"):
        join_haiku(both, running)


def test_haiku_without_state_lacks_the_running_statistics() -> None:
    state = dict(resnet().state_dict())
    read = HAIKU.read(_haiku(state)[0])
    assert read is not None
    assert set(read) == {f"res_net50.{key}" for key in without(state) if "running" not in key} - {
        f"res_net50.{key}" for key in state if "num_batches" in key
    }


def test_pre_activation_haiku_resnets_have_no_first_norm_to_read() -> None:
    params, _ = _haiku(dict(resnet().state_dict()))
    second = {key: value for key, value in params.items() if "initial_batchnorm" not in key}
    second["res_net50/~/final_batchnorm/scale"] = torch.ones(1, 1, 1, 8)
    read = HAIKU.read(second)
    assert read is not None
    assert "res_net50.bn1.weight" not in read


@pytest.mark.parametrize("shape", [(), (7,), (4, 3), (7, 7, 3), (1, 7, 7, 3, 8), (0,)])
def test_haiku_kernels_of_other_shapes_are_handed_through(shape: tuple[int, ...]) -> None:
    kernel = torch.ones(shape)
    read = HAIKU.read({"res_net50/~/initial_conv/w": kernel})
    assert read is not None
    assert read["res_net50.conv1.weight"] is kernel


@pytest.mark.parametrize("shape", [(), (8,), (2, 4), (2, 1, 1, 4), (1, 1, 1, 1, 8)])
def test_haiku_vectors_of_other_shapes_are_handed_through(shape: tuple[int, ...]) -> None:
    scale = torch.ones(shape)
    start = {"res_net50/~/initial_conv/w": torch.ones(7, 7, 3, 8)}
    read = HAIKU.read({**start, "res_net50/~/initial_batchnorm/scale": scale})
    assert read is not None
    assert read["res_net50.bn1.weight"] is scale


def test_sparse_kernels_are_handed_through() -> None:
    kernel = torch.ones(7, 7, 3, 8).to_sparse()
    read = HAIKU.read({"res_net50/~/initial_conv/w": kernel})
    assert read is not None
    assert read["res_net50.conv1.weight"] is kernel


def test_haiku_is_only_read() -> None:
    assert HAIKU.write is None
