"""A card written by a user beside a checkpoint: `FILE.card.yaml`.

It overrides what the reader knows of the method, field by field, and is how a checkpoint of an
unknown method is described without writing code.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import Container, Contents
from vicregl_bench.errors import CheckpointError

SUFFIX = ".card.yaml"
_MOST_BYTES = 1 << 20

_Colour = tuple[float, float, float]
_Positive = Annotated[float, Field(gt=0.0)]


class _Fields(BaseModel):
    """What a card file may hold; everything is optional."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")] | None = None
    title: str | None = None
    source: str | None = None
    mean: Annotated[_Colour, Field(strict=False)] | None = None
    std: Annotated[tuple[_Positive, _Positive, _Positive], Field(strict=False)] | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    note: str | None = None
    arch: str | None = None
    pooling: Literal["avg", "cls"] | None = None
    output_norm: bool | None = None
    detection_preset: Literal["moco", "lars"] | None = None
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

    def apply(self, card: Card) -> Card:
        """Return the card with this file's fields in place of its own.

        Where the file names another method than the card, nothing of the card is kept.
        """
        method = self.fields.get("method", card.method)
        if method != card.method:
            card = Card(method=method, title=method, source=str(self.path.name))
        return dataclasses.replace(card, **self.fields)

    def renamed(self, contents: Contents) -> Contents:
        """Return the contents with a renamed copy of each container in which a key changes.

        Raises:
            CheckpointError: two keys become one.
        """
        extra: list[Container] = []
        for held in contents.containers if self.rename else ():
            keys = {key: self._new_key(key) for key in held.tensors}
            if all(key == new for key, new in keys.items()):
                continue
            if len(set(keys.values())) < len(keys):
                raise CheckpointError(f"{self.path}: its rename turns two keys into one")
            tensors = {keys[key]: tensor for key, tensor in held.tensors.items()}
            extra.append(Container(held.name, tensors))
        return dataclasses.replace(contents, containers=(*contents.containers, *extra))

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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = f"; known fields: {', '.join(_Fields.model_fields)}"
        raise CheckpointError(
            f"{path}: {where}: {first['msg']}"
            + (known if first["type"] == "extra_forbidden" else "")
        ) from error
    prefix, rename = fields.pop("prefix", None), fields.pop("rename", {})
    return CardFile(path, fields, prefix, rename)
