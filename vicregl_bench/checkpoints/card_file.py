"""A card written by a user beside a checkpoint: `FILE.card.yaml`.

It overrides what the reader knows of the method, field by field, and is how a checkpoint of an
unknown method is described without writing code.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, field_validator

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.card_fields import CardFields, first_problem
from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.errors import CheckpointError

SUFFIX = ".card.yaml"
_MOST_BYTES = 1 << 20


class _Fields(CardFields):
    """What a card file may hold; everything is optional."""

    prefix: str | None = None
    rename: dict[str, str] | None = None

    @field_validator("rename")
    @classmethod
    def _patterns(cls, rename: dict[str, str] | None) -> dict[str, str] | None:
        for pattern, new in (rename or {}).items():
            try:
                re.compile(pattern).sub(new, "")
            except (re.error, IndexError) as error:
                raise ValueError(f"{pattern!r}: {error}") from error
        return rename


@dataclass(frozen=True)
class CardFile:
    """A card file's content.

    Attributes:
        path: the file.
        fields: fields of `Card` that it sets.
        prefix: where the backbone lies, see `match.resolve`.
        rename: regular expressions -> replacements (`re.sub`), applied to every key in order.
    """

    path: Path
    fields: Mapping[str, Any]
    prefix: str | None
    rename: Mapping[str, str]

    def without_method(self) -> "CardFile":
        """Return the same without its method, where the user named another."""
        fields = {key: value for key, value in self.fields.items() if key != "method"}
        return dataclasses.replace(self, fields=fields)

    def apply(self, card: Card) -> Card:
        """Return the card with this file's fields in place of its own.

        Where the file names another method than the card, nothing of the card is kept.
        """
        method = self.fields.get("method", card.method)
        if method != card.method:
            card = Card(method=method, title=method, source=str(self.path.name))
        return dataclasses.replace(card, **self.fields)

    def renamed(self, contents: Contents) -> Contents:
        """Return the contents with the tensors of every container under their new keys.

        A container keeps its own name, and nothing is left under the old keys.

        Raises:
            CheckpointError: two keys become one.
        """
        renamed = tuple(self._renamed(held) for held in contents.containers)
        return dataclasses.replace(contents, containers=renamed)

    def _renamed(self, held: Container) -> Container:
        tensors = {self._new_key(key): tensor for key, tensor in held.tensors.items()}
        if len(tensors) < len(held.tensors):
            raise CheckpointError(f"{self.path}: its rename turns two keys into one")
        return Container(held.name, tensors)

    def _new_key(self, key: str) -> str:
        for pattern, new in self.rename.items():
            key = re.sub(pattern, new, key)
        return key


def read_card_file(checkpoint: Path) -> CardFile | None:
    """Read the card file beside a checkpoint, `FILE.card.yaml` for `FILE`; None if there is none.

    Raises:
        CheckpointError: the file cannot be read, is no YAML mapping, or has an unknown field or an
            impossible value.
    """
    path = checkpoint.with_name(checkpoint.name + SUFFIX)
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path}: is too large for a card; is it another file?")
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as YAML ({reason}); mend it") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: a card is a mapping such as `arch: resnet50`")
    try:
        fields = _Fields.model_validate(loaded).model_dump(exclude_none=True)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_problem(error, _Fields.model_fields)}") from error
    prefix, rename = fields.pop("prefix", None), fields.pop("rename", {})
    return CardFile(path, fields, prefix, rename)
