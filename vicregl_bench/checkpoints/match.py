"""Find where in a file a backbone lies, and which backbone it is.

Nothing here knows a method's key names. Every place (a container, as it is or translated from one
of the dialects in `names`, and a prefix) at which some key continues with a key of a target
backbone is a candidate; it is scored by how many of the target's tensors it covers with the right
shape, and only full coverage is accepted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.checkpoints.coverage import Coverage, Shape, join_address
from vicregl_bench.checkpoints.names import DIALECTS
from vicregl_bench.checkpoints.weights import is_counter
from vicregl_bench.errors import CheckpointError

Target = Mapping[str, Shape]
"""The state dict of one backbone: key -> shape; a negative side may be any."""

Targets = Mapping[str, Target]
"""Name of the backbone -> its keys and shapes; where several fit alike, the first is meant."""

_TABLE_ROWS = 8

_CLASSIFIERS = ("head.fc.",)
"""What a backbone of ours never has though its first name part is the backbone's own."""

_RECOMPUTED = ("relative_position_index", "attn_mask")
"""Buffers that some projects save and that follow from the architecture."""

_ALTERING = frozenset(
    {"norm_pre", "ln_pre", "dist_token", "reg_token", "register_tokens", "fc_norm", "rope"}
)
"""Modules that a backbone needs to give its features: none may be left over."""


@dataclass(frozen=True)
class Resolution:
    """The backbone found in a file.

    Attributes:
        coverage: where it lies, and what is left over there.
        also_fits: other target names the same tensors fit as well, e.g. a ResNet-50 with its
            stride elsewhere; the file cannot tell them apart.
        tensors: the backbone's keys -> the file's tensors, unconverted.
    """

    coverage: Coverage
    also_fits: tuple[str, ...]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Translated:
    """A container under canonical names: as it is, or translated from a dialect.

    `reshaped` names the tensors whose layout changed with the translation.
    """

    name: str
    tensors: Mapping[str, Tensor]
    dialect: str = ""
    reshaped: frozenset[str] = frozenset()


_PlaceId = tuple[str, str]  # dialect, address


@dataclass(frozen=True)
class _Place:
    """A container, a prefix, and the tensors behind the prefix by the rest of their key."""

    container: _Translated
    prefix: str
    tensors: Mapping[str, Tensor]

    @property
    def id(self) -> _PlaceId:
        return self.container.dialect, self.address

    @property
    def address(self) -> str:
        return join_address(self.container.name, self.prefix)

    def named(self, address: str) -> bool:
        """Whether a user or a card means this place: by full address, or by the prefix alone."""
        return address.rstrip(".") in (self.address.rstrip("."), self.prefix.rstrip("."))


def resolve(
    contents: Contents,
    targets: Targets,
    *,
    path: str,
    arch: str | None = None,
    prefix: str | None = None,
    prefer: Sequence[str] = (),
    prefer_archs: Sequence[str] = (),
) -> Resolution:
    """Find the one backbone that the file holds.

    Args:
        contents: the file's containers.
        targets: the backbones to look for.
        path: the file, for the errors' text.
        arch: accept this target alone; otherwise the one with the most tensors covered is taken,
            the first in the order of `targets` among equals.
        prefix: look at this place alone: a prefix (`module.backbone.`), or container and prefix
            (`model.module.backbone.`), with or without the final dot; `""` for the bare keys.
        prefer: places, written likewise, that settle a tie, best first.
        prefer_archs: targets meant where several of the same shapes fit, best first.

    Raises:
        CheckpointError: no place covers a target whole, the place holds blocks that the target
            does not have, or several places hold different backbones and nothing settles which.
    """
    if arch is not None and arch not in targets:
        raise CheckpointError(
            f"unknown backbone {arch!r}; `vicregl-bench ls architectures` lists them"
        )
    places = _find_places(contents, targets)
    if not places:
        _nothing_matched(contents, path)
    if prefix is not None:
        places = _places_named(places, prefix, path)
    reports = {
        (place.id, name): _cover(place, name, target)
        for place in places
        for name, target in targets.items()
    }
    fits: list[tuple[_Place, list[str]]] = []
    for place in places:
        names = [name for name in targets if _fits(reports[place.id, name], targets[name])]
        if names and (arch is None or arch in names):
            fits.append((place, names))
    if not fits:
        _no_fit(list(reports.values()), targets, arch=arch, path=path)
    best = [(place, names, arch or _choose(names, targets, prefer_archs)) for place, names in fits]
    place, names, chosen = _settle(best, reports, prefer=prefer, path=path)
    coverage = reports[place.id, chosen]
    return Resolution(
        coverage=coverage,
        also_fits=tuple(name for name in names if name != chosen),
        tensors={key: place.tensors[key] for key in coverage.matched},
    )


