"""Find where in a file a backbone lies, and which backbone it is.

Nothing here knows a method's key names. Every place (a container, as it is or translated from one
of the dialects in `names`, and a prefix) at which some key continues with a key of a target
backbone is a candidate; it is scored by how many of the target's tensors it covers with the right
shape, and only full coverage is accepted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    {
        "absolute_pos_embed",
        "cls_token",
        "dist_token",
        "fc_norm",
        "ln_pre",
        "norm_pre",
        "pos_embed",
        "prompt_embeddings",
        "reg_token",
        "register_tokens",
        "rel_pos_bias",
        "rope",
    }
)
"""Modules that a backbone needs to give its features: none may be left over."""

_MOST_PARTS = 16
_MOST_PLACES = 64
_MOST_PREFIXES = 256
"""Of a container; those with the most keys of a backbone. Bounds the work on hostile files."""

_RELEVANT = 0.5
"""Share of the best place's tensors from which on a preferred place is meant by its method."""


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


@dataclass(frozen=True)
class _Place:
    """A container, a prefix, and the tensors behind the prefix by the rest of their key.

    `score` is the number of tensors of the target that it covers best; `whole` says whether it
    covers one entirely.
    """

    container: _Translated
    prefix: str
    tensors: Mapping[str, Tensor]
    score: int
    whole: bool

    @property
    def address(self) -> str:
        return join_address(self.container.name, self.prefix)

    def named(self, address: str) -> bool:
        """Whether a user or a card means this place: by full address, or by the prefix alone."""
        return address.rstrip(".") in (self.address.rstrip("."), self.prefix.rstrip("."))


@dataclass(frozen=True, eq=False)  # tensors have no truth value
class _Candidate:
    """A place, how it covers every target, and the targets that it fits."""

    place: _Place
    reports: Mapping[str, Coverage]
    fits: tuple[str, ...]


