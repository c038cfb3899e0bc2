"""YAML files that users write, read strictly: what is wrong is named with its file and key."""

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, StringConstraints, ValidationError

from vicregl_bench.errors import ConfigError

_MOST_BYTES = 1 << 20
# how words of a validator begin that name a key below their model: "name: it is empty"
_PLACE = re.compile(r"[a-z_]+(\[\d+\])?(\.[a-z_]+)*: ")
_MERGE = "tag:yaml.org,2002:merge"  # `<<`, which may stand several times

Model = TypeVar("Model", bound=BaseModel)
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
"""What tables and reports show, in one line."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which keeps the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        scalars = [
            key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE
        ]
        for key in scalars:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{key.value!r} stands twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, model: type[Model], example: str) -> Model:
    """Read a YAML mapping and check it.

    Args:
        path: the file.
        model: what it holds.
        example: of its content, for whoever wrote something else.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping, has a key twice, or an unknown or
            impossible one.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path}: is too large for such a file; is it another one?")
        loaded = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: cannot be read as YAML ({reason}); mend it") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds no mapping such as `{example}`")
    try:
        return model.model_validate(loaded)
    except ValidationError as error:
        raise ConfigError(f"{path}, {first_problem(error)}") from error


def beside(path: Path, named: str | Path) -> Path:
    """A place that a file names: relative to the file's folder, `~` is home."""
    # of a user that there is not, `Path.expanduser` raises
    return path.parent / os.path.expanduser(named)  # noqa: PTH111


def first_problem(error: ValidationError) -> str:
    """Key and reason of the first problem, in words; the reason alone where it names its key."""
    first = error.errors(include_url=False)[0]
    where = ""
    for part in first["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    words = {
        "missing": "it is missing",
        "extra_forbidden": "there is no such key here",
        "too_short": "it needs at least one entry",
        "string_too_short": "it is empty",
        "string_pattern_mismatch": "it has a line break or another control character",
    }
    said = words.get(first["type"], first["msg"].removeprefix("Value error, "))
    between = "." if _PLACE.match(said) else ": "
    return f"{where}{between}{said}" if where else said