def _choose(names: Sequence[str], targets: Targets, prefer: Sequence[str]) -> str:
    """Choose between targets that a place covers: the largest; of equals the preferred one."""
    most = max(len(targets[name]) for name in names)
    largest = [name for name in names if len(targets[name]) == most]
    return next((name for name in prefer if name in largest), largest[0])


def _translations(container: Container) -> Iterator[_Translated]:
    yield _Translated(container.name, container.tensors)
    ids = {id(tensor) for tensor in container.tensors.values()}
    for dialect in DIALECTS:
        tensors = dialect.read(container.tensors)
        if tensors is not None:
            reshaped = frozenset(key for key, tensor in tensors.items() if id(tensor) not in ids)
            yield _Translated(container.name, tensors, f"{dialect.name} {dialect.family}", reshaped)


def _find_places(contents: Contents, targets: Targets) -> list[_Place]:
    """List every container and prefix at which keys of a target occur.

    Places that hold less than a tenth of what the best one does (the inside of a residual block,
    which has a `conv1.weight` too) are left out.
    """
    known = {key for target in targets.values() for key in target if not is_counter(key)}
    scored: list[tuple[int, _Place]] = []
    for container in (found for held in contents.containers for found in _translations(held)):
        prefixes: dict[str, None] = {}
        for key in container.tensors:
            parts = key.split(".")
            for cut in range(len(parts)):
                if ".".join(parts[cut:]) in known:
                    prefixes["".join(part + "." for part in parts[:cut])] = None
        for prefix in prefixes:
            tensors = {
                key[len(prefix) :]: tensor
                for key, tensor in container.tensors.items()
                if key.startswith(prefix)
            }
            score = max(
                sum(
                    key in target and _agree(tensor.shape, target[key])
                    for key, tensor in tensors.items()
                )
                for target in targets.values()
            )
            scored.append((score, _Place(container, prefix, tensors)))
    top = max((score for score, _ in scored), default=0)
    return [place for score, place in scored if score * 10 >= top and score > 0]


def _places_named(places: list[_Place], prefix: str, path: str) -> list[_Place]:
    exact = [place for place in places if place.address.rstrip(".") == prefix.rstrip(".")]
    named = exact or [place for place in places if place.named(prefix)]
    if not named:
        there = ", ".join(_quote(place.address) for place in places)
        raise CheckpointError(
            f"{path}: nothing like a backbone at --prefix {_quote(prefix)}; candidates: {there}"
        )
    return named


def _agree(shape: Sequence[int], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        side == need or need < 0 for side, need in zip(shape, wanted, strict=True)
    )


def _cover(place: _Place, arch: str, target: Target) -> Coverage:
    matched: list[str] = []
    missing: list[str] = []
    harmless: list[str] = []
    wrong: list[tuple[str, Shape, Shape]] = []
    for key, shape in target.items():
        tensor = place.tensors.get(key)
        if tensor is not None and _agree(tensor.shape, shape):
            matched.append(key)
        elif is_counter(key):
            harmless.append(key)
        elif tensor is None:
            missing.append(key)
        else:
            wrong.append((key, tuple(tensor.shape), tuple(shape)))
    dropped = Counter(
        _group(key, place.prefix)
        for key in place.container.tensors
        if not key.startswith(place.prefix)
    )
    return Coverage(
        arch=arch,
        container=place.container.name,
        prefix=place.prefix,
        matched=tuple(matched),
        missing=tuple(missing),
        missing_harmless=tuple(harmless),
        wrong_shape=tuple(wrong),
        unexpected=tuple(key for key in place.tensors if key not in target and not is_counter(key)),
        dropped=tuple(dropped.items()),
        names=place.container.dialect,
        reshaped=tuple(key for key in matched if place.prefix + key in place.container.reshaped),
    )


def _group(key: str, prefix: str) -> str:
    """Name the group a key outside the prefix belongs to: its first part that leaves the prefix."""
    parts, lead = key.split("."), prefix.split(".")[:-1]
    common = 0
    while common < min(len(lead), len(parts) - 1) and parts[common] == lead[common]:
        common += 1
    return ".".join(parts[: common + 1])


def _leftovers(coverage: Coverage, target: Target) -> list[str]:
    """List unexpected keys that change what a backbone computes.

    They lie inside its own modules (more blocks, other layers, biases), or are of a module that
    its features go through.
    """
    modules = {key.partition(".")[0] for key in target} | _ALTERING
    return [
        key
        for key in coverage.unexpected
        if key.partition(".")[0] in modules
        and not key.startswith(_CLASSIFIERS)
        and not key.endswith(_RECOMPUTED)
    ]


