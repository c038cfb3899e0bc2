"""The best local matches between two views of a picture, as VICRegL's figures 3 to 5 show them.

Deviation, and choices where the paper is silent: views are cropped, resized and mirrored as in
training, but neither drawn nor given to the network with photometric distortions, so that what is
seen is what was matched; matches are those of the first view's cells; the network is in evaluation
mode and computes in float32, distances in float64; lines bow, so that none hides another.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from pretrain.augment import NORMALISATION, Photometric, ViewMaker, Views, ViewSpec
from pretrain.data import normalise
from pretrain.export import MODEL_FORMAT
from pretrain.matching import nearest, squared_distances
from pretrain.model import Branch, JointEmbedding
from pretrain.recipe import Recipe
from pretrain.trainee import build_network
from pretrain.views import locations
from vicregl_bench.atomic import write_atomic
from vicregl_bench.checkpoints.files import read_file
from vicregl_bench.engine.settings import build_settings, flatten
from vicregl_bench.errors import CheckpointError, ConfigError

_COLOURS = ("red", "blue")  # of the first and the second view
_GAP = 0.14  # between the two views of a column, in sides of a view
_BOW = 0.8  # how far lines of one column of cells spread, in sides of a cell
# inches: side of a drawn view, width of the seed image, margins
_SIDE, _SEED, _ABOVE, _BELOW, _BESIDE = 2.7, 3.2, 1.0, 0.5, 0.45
_WIDTH = _SEED + 2 * _SIDE + 3.5 * _BESIDE
_COLUMN = _SIDE * (2.0 + _GAP)
_HEIGHT = _COLUMN + _ABOVE + _BELOW

Cell = tuple[int, int]  # row and column in a feature map


@dataclass(frozen=True)
class CellMatch:
    """A cell of the first view's map and its nearest one in the second view's."""

    first: Cell
    second: Cell
    distance: float  # l2: of embeddings, or of cell centres in source pixels


@dataclass(frozen=True)
class ViewMatches:
    """The best matches between two views of a picture, nearest first."""

    views: Tensor  # (2, 3, S, S) uint8
    crops: Tensor  # (2, 5) int64: i, j, h, w, flip
    sides: tuple[int, int]  # of both feature maps, in cells
    feature: tuple[CellMatch, ...]
    location: tuple[CellMatch, ...]
    projected: bool  # False: features of the backbone itself, there is no local projector


def load_model(path: Path) -> tuple[Recipe, JointEmbedding]:
    """Recipe and network of a model.pth, on the CPU and in evaluation mode.

    Raises:
        CheckpointError: the file cannot be read safely, is no model.pth, or its recipe and weights
            are damaged or do not fit each other.
    """
    content = read_file(path)
    if not isinstance(content, Mapping) or content.get("format") != MODEL_FORMAT:
        backbone = isinstance(content, Mapping) and "card" in content
        kind = "holds a backbone alone" if backbone else "is no network that pretrain has left"
        raise CheckpointError(f"{path}: {kind}; give the model.pth of a `vicregl-bench pretrain`")
    settings, state = content.get("recipe"), content.get("state_dict")
    if not isinstance(settings, Mapping) or not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: recipe or state_dict is missing; copy the file again")
    try:
        recipe = build_settings(Recipe, flatten(settings))
        network = build_network(recipe)
        network.load_state_dict(state)
    except ConfigError as error:
        raise CheckpointError(f"{path}: its recipe cannot be used: {error}") from error
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: weights and recipe do not fit each other: {lines[:160]}"
        ) from error
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise CheckpointError(f"{path}: some weights are not finite; take an earlier checkpoint")
    return recipe, network.eval()


def make_views(recipe: Recipe, picture: Tensor, seed: int) -> Views:
    """The recipe's two large views without photometric distortion.

    Args:
        recipe: of the network.
        picture: (3, H, W) uint8.
        seed: 0 or more; the crops are those that `augment.ViewMaker` draws with it in training.

    Raises:
        ValueError: another kind of picture, or a negative seed.
    """
    spec = ViewSpec(recipe.views.large_size, recipe.views.large_scale, 2)
    plain = (Photometric(), Photometric())
    return ViewMaker(spec, None, plain, recipe.views.interpolation)(picture, seed)


def find_matches(
    recipe: Recipe, network: JointEmbedding, views: Views, best: int = 10
) -> ViewMatches:
    """Match every cell of the first view's map to the nearest of the second's, and keep the best.

    Source: VICRegL, equations (2) and (3), one direction.

    Args:
        recipe: of the network.
        network: its mode is put back.
        views: two large views of one picture.
        best: how many to keep, at most all cells of the first map.

    Raises:
        ValueError: `best` below 1.
        ConfigError: two architectures without local projector, whose features cannot be compared.
    """
    if best < 1:
        raise ValueError(f"{best} matches: at least 1 is needed")
    maps = _feature_maps(recipe, network, views.large)
    if maps[0].shape[-1] != maps[1].shape[-1]:
        raise ConfigError(
            f"{recipe.model.backbone} and {recipe.model.second_backbone} have features of "
            f"{maps[0].shape[-1]} and {maps[1].shape[-1]} channels and no local projector: "
            "they cannot be matched"
        )
    first, second = recipe.map_sides()[:2]
    flips = recipe.views.track_flips
    places = [
        locations(views.crops[k : k + 1], side, track_flips=flips)
        for k, side in enumerate((first, second))
    ]
    feature, location = (
        _best_matches(squared_distances(*pair).sqrt()[0], (first, second), best)
        for pair in (maps, [place.flatten(1, 2) for place in places])
    )
    return ViewMatches(
        views=views.large,
        crops=views.crops[:2],
        sides=(first, second),
        feature=feature,
        location=location,
        projected=network.first.projector is not None,
    )


@torch.no_grad()
def _feature_maps(recipe: Recipe, network: JointEmbedding, views: Tensor) -> list[Tensor]:
    """(1, n*n, C) float64 of each of two views (2, 3, S, S): projected where that is possible."""
    mean, std = NORMALISATION[recipe.views.normalisation]
    device = next(network.parameters()).device
    images = normalise(views.to(device), mean, std)
    training = network.training
    network.eval()
    try:
        maps = [
            _cells(branch, image[None]).double().cpu()
            for branch, image in zip(
                (network.first, network.second or network.first), images, strict=True
            )
        ]
    finally:
        network.train(training)
    return maps


def _cells(branch: Branch, image: Tensor) -> Tensor:
    """Local features (1, n*n, C) of an image (1, 3, S, S)."""
    maps: Tensor = branch.backbone(image)[0]
    cells = maps.flatten(2).transpose(1, 2)
    return cells if branch.projector is None else branch.projector(cells[0])[None]


def _best_matches(distances: Tensor, sides: tuple[int, int], best: int) -> tuple[CellMatch, ...]:
    """The pairs of least distance (P, Q), each first cell once; ties in raster order."""
    smallest, partner = (found[0] for found in nearest(distances[None]))
    order = smallest.argsort(stable=True)[:best].tolist()
    return tuple(
        CellMatch(
            divmod(cell, sides[0]), divmod(int(partner[cell]), sides[1]), float(smallest[cell])
        )
        for cell in order
    )


def draw_matches(picture: Tensor, matches: ViewMatches, path: Path, title: str = "") -> None:
    """Draw the picture with both crops, then the feature-based and the location-based matches.

    Args:
        picture: (3, H, W) uint8, from which the views were made.
        matches: see `find_matches`.
        path: where the PNG goes, whole or not at all.
        title: above everything.

    Raises:
        OSError: as the file system says.
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=150)
    left = _BESIDE / 2
    _draw_picture(_place(figure, left, _SEED, _BESIDE), picture, matches.crops)
    space = "embeddings" if matches.projected else "backbone features"
    left += _SEED + _BESIDE * 1.25
    for found, name, measure in (
        (matches.feature, "feature-based matches", f"l2 distance of {space}"),
        (matches.location, "location-based matches", "distance in source pixels"),
    ):
        axes = _place(figure, left, _SIDE)
        _draw_column(axes, matches, found)
        low, high = found[0].distance, found[-1].distance
        axes.set_title(f"{name}\n{measure}: {low:.3g} to {high:.3g}", fontsize=9)
        left += _SIDE + _BESIDE
    figure.text(0.5, 1.0 - 0.14 / _HEIGHT, title, ha="center", va="top", fontsize=10.5)
    figure.text(
        0.5,
        0.14 / _HEIGHT,
        f"{len(matches.feature)} nearest of {matches.sides[0] ** 2} cells of view 1, each with its "
        "partner in view 2; views without photometric distortion, as the network saw them here",
        ha="center",
        fontsize=8,
        color="dimgrey",
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())


