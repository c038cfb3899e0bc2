"""What lies in a checkpoint file: its containers of tensors, and everything beside them."""

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicregl_bench.errors import CheckpointError

MAX_DEPTH = 4
"""Dicts nested deeper than this are not searched; the deepest layout known (VISSL's
`classy_state_dict.base_model.model.trunk`) needs four."""

MAX_STEPS = 5_000_000
"""Entries of dicts and lists looked at: more than `read_file` builds, unless they are shared."""

MAX_NAME = 1000
"""Characters of a container's or a tensor's joined name."""


MAX_EXPANDED = 1 << 24
"""Views of more elements than this must have as many values."""


@dataclass(frozen=True)
class Container:
    """A dict in the file whose own values include tensors.

    Attributes:
        name: dotted path of the dict in the file, `""` for the file's top level.
        tensors: its tensors by key, in the file's order; NumPy arrays as tensors, those of a Haiku
            tree (module -> name -> array) by `module/name`.
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

    NumPy arrays of numbers count as tensors. A pickled module counts as its state dict, and a tree
    of Haiku (modules with `/` in their names, each a dict of arrays) as one container. Dicts with
    other keys (an optimizer's state, by parameter number) and lists are not entered, nor is a dict
    inside itself.

    Raises:
        CheckpointError: the dicts hold one another so often that there is no end to them, or a
            tensor has far more elements than values.
    """
    entries = _as_mapping(loaded)
    card = entries.get("card") if entries is not None else None
    return Contents(
        tuple(_Walk().containers(loaded, "", ())),
        {_key_text(key): value for key, value in card.items()}
        if isinstance(card, Mapping)
        else None,
    )


def summarise_file(loaded: object) -> FileSummary:
    """Summarise what `read_file` returned.

    Raises:
        CheckpointError: as `find_containers`.
    """
    contents = find_containers(loaded)
    inside = {found.name.partition(".")[0] for found in contents.containers}
    entries = _as_mapping(loaded)
    count = _Count()
    top = contents.get("")
    if entries is None:
        other = {"": _describe(loaded, count)}
    elif top is not None and not any(key in entries for key in top.tensors):
        other = {}  # a tree of Haiku, whole in one container
    else:
        other = {
            _key_text(key): _describe(value, count)
            for key, value in entries.items()
            if not _is_tensor(value) and _key_text(key) not in inside
        }
    return FileSummary(tuple(_summarise(found) for found in contents.containers), other)


def _as_mapping(value: object) -> Mapping[object, object] | None:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    return value if isinstance(value, Mapping) else None


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, np.ndarray) and _tensor_dtype(value.dtype) is not None
    )


