import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.convnext import ConvNeXt as TorchvisionConvNeXt

from tests.checkpoints.layouts import prefixed
from tests.checkpoints.names.peers import assert_same, convnext, randomise, shapes, without
from vicregl_bench.checkpoints.names import Dialect, find_dialect
from vicregl_bench.errors import CheckpointError

ORIGINAL = find_dialect("original", "convnext")
RELEASED = find_dialect("released", "convnext")
TORCHVISION = find_dialect("torchvision", "convnext")
OPENMMLAB = find_dialect("openmmlab", "convnext")
CONV_MLP = find_dialect("timm conv_mlp", "convnext")


@pytest.fixture()
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
def test_torchvision_weights_give_torchvision_features(images: Tensor) -> None:
    stages = [(8, 16, 1), (16, 24, 1), (24, 32, 2), (32, None, 1)]
    peer = randomise(TorchvisionConvNeXt([CNBlockConfig(*stage) for stage in stages]))
    ours = timm.models.ConvNeXt(
        depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=0, ls_init_value=1.0
    ).eval()
    state = without(peer.state_dict(), "classifier.2.")
    read = TORCHVISION.read(state)
    assert read is not None
    ours.load_state_dict(read)
    expected = peer.classifier[:2](peer.avgpool(peer.features(images)))
    torch.testing.assert_close(ours(images), expected, atol=1e-5, rtol=1e-5)
    assert TORCHVISION.write is not None
    assert_same(TORCHVISION.write(ours.state_dict()), state)


@torch.inference_mode()
def test_conv_mlp_weights_give_the_same_features(images: Tensor) -> None:
    peer = convnext(conv_mlp=True)
    ours = convnext()
    read = CONV_MLP.read(peer.state_dict())
    assert read is not None
    ours.load_state_dict({key: torch.zeros_like(value) for key, value in read.items()})
    ours.load_state_dict(read)
    torch.testing.assert_close(ours(images), peer(images), atol=1e-5, rtol=1e-5)
    assert CONV_MLP.write is not None
    assert_same(CONV_MLP.write(ours.state_dict()), peer.state_dict())


def test_torchvision_names_of_the_published_sizes() -> None:
    with torch.device("meta"):
        peer = torchvision.models.convnext_tiny()
        ours = timm.create_model("convnext_tiny", num_classes=0)
    read = TORCHVISION.read(without(peer.state_dict(), "classifier.2."))
    assert read is not None
    assert shapes(read) == shapes(ours.state_dict())


def _original(model: nn.Module, block: dict[str, str], norm: str) -> dict[str, Tensor]:
    """Weights of timm's module under names listed module by module."""
    state = model.state_dict()
    names = {f"stem.{part}": f"downsample_layers.0.{part}" for part in (0, 1)}
    names["head.norm"] = norm
    for stage, depth in enumerate((1, 1, 2, 1)):
        for part in (0, 1) if stage else ():
            names[f"stages.{stage}.downsample.{part}"] = f"downsample_layers.{stage}.{part}"
        for number in range(depth):
            ours = f"stages.{stage}.blocks.{number}"
            names[ours] = f"stages.{stage}.{number}"
            names |= {f"{ours}.{a}": f"stages.{stage}.{number}.{b}" for a, b in block.items()}
    return {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in state.items()
    }


_ORIGINAL_BLOCK = {
    "conv_dw": "dwconv",
    "norm": "norm",
    "mlp.fc1": "pwconv1",
    "mlp.fc2": "pwconv2",
}
_OPENMMLAB_BLOCK = {
    "conv_dw": "depthwise_conv",
    "norm": "norm",
    "mlp.fc1": "pointwise_conv1",
    "mlp.fc2": "pointwise_conv2",
}