def _place(figure: Figure, left: float, width: float, raised: float = 0.0) -> Axes:
    """Axes as high as a column, or `raised` less from below; all in inches."""
    bottom, height = _BELOW + raised, _COLUMN - raised
    return figure.add_axes((left / _WIDTH, bottom / _HEIGHT, width / _WIDTH, height / _HEIGHT))


def _draw_picture(axes: Axes, picture: Tensor, crops: Tensor) -> None:
    """The seed image with the crops' rectangles."""
    axes.imshow(picture.permute(1, 2, 0).numpy())
    for k, (top, left, height, width, flip) in enumerate(crops.tolist()):
        axes.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5),
                width,
                height,
                fill=False,
                edgecolor=_COLOURS[k],
                linewidth=2.5,
                clip_on=False,
                label=f"view {k + 1}{' (mirrored)' if flip else ''}",
            )
        )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, fontsize=8, frameon=False)
    axes.set_title("seed image", fontsize=9)
    axes.set_axis_off()


def _draw_column(axes: Axes, matches: ViewMatches, found: Sequence[CellMatch]) -> None:
    """Both views, one above the other with sides of 1, their grids, and lines between cells."""
    tops = (0.0, 1.0 + _GAP)
    for k, (view, side, top) in enumerate(zip(matches.views, matches.sides, tops, strict=True)):
        axes.imshow(
            view.permute(1, 2, 0).numpy(),
            extent=(0.0, 1.0, top + 1.0, top),
            interpolation="bilinear",
        )
        for line in range(1, side):
            style: dict[str, Any] = {"color": "white", "linewidth": 0.7, "alpha": 0.7}
            axes.plot((0.0, 1.0), (top + line / side,) * 2, **style)
            axes.plot((line / side,) * 2, (top, top + 1.0), **style)
        frame = Rectangle(
            (0.0, top), 1.0, 1.0, fill=False, edgecolor=_COLOURS[k], linewidth=2.5, clip_on=False
        )
        axes.add_patch(frame)
        mirrored = " (mirrored)" if int(matches.crops[k, 4]) else ""
        axes.text(
            -0.04,
            top + 0.5,
            f"view {k + 1}{mirrored}",
            rotation=90,
            ha="right",
            va="center",
            fontsize=8,
            color=_COLOURS[k],
        )
    outline = [withStroke(linewidth=3.0, foreground="black", alpha=0.6)]
    along = np.linspace(0.0, 1.0, 33)
    for match in found:
        ends = zip((match.first, match.second), matches.sides, tops, strict=True)
        (x, y), (to_x, to_y) = (
            ((column + 0.5) / side, top + (row + 0.5) / side) for (row, column), side, top in ends
        )
        # lines between cells of one column would hide each other: each row bows differently
        bow = _BOW / matches.sides[0] * ((match.first[0] + 0.5) / matches.sides[0] - 0.5)
        axes.plot(
            x + (to_x - x) * along + bow * 4.0 * along * (1.0 - along),
            y + (to_y - y) * along,
            color="yellow",
            linewidth=1.5,
            path_effects=outline,
            zorder=3,
        )
        axes.scatter(
            (x, to_x), (y, to_y), s=26, c="yellow", edgecolors="black", linewidths=0.7, zorder=4
        )
    axes.set(xlim=(0.0, 1.0), ylim=(2.0 + _GAP, 0.0), aspect="equal")
    axes.set_axis_off()
