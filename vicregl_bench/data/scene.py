"""Made-up pictures whose classes are told apart by shape and texture, not by colour.

A scene is one to four textured objects on textured ground, with exact labels. Every class has an
outline and a texture of its own; the two colours of an object are drawn anew each time, from the
distribution that the ground's colours come from. Knows nothing of any data set's layout.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vicregl_bench.data.segmentation import IGNORE, Labels

Array = npt.NDArray[np.float64]
Texture = Callable[[Array, Array, float, np.random.Generator], Array]

MIN_SIDE = 64  # below it textures of a few pixels' period and 2 px borders leave no object
_REFERENCE_SIDE = 120  # short side in which the periods of LOOKS are given
MAX_OBJECTS = 4
_TRIES = 12  # placements tried for an object before it is left out


@dataclass(frozen=True)
class Instance:
    """One object: its class, the box of its labelled pixels and how much of it is hidden."""

    label: int  # 1..20
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels from 0, all inclusive
    truncated: bool  # reaches beyond the picture
    occluded: bool  # partly behind another object


@dataclass(frozen=True)
class Scene:
    """A picture with its labels; 255 on the borders of objects, 0 on the ground."""

    image: npt.NDArray[np.uint8]  # (H, W, 3)
    labels: Labels  # (H, W), class
    objects: Labels  # (H, W), 1-based index into instances
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Look:
    """What all objects of a class share."""

    outline: tuple[tuple[float, float], ...]  # polygon in [-1, 1] x [-1, 1]
    texture: Texture
    period: float  # pixels, for a short side of 120
    angle: float  # of the texture against the object, degrees


def draw_scene(
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    classes: int,
    first: int,
    most: int = MAX_OBJECTS,
) -> Scene:
    """Draw a scene of `size` (width, height) with classes 1..`classes`; class `first` is in it.

    It has at most `most` objects. No later one hides more than about half of an earlier one.
    """
    width, height = size
    image = _ground(rng, height, width)
    objects: Labels = np.zeros((height, width), dtype=np.uint8)
    areas: list[int] = []  # pixels each object would have alone and untruncated
    labels: list[int] = []
    outside: list[bool] = []
    wanted = [first, *rng.integers(1, classes + 1, size=int(rng.integers(0, most)))]
    for label in map(int, wanted):
        for _ in range(_TRIES):
            placed = _place(rng, LOOKS[label - 1], size)
            trial = np.where(placed.inside, np.uint8(len(areas) + 1), objects)
            if _all_visible(trial, [*areas, placed.area]):
                objects = trial
                areas.append(placed.area)
                labels.append(label)
                outside.append(placed.truncated)
                image = np.where(placed.inside[..., None], _paint(rng, label, placed), image)
                break
    lighting = 1 + 0.5 * (_smooth_noise(rng, height, width, min(size) / 1.5) - 0.5)
    image = image * lighting[..., None] + rng.normal(0, 4, image.shape)
    return _finish(image, objects, labels, areas, outside)


def mark_borders(objects: Labels) -> Labels:
    """Return `objects` with 255 on both sides of every edge between objects or object and ground.

    The border is 2 px wide at a short side up to 300, 4 px at 400 (VOC: about 5 px at 500 x 375).
    """
    reach = max(1, round(min(objects.shape) / 200))
    height, width = objects.shape
    padded = np.pad(objects, reach, mode="edge")
    border = np.zeros(objects.shape, dtype=bool)
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            border |= padded[dy : dy + height, dx : dx + width] != objects
    return np.where(border, np.uint8(IGNORE), objects)


@dataclass(frozen=True)
class _Placed:
    """An outline put into the picture, with the object's own coordinates in pixels."""

    inside: npt.NDArray[np.bool_]  # (H, W)
    along: Array  # (H, W)
    across: Array  # (H, W)
    area: int
    truncated: bool


def _place(rng: np.random.Generator, look: Look, size: tuple[int, int]) -> _Placed:
    width, height = size
    short = min(size)
    radius = rng.uniform(0.2, 0.4) * short
    stretch = rng.uniform(0.85, 1.15)
    angle = np.deg2rad(rng.uniform(-20, 20))
    centre = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = (np.array(look.outline) * [radius * stretch, radius / stretch]) @ turn.T + centre

    margin = int(np.ceil(1.5 * radius))
    canvas = Image.new("1", (width + 2 * margin, height + 2 * margin))
    ImageDraw.Draw(canvas).polygon([(x + margin, y + margin) for x, y in corners], fill=1)
    whole = np.asarray(canvas)
    inside = whole[margin : margin + height, margin : margin + width]

    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    tilt = angle + np.deg2rad(look.angle)
    x, y = x - centre[0], y - centre[1]
    along = np.cos(tilt) * x + np.sin(tilt) * y
    across = -np.sin(tilt) * x + np.cos(tilt) * y
    area = int(whole.sum())
    return _Placed(inside, along, across, area, bool(inside.sum() < area))