def require_target(arch: str | None, targets: Targets) -> None:
    """Check the name of a target, where one is given.

    Raises:
        CheckpointError: there is no such target.
    """
    if arch is not None and arch not in targets:
        raise CheckpointError(
            f"unknown backbone {arch!r}; `vicregl-bench ls architectures` lists them"
        )


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
        CheckpointError: no place covers a target whole, the place that the method means does not,
            it holds blocks that the target does not have, or several places hold different
            backbones and nothing settles which.
    """
    require_target(arch, targets)
    places = _find_places(contents, targets)
    if not places:
        _nothing_matched(contents, path)
    if prefix is not None:
        places = _places_named(places, prefix, path)
    candidates = [_candidate(place, targets) for place in places]
    found = [one for one in candidates if arch in one.fits or (arch is None and one.fits)]
    if prefix is None:
        _require_the_meant(candidates, found, prefer, targets, arch=arch, path=path)
    if not found:
        _no_fit(candidates, targets, arch=arch, path=path)
    best = [(one, arch or _choose(one.fits, targets, prefer_archs)) for one in found]
    candidate, chosen, why = _settle(best, prefer=prefer, path=path)
    place = candidate.place
    coverage = replace(
        candidate.reports[chosen],
        dropped=_dropped(place),
        chosen="--prefix" if prefix is not None else why,
    )
    return Resolution(
        coverage=coverage,
        also_fits=tuple(name for name in candidate.fits if name != chosen),
        tensors={key: place.tensors[key] for key in coverage.matched},
    )


def _candidate(place: _Place, targets: Targets) -> _Candidate:
    reports = {name: _cover(place, name, target) for name, target in targets.items()}
    fits = tuple(name for name, target in targets.items() if _fits(reports[name], target))
    return _Candidate(place, reports, fits)


def _require_the_meant(
    candidates: Sequence[_Candidate],
    found: Sequence[_Candidate],
    prefer: Sequence[str],
    targets: Targets,
    *,
    arch: str | None,
    path: str,
) -> None:
    """Stop where the place that the method means is there, damaged, and another place is whole."""
    top = max(one.place.score for one in candidates)
    for address in prefer:
        meant = [
            one
            for one in candidates
            if one.place.named(address) and one.place.score >= _RELEVANT * top
        ]
        if any(one in found for one in meant):
            return
        if meant:
            other = f"; to take {found[0].place.address} instead, name it" if found else ""
            _no_fit(meant, targets, arch=arch, path=path, else_do=f"pass --prefix{other}")


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
    sizes = {name: sum(not is_counter(key) for key in target) for name, target in targets.items()}
    places: list[_Place] = []
    for container in (found for held in contents.containers for found in _translations(held)):
        prefixes: Counter[str] = Counter()
        for key in container.tensors:
            parts = key.split(".")
            for cut in range(min(len(parts), _MOST_PARTS)):
                if ".".join(parts[cut:]) in known:
                    prefixes["".join(part + "." for part in parts[:cut])] += 1
        for prefix, _ in prefixes.most_common(_MOST_PREFIXES):
            tensors = {
                key[len(prefix) :]: tensor
                for key, tensor in container.tensors.items()
                if key.startswith(prefix)
            }
            covered = {
                name: sum(
                    not is_counter(key) and key in target and _agree(tensor.shape, target[key])
                    for key, tensor in tensors.items()
                )
                for name, target in targets.items()
            }
            whole = any(covered[name] == sizes[name] for name in targets)
            places.append(_Place(container, prefix, tensors, max(covered.values()), whole))
    top = max((place.score for place in places), default=0)
    kept = [place for place in places if place.score and (place.whole or place.score * 10 >= top)]
    least = sorted((place.score for place in kept), reverse=True)[:_MOST_PLACES]
    return [place for place in kept if place.whole or place.score >= least[-1]][:_MOST_PLACES]


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
    return Coverage(
        arch=arch,
        container=place.container.name,
        prefix=place.prefix,
        matched=tuple(matched),
        missing=tuple(missing),
        missing_harmless=tuple(harmless),
        wrong_shape=tuple(wrong),
        unexpected=tuple(key for key in place.tensors if key not in target and not is_counter(key)),
        dropped=(),
        names=place.container.dialect,
        reshaped=tuple(key for key in matched if place.prefix + key in place.container.reshaped),
    )


def _dropped(place: _Place) -> tuple[tuple[str, int], ...]:
    """Count the tensors of the container outside the place, by group."""
    outside = (key for key in place.container.tensors if not key.startswith(place.prefix))
    return tuple(Counter(_group(key, place.prefix) for key in outside).items())


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
    best: list[tuple[_Candidate, str]], *, prefer: Sequence[str], path: str
) -> tuple[_Candidate, str, str]:
    """Choose between places that each hold a whole backbone; equal values are no choice.

    Returns the candidate, its target, and what settled it.
    """
    first = best[0]
    if all(_same(first, other) for other in best[1:]):
        return *first, "the only one" if len(best) == 1 else "equal values in several places"
    for address in prefer:
        meant = [entry for entry in best if entry[0].place.named(address)]
        if meant and all(_same(meant[0], other) for other in meant[1:]):
            return *meant[0], f"the method's card prefers {address.rstrip('.')}"
    there = ", ".join(f"{_quote(one.place.address)} ({name})" for one, name in best)
    raise CheckpointError(
        f"{path}: holds {len(best)} different backbones: {there}; pass --prefix with the one to use"
    )


def _same(one: tuple[_Candidate, str], other: tuple[_Candidate, str]) -> bool:
    """Whether two places hold the same backbone with the same values, counters aside."""
    (here, arch), (there, arch_there) = one, other
    return arch == arch_there and all(
        _equal(here.place.tensors[key], there.place.tensors[key])
        for key in here.reports[arch].matched
        if not is_counter(key)
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    plain = all(value.layout == torch.strided and not value.is_meta for value in (one, other))
    return plain and one.dtype == other.dtype and torch.equal(one, other)


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


def _no_fit(
    candidates: Sequence[_Candidate],
    targets: Targets,
    *,
    arch: str | None,
    path: str,
    else_do: str = "pass --prefix if the backbone lies elsewhere",
) -> NoReturn:
    """Say which backbone comes nearest, what is wrong with it, and list the nearest misses."""
    reports = [report for one in candidates for report in one.reports.values()]
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
            f"weights hold more than {nearest.arch}, which changes the features, e.g. {extra[0]} "
            f"(beyond it {len(extra)}; {covered})"
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
    elif nearest.complete:
        todo = "it is another architecture (`vicregl-bench ls architectures` lists those read)"
    elif arch is not None:
        todo = f"pass another --arch, or {else_do}"
    else:
        todo = f"{else_do} (`vicregl-bench ls architectures` lists those known)"
    lines = [f"{path}: {what}; {todo}"]
    if not (nearest.complete and others):
        lines.append("nearest misses (place, backbone, covered, first difference):")
        lines += [
            f"  {_quote(report.address)}  {report.arch}  {len(report.matched)}/{report.total}  "
            f"{_difference(report, targets[report.arch])}"
            for report in ranked[:_TABLE_ROWS]
            if 2 * len(report.matched) >= len(nearest.matched)
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
