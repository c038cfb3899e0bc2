from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.checkpoints.layouts import Shapes, prefixed
from vicregl_bench.checkpoints import load_checkpoint
from vicregl_bench.checkpoints.card_file import read_card_file
from vicregl_bench.errors import CheckpointError


def saved(tmp_path: Path, content: object, card: str) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    (tmp_path / "weights.pth.card.yaml").write_text(card)
    return path


def test_an_unknown_method_is_described_without_code(
    tmp_path: Path, resnet18: dict[str, Tensor], targets: dict[str, Shapes]
) -> None:
    odd = {key.replace("layer", "block_"): value for key, value in resnet18.items()}
    path = saved(
        tmp_path,
        {"nets": prefixed(odd, "trunk.") | prefixed(odd, "shadow.")},
        """
        method: my_method
        title: My method
        arch: resnet18
        mean: [0, 0, 0]
        std: [255, 255, 255]
        channel_order: bgr
        detection_preset: lars
        alpha: 0.9
        epochs: 300
        prefix: nets.trunk
        rename: {'block_(\\d)': 'layer\\1'}
        """,
    )
    loaded = load_checkpoint(path, targets)
    assert (loaded.method, loaded.card.title, loaded.arch) == ("my_method", "My method", "resnet18")
    assert loaded.card.std == (255.0, 255.0, 255.0)
    assert (loaded.card.channel_order, loaded.card.detection_preset) == ("bgr", "lars")
    assert (loaded.card.alpha, loaded.card.epochs) == (0.9, 300)
    assert torch.equal(
        loaded.state_dict["layer4.1.conv2.weight"], resnet18["layer4.1.conv2.weight"]
    )
    assert loaded.coverage.address == "nets.trunk."


def test_a_field_overrides_the_readers_own(
    tmp_path: Path, resnet50: dict[str, Tensor], targets: dict[str, Shapes]
) -> None:
    path = saved(tmp_path, resnet50, "arch: resnet50_v1")
    loaded = load_checkpoint(path, targets)
    assert (loaded.arch, loaded.method) == ("resnet50_v1", "bare")
    assert loaded.settled == "the card of bare"
    assert load_checkpoint(path, targets, arch="resnet50").arch == "resnet50"


def test_a_known_method_brings_its_card(
    tmp_path: Path, resnet18: dict[str, Tensor], targets: dict[str, Shapes]
) -> None:
    loaded = load_checkpoint(saved(tmp_path, resnet18, "method: vicregl"), targets)
    assert (loaded.method, loaded.card.title, loaded.detected) == ("vicregl", "VICRegL", "bare")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "a card is a mapping"),
        ("arch: [", "cannot be read as YAML"),
        ("architecture: resnet50", "known fields: method"),
        ("std: [0, 1, 1]", "std.0: Input should be greater than 0"),
        ("std: [-3, 1, 1]", "std.0: Input should be greater than 0"),
        ("mean: [1, 2]", "mean: three numbers are needed"),
        ("mean: abc", "mean: three numbers are needed"),
        ("mean: [1, 2, '3']", "mean.2: Input should be a valid number"),
        ("mean: [1, 2, true]", "mean.2: Input should be a valid number"),
        ("mean: [0, .inf, 0]", "mean.1: Input should be a finite number"),
        ("mean: [0, 1e400, 0]", "mean.1: Input should be a"),
        (f"mean: [0, 1{400 * '0'}, 0]", "mean.1: "),
        ("std: [1, 1, .nan]", "std.2: Input should be a finite number"),
        ("std: [0.229, 0.224, 0.225]", "std.0: the scale is 0 to 255: multiply by 255"),
        ("std: [58.395, 57.12, 0.225]", "std.2: the scale is 0 to 255: multiply by 255"),
        ("mean: [0.485, 0.456, 0.406]", "mean.0: the scale is 0 to 255: multiply by 255"),
        ('"a\\nb": 1', "a b: Extra inputs are not permitted; known fields: method"),
        ("channel_order: grb", "'rgb' or 'bgr'"),
        ("rename: {'(': x}", "rename"),
        ("method: 'a b'", "method"),
        ("arch: resnet51", "resnet51, which "),
        ("rename: {'.*': 'one'}", "turns two keys into one"),
    ],
)
def test_bad_cards_stop(
    tmp_path: Path,
    resnet18: dict[str, Tensor],
    targets: dict[str, Shapes],
    text: str,
    said: str,
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint(saved(tmp_path, resnet18, text), targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)), ((103.53, 116.28, 123.675), (1.0, 1.0, 1.0))],
    ids=["simclr", "caffe"],
)
def test_the_least_scales_that_occur_are_taken(
    tmp_path: Path,
    resnet18: dict[str, Tensor],
    targets: dict[str, Shapes],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    path = saved(tmp_path, resnet18, f"mean: {list(mean)}\nstd: {list(std)}")
    loaded = load_checkpoint(path, targets)
    assert (loaded.card.mean, loaded.card.std) == (mean, std)


@pytest.mark.parametrize("container", ["", "state_dict"])
def test_one_key_may_be_renamed_in_names_that_are_ours_else(
    tmp_path: Path, resnet18: dict[str, Tensor], targets: dict[str, Shapes], container: str
) -> None:
    odd = {"stem.w" if key == "conv1.weight" else key: value for key, value in resnet18.items()}
    content = {container: odd} if container else odd
    path = saved(tmp_path, content, "rename: {'^stem\\.w$': conv1.weight}")
    loaded = load_checkpoint(path, targets)
    assert torch.equal(loaded.state_dict["conv1.weight"], resnet18["conv1.weight"])
    assert loaded.state_dict.keys() == resnet18.keys()
    assert loaded.coverage.address == (f"{container}." if container else "")
    assert loaded.coverage.unexpected == ()


@pytest.mark.parametrize("prefix", ["nets.trunk", "nets.trunk.", "trunk", "trunk."])
def test_the_prefix_is_that_of_the_new_names(
    tmp_path: Path, resnet18: dict[str, Tensor], targets: dict[str, Shapes], prefix: str
) -> None:
    shadow = {key: value + 1 for key, value in resnet18.items()}
    odd = {key.replace("conv1.weight", "stem.w"): value for key, value in resnet18.items()}
    content = {"nets": prefixed(odd, "body.") | prefixed(shadow, "shadow.")}
    card = f"prefix: {prefix}\nrename: {{'^body': trunk, 'stem\\.w$': conv1.weight}}"
    loaded = load_checkpoint(saved(tmp_path, content, card), targets)
    assert torch.equal(loaded.state_dict["conv1.weight"], resnet18["conv1.weight"])
    assert loaded.coverage.address == "nets.trunk."
    assert dict(loaded.coverage.dropped) == {"shadow": len(shadow)}


def test_a_rename_that_fits_no_key_changes_nothing(
    tmp_path: Path, resnet18: dict[str, Tensor], targets: dict[str, Shapes]
) -> None:
    loaded = load_checkpoint(saved(tmp_path, resnet18, "rename: {'^trunk': layer}"), targets)
    assert loaded.coverage.address == "" and loaded.state_dict.keys() == resnet18.keys()


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    (tmp_path / "w.pth.card.yaml").write_text(
        f"!!python/object/apply:os.system ['touch {tmp_path}/ran']"
    )
    with pytest.raises(CheckpointError, match="cannot be read as YAML"):
        read_card_file(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()
