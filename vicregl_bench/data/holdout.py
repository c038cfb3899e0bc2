"""The slice of train that chooses among the points of a grid."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from vicregl_bench.data.classification import Labelled, MultiLabelled
from vicregl_bench.data.detection import Picture
from vicregl_bench.data.segmentation import Pair
from vicregl_bench.errors import ConfigError, DataError

Item = TypeVar("Item", bound=Pair | Picture | Labelled | MultiLabelled)


def split_holdout(
    items: Sequence[Item], share: float = 0.1, seed: int = 0
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Hold out a seeded slice of `items`; return (kept, held), both in the order given.

    The slice is the first round(share * n), at least 1, in the order of sha256(f"{seed}:{name}"):
    the same on every machine and under every library version. Of pictures with one class each the
    i-th of a class of m in that order (from 0) comes at (i + 1/2) / m, so that all classes give the
    same share as near as may be. The last of each class (or of all, where there are none) is kept.

    Raises DataError for fewer than 2 items or where every class has one alone, ConfigError for a
    share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ConfigError(f"hold-out share {share} is not between 0 and 1")
    digests = {item.name: hashlib.sha256(f"{seed}:{item.name}".encode()).digest() for item in items}
    groups: dict[int | None, list[str]] = defaultdict(list)
    for item in items:
        groups[item.label if isinstance(item, Labelled) else None].append(item.name)
    places = {
        name: ((place + 0.5) / len(names), digests[name])
        for names in groups.values()
        for place, name in enumerate(sorted(names, key=digests.__getitem__)[:-1])
    }
    if not places:
        raise DataError(
            f"cannot hold out a slice of {len(items)} pictures: at least 2 of one class are "
            "needed, so that one stays in train"
        )
    count = max(1, round(share * len(items)))
    held_names = set(sorted(places, key=places.__getitem__)[:count])
    kept = tuple(item for item in items if item.name not in held_names)
    held = tuple(item for item in items if item.name in held_names)
    return kept, held
