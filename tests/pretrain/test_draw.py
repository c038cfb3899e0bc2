"""Drawn matches: against a loop, on known geometry, and through the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pretrain.augment import ViewMaker, Views, ViewSpec
from pretrain.data import normalise
from pretrain.draw import MODEL_FORMAT, draw_matches, find_matches, load_model, make_views
from pretrain.model import JointEmbedding
from pretrain.recipe import Recipe, load_recipe
from pretrain.trainee import build_network
from pretrain.views import cell_centres
from vicregl_bench.cli.main import _guarded
from vicregl_bench.errors import CheckpointError, ConfigError

SIDE, SIZE = 3, 96  # of the map in cells, of a view in pixels
SMALL = {"model.expander": [8, 8], "model.projector": [8, 6], "views.large_size": SIZE}


def made(overrides: dict[str, Any] | None = None) -> tuple[Recipe, JointEmbedding]:
    recipe = load_recipe("tiny", SMALL | (overrides or {}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return recipe, build_network(recipe)


def content_of(recipe: Recipe, network: JointEmbedding) -> dict[str, Any]:
    return {
        "format": MODEL_FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "card": {},
        "state_dict": network.state_dict(),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pth"
    torch.save(content_of(*made()), path)
    return path


@pytest.fixture(scope="module")
def picture() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 120, 150), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, picture: Tensor) -> Path:
    path = tmp_path_factory.mktemp("image") / "seed.png"
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
    return path


def by_loop(first: np.ndarray, second: np.ndarray) -> list[tuple[float, int, int]]:
    """(distance, cell, partner) of every cell of (P, C) and (Q, C), nearest first."""
    found = []
    for i, cell in enumerate(first):
        distances = [float(np.sqrt(((cell - other) ** 2).sum())) for other in second]
        j = int(np.argmin(distances))
        found.append((distances[j], i, j))
    return sorted(found)


def local_features(network: JointEmbedding, views: Tensor) -> list[np.ndarray]:
    images = normalise(views, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        maps = [features.local for features in network([image[None] for image in images])]
    return [found[0].double().numpy() for found in maps if found is not None]


def test_matches_are_those_of_a_loop(model: Path, picture: Tensor) -> None:
    recipe, network = load_model(model)
    views = make_views(recipe, picture, seed=5)
    found = find_matches(recipe, network, views, best=5)
    assert found.sides == (SIDE, SIDE) and found.projected
    places = [
        cell_centres(i, j, h, w, SIDE, bool(flip)).flatten(0, 1).numpy()
        for i, j, h, w, flip in views.crops.tolist()
    ]
    for kind, wanted in (
        (found.feature, by_loop(*local_features(network, views.large))),
        (found.location, by_loop(*places)),
    ):
        assert len(kind) == 5
        for match, (distance, cell, partner) in zip(kind, wanted[:5], strict=True):
            # convolutions over one image or over two may round differently
            assert match.distance == pytest.approx(distance, rel=1e-4)
            assert match.first == divmod(cell, SIDE)
            assert match.second == divmod(partner, SIDE)


def test_views_are_those_of_training_without_distortion(picture: Tensor) -> None:
    recipe = load_recipe("tiny", SMALL)
    views = make_views(recipe, picture, seed=7)
    trained = ViewMaker(
        ViewSpec(SIZE, recipe.views.large_scale, 2), ViewSpec(40, (0.1, 0.4), 3), "symmetric"
    )(picture, 7)
    assert torch.equal(views.crops, trained.crops[:2])
    assert not torch.equal(views.large, trained.large)
    grey = torch.full((3, 50, 70), 90, dtype=torch.uint8)
    assert bool((make_views(recipe, grey, 0).large == 90).all())


@pytest.mark.parametrize(
    ("track", "mirrored"), [(True, True), (False, False)], ids=["tracked", "released"]
)
def test_locations_of_one_crop_and_its_mirror(track: bool, mirrored: bool) -> None:
    recipe, network = made({"views.track_flips": track})
    large = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    for flip in (0, 1):
        crops = torch.tensor([[10, 20, 60, 90, 0], [10, 20, 60, 90, flip]])
        found = find_matches(recipe, network, Views(large, None, crops), best=100).location
        assert [match.first for match in found] == [(r, c) for r in range(3) for c in range(3)]
        for match in found:
            row, column = match.first
            across = 2 - column if flip and mirrored else column
            assert match.second == (row, across) and match.distance == 0.0


def test_without_local_projector_the_backbone_is_matched(picture: Tensor) -> None:
    recipe, network = made({"criterion.alpha": 1})
    views = make_views(recipe, picture, seed=0)
    found = find_matches(recipe, network, views, best=9)
    assert not found.projected
    network.eval()
    images = normalise(views.large, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        maps = network.first.backbone(images)[0].flatten(2).transpose(1, 2).double().numpy()
    assert [m.distance for m in found.feature] == pytest.approx(
        [distance for distance, _, _ in by_loop(*maps)], rel=1e-4
    )


def test_separate_branches_with_maps_of_their_own(picture: Tensor) -> None:
    recipe, network = made({"model.second_backbone": "convnext_tiny", "views.large_size": 80})
    found = find_matches(recipe, network, make_views(recipe, picture, 0), best=100)
    assert found.sides == (3, 2)
    assert {match.first for match in found.feature} == {(r, c) for r in range(3) for c in range(3)}
    assert all(max(match.second) < 2 for match in (*found.feature, *found.location))
    recipe, network = made({"model.second_backbone": "convnext_tiny", "criterion.alpha": 1})
    with pytest.raises(ConfigError, match="512 and 768 channels"):
        find_matches(recipe, network, make_views(recipe, picture, 0))


def test_mode_is_put_back_and_statistics_stay(picture: Tensor) -> None:
    recipe, network = made()
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    find_matches(recipe, network, make_views(recipe, picture, 0), best=1)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match="at least 1"):
        find_matches(recipe, network, make_views(recipe, picture, 0), best=0)


def test_the_drawing_shows_both_views_and_yellow_lines(
    model: Path, picture: Tensor, tmp_path: Path
) -> None:
    recipe, network = load_model(model)
    found = find_matches(recipe, network, make_views(recipe, picture, 0))
    path = tmp_path / "new" / "drawing.png"
    draw_matches(picture, found, path, "a title")
    with Image.open(path) as drawing:
        assert drawing.format == "PNG"
        assert drawing.width > drawing.height > 800
        pixels = np.asarray(drawing.convert("RGB")).reshape(-1, 3)
    for colour in ((255, 255, 0), (255, 0, 0), (0, 0, 255)):
        assert (pixels == colour).all(axis=1).sum() > 500
    assert [entry.name for entry in path.parent.iterdir()] == ["drawing.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "another"}, "give the model.pth"),
        ({"recipe": None}, "recipe or state_dict is missing"),
        ({"recipe": {"recipe": {"name": "x"}}}, "its recipe cannot be used"),
        ({"state_dict": {}}, "do not fit each other"),
    ],
)
def test_damaged_models(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(content_of(*made()) | change, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    recipe, network = made()
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = float("nan")
    torch.save(content_of(recipe, network), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not finite"):
        load_model(tmp_path / "model.pth")


def test_command_line(
    model: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["matches", "--ckpt", str(model), "--image", str(image), "--best", "4"]
    assert _guarded([*words, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["out"] == "seed.matches.png" and (tmp_path / "seed.matches.png").is_file()
    assert listed["projected"] is True and listed["seed"] == 0
    assert [view["map_side"] for view in listed["views"]] == [SIDE, SIDE]
    for kind in ("feature", "location"):
        distances = [match["distance"] for match in listed[kind]]
        assert len(distances) == 4 and distances == sorted(distances)
    assert _guarded([*words, "--out", "other.png", "--seed", "1"]) == 0
    assert "4 matches of 9 cells" in capsys.readouterr().out
    assert _guarded([*words, "--json", "--seed", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["views"] != listed["views"]


def test_command_line_with_bad_input(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone, text, folder = tmp_path / "backbone.pth", tmp_path / "text.png", tmp_path / "d.png"
    torch.save({"card": {}, "state_dict": {}}, backbone)
    text.write_text("no picture")
    folder.mkdir()
    good = {"--ckpt": model, "--image": image, "--out": tmp_path / "out.png"}
    for change, words in (
        ({"--ckpt": backbone}, "a backbone alone"),
        ({"--ckpt": text}, "not a checkpoint"),
        ({"--ckpt": tmp_path / "none.pth"}, "no such file"),
        ({"--image": text}, "not a readable picture"),
        ({"--image": tmp_path / "none.jpg"}, "not a readable picture"),
        ({"--best": "0"}, "--best"),
        ({"--seed": "-1"}, "--seed"),
        ({"--out": tmp_path / "out.pdf"}, "ends in .png"),
        ({"--out": text / "out.png"}, "cannot be written"),
        ({"--out": folder}, "cannot be written"),
    ):
        options = [str(word) for pair in (good | change).items() for word in pair]
        assert _guarded(["matches", *options]) == 2, change
        error = capsys.readouterr().err.strip()
        assert words in error and error.count("\n") == 0, error
    assert not (tmp_path / "out.png").exists()
