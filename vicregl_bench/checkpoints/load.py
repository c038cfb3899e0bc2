"""Load a checkpoint: read the file, tell its method, find its backbone, check its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.card_file import read_card_file
from vicregl_bench.checkpoints.contents import find_containers
from vicregl_bench.checkpoints.coverage import Coverage
from vicregl_bench.checkpoints.files import file_sha256, read_file
from vicregl_bench.checkpoints.match import Targets, require_target, resolve
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.checkpoints.registry import find_reader, method_names, recognise
from vicregl_bench.checkpoints.weights import is_counter, to_float32, weights_sha256
from vicregl_bench.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """A backbone's weights, ready for `load_state_dict(strict=True)`, and how they were found.

    Attributes:
        path: the file.
        file_sha256: sha256 of the file's bytes.
        weights_sha256: sha256 of the weights alone, see `weights.weights_sha256`.
        method: whose weights they are: the method given, else the one detected.
        detected: the method the file's keys tell, whatever was given.
        arch: name of the backbone among the targets.
        also_fits: other targets the same tensors fit; the file cannot tell them apart.
        settled: what chose among them: `--arch`, a card, or nothing (`""`).
        card: normalisation, sources and notes of `method`; a `FILE.card.yaml` beside the file
            overrides what the reader knows.
        coverage: where the backbone lay, and what was left over.
        state_dict: the target's keys, in its order -> contiguous float32 tensors; counters
            (`num_batches_tracked`) are int64, zero where the file has none.
    """

    path: Path
    file_sha256: str
    weights_sha256: str
    method: str
    detected: str
    arch: str
    also_fits: tuple[str, ...]
    settled: str
    card: Card
    coverage: Coverage
    state_dict: Mapping[str, Tensor]

    def to_dict(self) -> dict[str, object]:
        """Return everything but the tensors as plain JSON values."""
        return {
            "path": str(self.path),
            "file_sha256": self.file_sha256,
            "weights_sha256": self.weights_sha256,
            "method": self.method,
            "detected": self.detected,
            "arch": self.arch,
            "also_fits": list(self.also_fits),
            "settled": self.settled,
            "card": self.card.to_dict(),
            "coverage": self.coverage.to_dict(),
        }


def load_checkpoint(
    path: str | Path,
    targets: Targets,
    *,
    arch: str | None = None,
    method: str | None = None,
    prefix: str | None = None,
    aliases: Mapping[str, str] | None = None,
    trust_pickle: bool = False,
) -> Checkpoint:
    """Load the backbone that a checkpoint file holds.

    What the caller says goes before `FILE.card.yaml`, that before a card in the file, and that
    before the method's own.

    Args:
        path: the file; a card beside it, `FILE.card.yaml`, is read with it.
        targets: the backbones to look for: name -> key -> shape, best guess first.
        arch: take the weights for this target; otherwise it is found by keys and shapes.
        method: take the weights for this method's; otherwise it is told by the keys.
        prefix: where the backbone lies, see `match.resolve`; otherwise it is found.
        aliases: other names of targets, that cards may use.
        trust_pickle: unpickle foreign objects, which runs whatever code the file names.

    Raises:
        CheckpointError: the file or its card cannot be read, `arch` or `method` is unknown, the
            backbone is not covered whole or not uniquely found, or a weight is not finite.
    """
    path = Path(path)
    given = find_reader(method) if method is not None else None
    require_target(arch, targets)
    beside = read_card_file(path)
    if beside is not None and given is not None:
        beside = beside.without_method()
    contents = find_containers(read_file(path, trust_pickle=trust_pickle))
    contents = beside.renamed(contents) if beside else contents
    detected = recognise(contents)
    reader = given or _named(beside.fields.get("method") if beside else None) or detected
    contents = reader.rearrange(contents) if reader.rearrange else contents
    card = reader.read_card(contents) if reader.read_card and contents.card else reader.card
    card = beside.apply(card) if beside else card
    if beside and prefix is None:
        prefix = beside.prefix
    settled = "--arch" if arch is not None else f"the card of {card.method}"
    if arch is None and card.arch is not None:
        arch = (aliases or {}).get(card.arch, card.arch)
        if arch not in targets:
            raise CheckpointError(
                f"{path}: its card names the architecture {card.arch}, which is not known; "
                "`vicregl-bench ls architectures` lists those that are"
            )
    found = resolve(
        contents,
        targets,
        path=str(path),
        arch=arch,
        prefix=prefix,
        prefer=reader.prefer_prefixes,
        prefer_archs=reader.prefer_archs,
    )
    coverage = found.coverage
    if arch is None and coverage.arch not in reader.prefer_archs:
        settled = ""
    state_dict = {
        key: _counter(found.tensors.get(key))
        if is_counter(key)
        else to_float32(found.tensors[key], where=f"{path}: {coverage.address}{key}")
        for key in targets[coverage.arch]
    }
    return Checkpoint(
        path=path,
        file_sha256=file_sha256(path),
        weights_sha256=weights_sha256(state_dict),
        method=card.method,
        detected=detected.card.method,
        arch=coverage.arch,
        also_fits=found.also_fits,
        settled=settled,
        card=card,
        coverage=coverage,
        state_dict=state_dict,
    )


def _named(method: str | None) -> Reader | None:
    """The reader of the method that a card file names, if it is one of ours."""
    return find_reader(method) if method is not None and method in method_names() else None


def _counter(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        return torch.zeros((), dtype=torch.int64)
    return tensor.detach().to(torch.int64, copy=True)