def _paint(rng: np.random.Generator, label: int, placed: _Placed) -> Array:
    """Return the object's texture in two random colours over the whole picture, (H, W, 3)."""
    look = LOOKS[label - 1]
    period = look.period * min(placed.inside.shape) / _REFERENCE_SIDE * rng.uniform(0.85, 1.2)
    shift = rng.uniform(-0.5, 0.5, size=2) * period
    value = look.texture(placed.along + shift[0], placed.across + shift[1], period, rng)
    return _blend(value, *_two_colours(rng))


def _ground(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return ground of smooth noise at several scales in two random colours, (H, W, 3)."""
    value = np.zeros((height, width))
    weights = rng.uniform(0.3, 1, size=4)
    for octave, weight in enumerate(weights, start=1):
        value += weight * _smooth_noise(rng, height, width, min(height, width) / 2**octave)
    value /= weights.sum()
    return _blend(np.clip(0.5 + 2.5 * (value - 0.5), 0, 1), *_two_colours(rng))


def _all_visible(objects: Labels, areas: list[int]) -> bool:
    """Whether every object keeps 40 % of its pixels inside the picture, its borders and others."""
    counts = np.bincount(mark_borders(objects).ravel(), minlength=256)
    return all(counts[index] >= 0.4 * area for index, area in enumerate(areas, start=1))


def _finish(
    image: Array, objects: Labels, labels: list[int], areas: list[int], outside: list[bool]
) -> Scene:
    marked = mark_borders(objects)
    to_class = np.zeros(256, dtype=np.uint8)
    to_class[1 : len(labels) + 1] = labels
    to_class[IGNORE] = IGNORE
    instances: list[Instance] = []
    for index, (label, area, truncated) in enumerate(zip(labels, areas, outside, strict=True), 1):
        rows, columns = np.nonzero(marked == index)
        box = (int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max()))
        occluded = not truncated and int((objects == index).sum()) < area
        instances.append(Instance(label, box, truncated, occluded))
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(pixels, to_class[marked], marked, tuple(instances))


def _two_colours(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw two RGB colours whose luma (BT.601) differs enough to survive JPEG's chroma loss."""
    luma = np.array([0.299, 0.587, 0.114])
    while True:
        first, second = rng.uniform(20, 235, size=(2, 3))
        if abs((first - second) @ luma) >= 60:
            return first, second


def _blend(value: Array, first: Array, second: Array) -> Array:
    return first + value[..., None] * (second - first)


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Array:
    """Return noise in [0, 1] that varies over about `cell` pixels, (H, W)."""
    rows, columns = int(np.ceil(height / cell)) + 2, int(np.ceil(width / cell)) + 2
    grid = Image.fromarray(rng.uniform(0, 1, size=(rows, columns)).astype(np.float32))
    # The margin of one cell on each side keeps the resampling's edge out of the picture.
    box = (1, 1, 1 + width / cell, 1 + height / cell)
    noise = np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=box))
    return np.clip(noise.astype(np.float64), 0, 1)


# Textures: values in [0, 1] over coordinates (u, v) in pixels. `_soft` is a smoothed threshold.


def _soft(value: Array) -> Array:
    return np.clip(0.5 + 1.5 * value, 0, 1)


def _wave(distance: Array, period: float) -> Array:
    return np.sin(2 * np.pi * distance / period)


def _saw(distance: Array, period: float) -> Array:
    return (distance / period) % 1.0


def _fold(distance: Array, period: float) -> Array:
    """Triangle wave in [0, 1]."""
    return np.abs(2 * _saw(distance, period) - 1)


def _stripes(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(v, period))


def _double_stripes(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(v, period) + _wave(v, period / 2) - 0.3)