def _fits(coverage: Coverage, target: Target) -> bool:
    return coverage.complete and not _leftovers(coverage, target)


def _settle(
    best: list[tuple[_Place, list[str], str]],
    reports: Mapping[tuple[_PlaceId, str], Coverage],
    *,
    prefer: Sequence[str],
    path: str,
) -> tuple[_Place, list[str], str]:
    """Choose between places that each hold a whole backbone; equal values are no choice."""
    first = best[0]
    if all(_same(first, other, reports) for other in best[1:]):
        return first
    for address in prefer:
        meant = [entry for entry in best if entry[0].named(address)]
        if meant and all(_same(meant[0], other, reports) for other in meant[1:]):
            return meant[0]
    there = ", ".join(f"{_quote(place.address)} ({name})" for place, _, name in best)
    raise CheckpointError(
        f"{path}: holds {len(best)} different backbones: {there}; pass --prefix with the one to use"
    )


def _same(
    one: tuple[_Place, list[str], str],
    other: tuple[_Place, list[str], str],
    reports: Mapping[tuple[_PlaceId, str], Coverage],
) -> bool:
    """Whether two places hold the same backbone with the same values, counters aside."""
    (here, _, arch), (there, _, arch_there) = one, other
    return arch == arch_there and all(
        torch.equal(here.tensors[key], there.tensors[key])
        for key in reports[here.id, arch].matched
        if not is_counter(key)
    )


def _nothing_matched(contents: Contents, path: str) -> NoReturn:
    if not contents.containers:
        raise CheckpointError(
            f"{path}: holds no tensors under string keys; give a file with a state dict"
        )
    lines = [
        f"{path}: nothing in the file matches a known backbone's tensors; "
        "check that it is a checkpoint of one. It holds:"
    ]
    for found in contents.containers[:_TABLE_ROWS]:
        keys = list(found.tensors)
        lines.append(f"  {_quote(found.name)}: {len(keys)} tensors, e.g. {', '.join(keys[:3])}")
    raise CheckpointError("\n".join(lines))


def _no_fit(reports: list[Coverage], targets: Targets, *, arch: str | None, path: str) -> NoReturn:
    """Say which backbone comes nearest, what is wrong with it, and list the nearest misses."""
    others = [report.arch for report in reports if _fits(report, targets[report.arch])]
    ranked = sorted(
        (report for report in reports if arch is None or report.arch == arch),
        key=lambda report: (len(report.matched), len(report.matched) / max(report.total, 1)),
        reverse=True,
    )
    nearest = ranked[0]
    covered = f"{len(nearest.matched)} of {nearest.total} tensors covered"
    extra = _leftovers(nearest, targets[nearest.arch])
    if nearest.complete:
        what = (
            f"weights hold more blocks or layers than {nearest.arch}: {len(extra)} tensors beyond "
            f"it, e.g. {extra[0]} ({covered})"
        )
    elif arch is not None:
        what = f"weights do not fit {arch}: {covered}, {_difference(nearest)}"
    else:
        what = (
            f"weights fit no known backbone: {nearest.arch} comes nearest with {covered}, "
            f"{_difference(nearest)}"
        )
    if others:
        todo = f"they look like {others[0]}: pass --arch {others[0]}"
    elif arch is not None:
        todo = "pass another --arch, or --prefix if the backbone lies elsewhere"
    else:
        todo = (
            "pass --prefix if the backbone lies elsewhere "
            "(`vicregl-bench ls architectures` lists those known)"
        )
    lines = [f"{path}: {what}; {todo}"]
    if not (nearest.complete and others):
        lines.append("nearest misses (place, backbone, covered, first difference):")
        lines += [
            f"  {_quote(report.address)}  {report.arch}  {len(report.matched)}/{report.total}  "
            f"{_difference(report, targets[report.arch])}"
            for report in ranked[:_TABLE_ROWS]
        ]
    raise CheckpointError("\n".join(lines))


def _difference(coverage: Coverage, target: Target | None = None) -> str:
    """Describe the first thing that is wrong with a place."""
    if coverage.missing:
        key = coverage.missing[0]
        parent = key.rpartition(".")[0] + "."
        instead = [found for found in coverage.unexpected if found.startswith(parent)]
        return f"{key} is missing" + (f" (the file has {instead[0]})" if instead else "")
    if coverage.wrong_shape:
        key, found, wanted = coverage.wrong_shape[0]
        return f"{key} is {list(found)}, wanted {list(wanted)}"
    extra = _leftovers(coverage, target) if target else []
    return f"{extra[0]} is one too many" if extra else "fits"


def _quote(address: str) -> str:
    return address or '""'
