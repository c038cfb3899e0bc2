"""A table of key names: one project's beside the canonical ones, readable in both directions."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicregl_bench.checkpoints.names.dialect import Tensors
from vicregl_bench.errors import CheckpointError

Change = Callable[[Tensor], Tensor]

_WILDCARDS = {"#": r"(\d+)", "*": r"([^.]+)"}

_WORDS = {".gamma": "LayerScale", "reg_token": "register tokens"}
"""What keys with these endings are called."""


@dataclass(frozen=True)
class Pair:
    """One line of a table.

    Attributes:
        theirs: a whole key in the project's names, without prefix; `#` stands for a number, `*`
            for one part without a dot.
        ours: the canonical key with the same wildcards in the same order.
        read: of a tensor whose layout differs, the way to ours; it hands a tensor whose shape does
            not suit through, and is only asked about dense ones.
        write: the way back.
    """

    theirs: str
    ours: str
    read: Change | None = None
    write: Change | None = None


class Table:
    """The names of one project for one family of backbones."""

    def __init__(
        self,
        owner: str,
        signs: Sequence[Sequence[str]],
        pairs: Iterable[Pair],
        *,
        dropped: Iterable[str] = (),
        needs: Mapping[str, str] | None = None,
    ) -> None:
        """Compile the table.

        Args:
            owner: whose names these are, for errors, e.g. `torchvision's ConvNeXt`.
            signs: the project's keys by which it is told, as `find_prefixes` takes them.
            pairs: the first that fits a key is applied; so of two pairs with the same canonical
                key the second is only read.
            dropped: the project's keys (with wildcards) that have no canonical counterpart.
            needs: canonical keys without which nothing is written -> what they are.
        """
        self.owner = owner
        self._signs = signs
        pairs = tuple(pairs)
        self._reading = tuple((_compile(pair.theirs), pair) for pair in pairs)
        self._writing = tuple((_compile(pair.ours), pair) for pair in pairs)
        self._dropped = tuple(_compile(key) for key in dropped)
        self._needs = needs or {}

    def read(self, tensors: Tensors) -> dict[str, Tensor] | None:
        """Translate a container into canonical names; see `Dialect.read`."""
        return rekey(tensors, find_prefixes(tensors, self._signs), self._read_one)

    def write(self, tensors: Tensors) -> dict[str, Tensor]:
        """Translate a canonical state dict into the project's names; see `Dialect.write`.

        Raises:
            CheckpointError: the project has no place for a tensor, or needs one that is missing.
        """
        for key, what in self._needs.items():
            if key not in tensors:
                raise CheckpointError(f"{self.owner} always has {what}, these weights lack {key}")
        written: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            for pattern, pair in self._writing:
                found = pattern.fullmatch(key)
                if found:
                    theirs = _fill(pair.theirs, found)
                    written[theirs] = pair.write(tensor) if pair.write else tensor
                    break
            else:
                word = next((word for end, word in _WORDS.items() if key.endswith(end)), None)
                what = f"{word} ({key})" if word else key
                raise CheckpointError(f"{self.owner} has no place for {what}")
        return written

    def _read_one(self, key: str, tensor: Tensor) -> tuple[str, Tensor] | None:
        for pattern, pair in self._reading:
            found = pattern.fullmatch(key)
            if found:
                changed = pair.read(tensor) if pair.read and is_dense(tensor) else tensor
                return _fill(pair.ours, found), changed
        if any(pattern.fullmatch(key) for pattern in self._dropped):
            return None
        return key, tensor


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor can be turned and added: floating-point and strided.

    Others come out of a file too (sparse, quantised); the check of the values refuses them.
    """
    return tensor.is_floating_point() and tensor.layout == torch.strided


def find_prefixes(tensors: Tensors, signs: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Find the prefixes (`""`, `module.backbone.`) behind which one of the signs stands.

    Args:
        tensors: a container's.
        signs: sets of keys; a prefix is found where all keys of a set are behind it.

    Returns:
        The longest prefix first.
    """
    found: dict[str, None] = {}
    for first, *others in signs:
        for key in tensors:
            prefix = key.removesuffix(first)
            whole = key.endswith(first) and (not prefix or prefix.endswith("."))
            if whole and all(prefix + other in tensors for other in others):
                found[prefix] = None
    return tuple(sorted(found, key=len, reverse=True))


def rekey(
    tensors: Tensors,
    prefixes: Sequence[str],
    translate: Callable[[str, Tensor], tuple[str, Tensor] | None],
) -> dict[str, Tensor] | None:
    """Translate the keys behind some prefixes; others are handed through.

    Args:
        tensors: a container's.
        prefixes: the longest first.
        translate: gives the new key and value of a key behind its prefix, None to drop it.

    Returns:
        None where there is no prefix, or where two keys would get the same name: such a container
        is not this dialect's alone, and neither tensor may replace the other.
    """
    if not prefixes:
        return None
    renamed: dict[str, Tensor] = {}
    kept = 0
    for key, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        new = (key, tensor)
        if prefix is not None:
            translated = translate(key.removeprefix(prefix), tensor)
            if translated is None:
                continue
            new = (prefix + translated[0], translated[1])
        renamed[new[0]] = new[1]
        kept += 1
    return renamed if len(renamed) == kept else None


def _compile(template: str) -> re.Pattern[str]:
    parts = re.split("([#*])", template)
    return re.compile("".join(_WILDCARDS.get(part, re.escape(part)) for part in parts))


def _fill(template: str, found: re.Match[str]) -> str:
    values = iter(found.groups())
    return re.sub("[#*]", lambda _: next(values), template)