def _ramps(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _saw(v, period)


def _rings(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(np.hypot(u, v), period))


def _squares(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(np.maximum(np.abs(u), np.abs(v)), period))


def _diamonds(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(np.abs(u) + np.abs(v), period))


def _spiral(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(np.sin(2 * np.pi * np.hypot(u, v) / period + 3 * np.arctan2(v, u)))


def _spokes(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(np.sin(14 * np.arctan2(v, u)))


def _checker(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(2 * _wave(u, period) * _wave(v, period))


def _dots(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(u, period) + _wave(v, period) - 0.6)


def _grid(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(3 * np.maximum(_wave(u, period), _wave(v, period)) - 2.1)


def _zigzag(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(v + period * _fold(u, 2 * period), period))


def _ripples(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return _soft(_wave(v + 0.5 * period * _wave(u, 3 * period), period))


def _bricks(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    odd = np.floor(v / period) % 2
    mortar = (_saw(v, period) < 0.25) | (_saw(u + odd * period, 2 * period) < 0.125)
    return mortar.astype(np.float64)


def _triangles(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    return (_saw(u, period) + _saw(v, period) < 1).astype(np.float64)


def _plus_signs(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    x, y = np.abs(_saw(u, period) - 0.5), np.abs(_saw(v, period) - 0.5)
    sign = ((x < 0.13) & (y < 0.38)) | ((y < 0.13) & (x < 0.38))
    return sign.astype(np.float64)


def _blotches(u: Array, v: Array, period: float, rng: np.random.Generator) -> Array:
    height, width = u.shape
    return _soft(6 * (_smooth_noise(rng, height, width, period / 2) - 0.5))


# Outlines


def _polar(radius: Callable[[Array], Array]) -> tuple[tuple[float, float], ...]:
    turns: Array = np.linspace(0, 2 * np.pi, 96, endpoint=False, dtype=np.float64)
    reach = radius(turns)
    return tuple(
        zip((reach * np.sin(turns)).tolist(), (-reach * np.cos(turns)).tolist(), strict=True)
    )


def _regular(corners: int, inner: float | None = None) -> tuple[tuple[float, float], ...]:
    """Return a regular polygon, or a star whose inner corners lie at radius `inner`."""
    reach = [1.0] * corners if inner is None else [1.0, inner] * corners
    turns = 2 * np.pi * np.arange(len(reach)) / len(reach)
    points = np.array(reach)[:, None] * np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return tuple((float(x), float(y)) for x, y in points)


_DISC = _polar(np.ones_like)
_OVAL = tuple((x, 0.6 * y) for x, y in _DISC)
_TALL_OVAL = tuple((0.6 * x, y) for x, y in _DISC)
_FLOWER = _polar(lambda turns: 0.78 + 0.22 * np.cos(5 * turns))
_CLOVER = _polar(lambda turns: 0.72 + 0.28 * np.cos(3 * turns))
_GEAR = _polar(lambda turns: np.where(np.cos(8 * turns) > 0, 1.0, 0.75))
_HEART = _polar(lambda turns: 0.6 + 0.36 * np.abs(np.sin(turns)) - 0.29 * np.cos(turns))
_HALF_DISC = tuple((x, min(y, 0.15)) for x, y in _DISC)
_SQUARE = ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
_BAR = ((-1.0, -0.5), (1.0, -0.5), (1.0, 0.5), (-1.0, 0.5))
_TRIANGLE = ((0.0, -1.0), (1.0, 0.8), (-1.0, 0.8))
_RHOMBUS = ((0.0, -1.0), (0.75, 0.0), (0.0, 1.0), (-0.75, 0.0))
_TRAPEZIUM = ((-0.5, -0.75), (0.5, -0.75), (1.0, 0.75), (-1.0, 0.75))
_HOURGLASS = ((-0.9, -1.0), (0.9, -1.0), (0.35, 0.0), (0.9, 1.0), (-0.9, 1.0), (-0.35, 0.0))
_HOUSE = ((0.0, -1.0), (0.85, -0.2), (0.85, 0.9), (-0.85, 0.9), (-0.85, -0.2))
_ARROW = (
    *((-1.0, -0.4), (0.1, -0.4), (0.1, -0.9), (1.0, 0.0)),
    *((0.1, 0.9), (0.1, 0.4), (-1.0, 0.4)),
)
_CROSS = (
    *((-0.4, -1.0), (0.4, -1.0), (0.4, -0.4), (1.0, -0.4), (1.0, 0.4), (0.4, 0.4)),
    *((0.4, 1.0), (-0.4, 1.0), (-0.4, 0.4), (-1.0, 0.4), (-1.0, -0.4), (-0.4, -0.4)),
)
_CORNER = ((-0.9, -0.9), (0.0, -0.9), (0.0, 0.1), (0.9, 0.1), (0.9, 0.9), (-0.9, 0.9))
_TEE = (
    *((-0.95, -0.9), (0.95, -0.9), (0.95, -0.15), (0.42, -0.15)),
    *((0.42, 0.95), (-0.42, 0.95), (-0.42, -0.15), (-0.95, -0.15)),
)

LOOKS: tuple[Look, ...] = (
    Look(_ARROW, _stripes, 6, 90),
    Look(_DISC, _rings, 9, 0),
    Look(_TRIANGLE, _checker, 11, 0),
    Look(_TRAPEZIUM, _zigzag, 10, 0),
    Look(_TALL_OVAL, _dots, 8, 0),
    Look(_BAR, _stripes, 14, 0),
    Look(_HALF_DISC, _grid, 10, 45),
    Look(_HEART, _blotches, 10, 0),
    Look(_CORNER, _bricks, 7, 0),
    Look(_SQUARE, _dots, 16, 30),
    Look(_OVAL, _squares, 9, 0),
    Look(_CLOVER, _ripples, 8, 90),
    Look(_HOURGLASS, _spiral, 9, 0),
    Look(_GEAR, _spokes, 10, 0),
    Look(_CROSS, _triangles, 12, 0),
    Look(_FLOWER, _diamonds, 10, 0),
    Look(_regular(6), _blotches, 5, 0),
    Look(_TEE, _plus_signs, 11, 0),
    Look(_HOUSE, _double_stripes, 14, 45),
    Look(_RHOMBUS, _ramps, 12, 0),
)
"""The outline and texture of classes 1 to 20."""
