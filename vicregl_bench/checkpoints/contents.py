"""What lies in a checkpoint file: its containers of tensors, and everything beside them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

MAX_DEPTH = 4
"""Dicts nested deeper than this are not searched; the deepest layout known (VISSL's
`classy_state_dict.base_model.model.trunk`) needs four."""


@dataclass(frozen=True)
class Container:
    """A dict in the file whose own values include tensors.

    Attributes:
        name: dotted path of the dict in the file, `""` for the file's top level.
        tensors: its tensors by key, in the file's order.
    """

    name: str
    tensors: Mapping[str, Tensor]

    def groups(self) -> frozenset[str]:
        """Return the top-level names of the keys, leading `module.` (DDP) left out."""
        return frozenset(key.removeprefix("module.").partition(".")[0] for key in self.tensors)


@dataclass(frozen=True)
class Contents:
    """Every container of a file.

    Attributes:
        containers: in the file's order, outer ones before inner ones.
        card: the dict called `card` at the file's top level, if there is one.
    """

    containers: tuple[Container, ...]
    card: Mapping[str, object] | None = None

    def get(self, name: str) -> Container | None:
        """Return the container of that dotted name, or None."""
        return next((found for found in self.containers if found.name == name), None)


@dataclass(frozen=True)
class ContainerSummary:
    """One container as `inspect` shows it.

    Attributes:
        name: dotted path in the file, `""` for the top level.
        tensors: number of tensors.
        parameters: elements of all floating-point tensors except running statistics.
        dtypes: number of tensors by dtype, e.g. `{"float32": 267}`.
        groups: number of tensors by leading key parts, e.g. `{"module.backbone": 318}`.
    """

    name: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    groups: dict[str, int]


@dataclass(frozen=True)
class FileSummary:
    """What a file holds, whether or not a known backbone fits it.

    Attributes:
        containers: the dicts that hold tensors.
        other: every other top-level entry, with a short description of its value.
    """

    containers: tuple[ContainerSummary, ...]
    other: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Return the summary as plain JSON values."""
        return {
            "containers": [asdict(found) for found in self.containers],
            "other": dict(self.other),
        }


def find_containers(loaded: object) -> Contents:
    """Find every dict with string keys that holds tensors, down to `MAX_DEPTH` dicts deep.

    A pickled module counts as its state dict. Dicts with other keys (an optimizer's state, by
    parameter number) and lists are not entered.
    """
    entries = _as_mapping(loaded)
    card = entries.get("card") if entries is not None else None
    return Contents(
        tuple(_walk(loaded, "", 0)),
        {str(key): value for key, value in card.items()} if isinstance(card, Mapping) else None,
    )


def summarise_file(loaded: object) -> FileSummary:
    """Summarise what `read_file` returned."""
    contents = find_containers(loaded)
    inside = {found.name.partition(".")[0] for found in contents.containers}
    entries = _as_mapping(loaded)
    if entries is None:
        other = {} if "" in inside else {"": _describe(loaded)}
    else:
        other = {
            str(key): _describe(value)
            for key, value in entries.items()
            if not isinstance(value, Tensor) and str(key) not in inside
        }
    return FileSummary(tuple(_summarise(found) for found in contents.containers), other)


def _as_mapping(value: object) -> Mapping[object, object] | None:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    return value if isinstance(value, Mapping) else None


def _walk(value: object, name: str, depth: int) -> Iterator[Container]:
    entries = _as_mapping(value)
    if entries is None:
        return
    tensors = {
        key: found
        for key, found in entries.items()
        if isinstance(key, str) and isinstance(found, Tensor)
    }
    if tensors:
        yield Container(name, tensors)
    if depth == MAX_DEPTH:
        return
    for key, found in entries.items():
        if isinstance(key, str):
            yield from _walk(found, f"{name}.{key}" if name else key, depth + 1)


def _summarise(found: Container) -> ContainerSummary:
    parts = [key.split(".") for key in found.tensors]
    shared = 0
    while all(len(key) > shared + 1 and key[shared] == parts[0][shared] for key in parts):
        shared += 1
    groups = Counter(".".join(key[: shared + 1]) for key in parts)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values())
    parameters = sum(
        tensor.numel()
        for key, tensor in found.tensors.items()
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var"))
    )
    return ContainerSummary(found.name, len(found.tensors), parameters, dict(dtypes), dict(groups))


def _describe(value: object) -> str:
    """Describe a value in a few words: what it is, its size, the tensors somewhere inside it."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    kind = type(value).__name__
    if isinstance(value, (Mapping, list, tuple, set)):
        tensors = _count_tensors(value)
        return f"{kind} of {len(value)}" + (f", {tensors} tensors inside" if tensors else "")
    return kind


def _count_tensors(value: object, depth: int = 0) -> int:
    if isinstance(value, Tensor):
        return 1
    if depth > 2 * MAX_DEPTH:  # a pickle may hold itself
        return 0
    if isinstance(value, Mapping):
        return sum(_count_tensors(inner, depth + 1) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_count_tensors(inner, depth + 1) for inner in value)
    return 0