def _tensor_dtype(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype, in this machine's byte order, of which torch makes tensors, or None."""
    wide = dtype.kind == "f" and dtype.itemsize > 8
    return None if wide or dtype.kind not in "biuf" else dtype.newbyteorder("=")


def _as_tensor(value: object) -> Tensor | None:
    """Return a tensor, or an array of numbers as one that shares its memory where it can."""
    if isinstance(value, Tensor):
        _check_storage(value)
        return value
    dtype = _tensor_dtype(value.dtype) if isinstance(value, np.ndarray) else None
    if dtype is None:
        return None
    assert isinstance(value, np.ndarray)
    shareable = (
        value.flags.writeable
        and value.dtype == dtype
        and all(step >= 0 and step % value.itemsize == 0 for step in value.strides)
    )
    return torch.from_numpy(value if shareable else value.astype(dtype, order="C"))


def _check_storage(tensor: Tensor) -> None:
    """Refuse a large view with more elements than values: comparing it would have no end."""
    if tensor.numel() <= MAX_EXPANDED or tensor.layout != torch.strided or tensor.is_meta:
        return
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > stored:
        raise CheckpointError(
            f"the file holds a tensor that is an expanded view, {tensor.numel():,} elements over "
            f"{stored:,} values; save the weights as contiguous tensors"
        )


class _Walk:
    """A search for containers that looks at no more than `MAX_STEPS` entries."""

    def __init__(self) -> None:
        self._steps = 0

    def containers(
        self, value: object, name: str, above: tuple[object, ...]
    ) -> Iterator[Container]:
        """Find the containers in a value that lies in the dicts `above`, outermost first."""
        entries = _as_mapping(value)
        if entries is None or any(value is one for one in above):
            return
        self._step(len(entries))
        tree = self._haiku_tree(entries) if len(above) < MAX_DEPTH else None
        if tree is not None:
            yield Container(name, tree)
            return
        tensors = {
            key: tensor
            for key, found in entries.items()
            if isinstance(key, str) and (tensor := _as_tensor(found)) is not None
        }
        if tensors:
            yield Container(name, tensors)
        if len(above) == MAX_DEPTH:
            return
        for key, found in entries.items():
            if isinstance(key, str) and len(name) + len(key) < MAX_NAME:
                inner = f"{name}.{key}" if name else key
                yield from self.containers(found, inner, (*above, value))

    def _haiku_tree(self, entries: Mapping[object, object]) -> dict[str, Tensor] | None:
        """Return the tensors of a two-level tree by `module/name`, None for any other dict."""
        modules = [key for key in entries if isinstance(key, str) and len(key) < MAX_NAME // 2]
        if len(modules) < len(entries) or 2 * sum("/" in key for key in modules) <= len(modules):
            return None
        tree: dict[str, Tensor] = {}
        for module, values in entries.items():
            if not isinstance(values, Mapping) or not values:
                return None
            self._step(len(values))
            for key, value in values.items():
                tensor = _as_tensor(value)
                if tensor is None or not isinstance(key, str) or len(key) > MAX_NAME // 2:
                    return None
                tree[f"{module}/{key}"] = tensor
        return tree

    def _step(self, count: int) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise CheckpointError(
                f"the file's dicts have more than {MAX_STEPS:,} entries, or hold one another "
                "again and again; save the state_dict alone"
            )


def _summarise(found: Container) -> ContainerSummary:
    dot = "/" if all("/" in key for key in found.tensors) else "."
    parts = [key.split(dot) for key in found.tensors]
    shared = 0
    while all(len(key) > shared + 1 and key[shared] == parts[0][shared] for key in parts):
        shared += 1
    groups = Counter(dot.join(key[: shared + 1]) for key in parts)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values())
    parameters = sum(
        tensor.numel()
        for key, tensor in found.tensors.items()
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var"))
    )
    return ContainerSummary(found.name, len(found.tensors), parameters, dict(dtypes), dict(groups))


class _Count:
    """Counts tensors, looking at no more than `MAX_STEPS` values in all."""

    def __init__(self) -> None:
        self._steps = 0

    def tensors(self, value: object) -> str:
        """Say how many tensors lie somewhere inside a value; a dict or list counts once."""
        found, seen, waiting = 0, set[int](), [value]
        while waiting and self._steps <= MAX_STEPS:
            inner = waiting.pop()
            self._steps += 1
            if _is_tensor(inner):
                found += 1
            elif isinstance(inner, (Mapping, list, tuple)) and id(inner) not in seen:
                seen.add(id(inner))
                waiting.extend(inner.values() if isinstance(inner, Mapping) else inner)
        about = "at least " if waiting else ""
        return f", {about}{found} tensors inside" if found else ""


def _describe(value: object, count: _Count) -> str:
    """Describe a value in a few words: what it is, its size, the tensors somewhere inside it."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"int of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        return f"array of {value.dtype}"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"{kind} of {len(value)}{count.tensors(value)}"
    return kind


def _key_text(key: object) -> str:
    """Return a key as text; keys that are no strings may nest, and are cut short."""
    if isinstance(key, int) and key.bit_length() > 64:
        return f"int of {key.bit_length()} bits"
    return key if isinstance(key, str) else reprlib.repr(key)