def test_original_names() -> None:
    """Keys of facebookresearch/ConvNeXt, models/convnext.py."""
    model = convnext()
    theirs = _original(model, _ORIGINAL_BLOCK, "norm")
    assert theirs["downsample_layers.1.0.weight"].shape == (8,)
    assert theirs["downsample_layers.1.1.weight"].shape == (16, 8, 2, 2)
    assert {"stages.2.1.dwconv.weight", "stages.2.1.gamma", "norm.bias"} < set(theirs)
    assert_same(ORIGINAL.read(theirs), model.state_dict())
    assert ORIGINAL.write is not None
    assert_same(ORIGINAL.write(model.state_dict()), theirs)


def test_timm_reads_the_original_names_as_we_do() -> None:
    """Their filter is written for the files of facebookresearch/ConvNeXt, classifier included."""
    from timm.models.convnext import checkpoint_filter_fn

    assert ORIGINAL.write is not None
    model = convnext()
    head = {"head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)}
    written = ORIGINAL.write(model.state_dict()) | head
    assert_same(ORIGINAL.read(written), checkpoint_filter_fn(written, model))


@pytest.mark.parametrize("dialect", [ORIGINAL, OPENMMLAB], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_classifier_is_out_of_the_way_of_the_last_norm(dialect: Dialect, prefix: str) -> None:
    """`head.` is a module of ours, whose `fc` a backbone leaves out."""
    state = convnext().state_dict()
    assert dialect.write is not None
    head = {"weight": torch.ones(10, 32), "bias": torch.ones(10)}
    written = dialect.write(state) | prefixed(head, "head.")
    read = dialect.read(prefixed(written, prefix))
    assert_same(read, prefixed({**state, **prefixed(head, "head.fc.")}, prefix))


def test_odd_shapes_are_handed_through() -> None:
    assert TORCHVISION.write is not None
    written = TORCHVISION.write(convnext().state_dict())
    odd = {f"features.1.{block}.layer_scale": torch.ones(shape) for block, shape in _ODD}
    read = TORCHVISION.read(written | odd)
    assert read is not None
    for block, _ in _ODD:
        key = f"features.1.{block}.layer_scale"
        assert read[f"stages.0.blocks.{block}.gamma"] is odd[key]


_ODD = tuple(enumerate([(), (8,), (4, 2), (4, 2, 1), (2, 4, 1, 1)]))


def test_openmmlab_names() -> None:
    """Keys of mmpretrain, models/backbones/convnext.py; the last norm is `norm3`."""
    model = convnext()
    theirs = _original(model, _OPENMMLAB_BLOCK, "norm3")
    other_norms = {f"norm{i}.weight": torch.ones(8) for i in (0, 1, 2)}
    assert_same(OPENMMLAB.read(theirs | other_norms), {**model.state_dict(), **other_norms})
    assert OPENMMLAB.write is not None
    assert_same(OPENMMLAB.write(model.state_dict()), theirs)


def test_released_names_are_the_original_ones() -> None:
    state = convnext(layer_scale=False).state_dict()
    assert RELEASED.write is not None
    assert ORIGINAL.write is not None
    written = RELEASED.write(state)
    assert_same(written, ORIGINAL.write(state))
    assert_same(RELEASED.read(written), state)


def test_the_released_layout_has_no_layer_scale() -> None:
    assert RELEASED.write is not None
    with pytest.raises(CheckpointError, match=r"LayerScale \(stages.0.blocks.0.gamma\)"):
        RELEASED.write(convnext().state_dict())


def test_torchvision_always_has_layer_scale() -> None:
    assert TORCHVISION.write is not None
    with pytest.raises(CheckpointError, match="torchvision's ConvNeXt always has LayerScale"):
        TORCHVISION.write(convnext(layer_scale=False).state_dict())


def test_version_two_is_not_written() -> None:
    """Global response normalisation, of ConvNeXt V2, has no place in the first version."""
    assert ORIGINAL.write is not None
    with pytest.raises(CheckpointError, match=r"no place for stages.0.blocks.0.mlp.grn.weight"):
        ORIGINAL.write(convnext(layer_scale=False, use_grn=True).state_dict())
