"""Settings as data: sections checked by pydantic, addressed and overridden by dotted keys."""

import difflib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from vicregl_bench.errors import ConfigError


class Section(BaseModel):
    """A group of settings: immutable, no unknown names, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def distinct(refusal: str) -> AfterValidator:
    """Part of an `Annotated` tuple that refuses a value which stands twice, in these words."""

    def refuse(values: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
        if len(set(values)) != len(values):
            raise ValueError(refusal)
        return values

    return AfterValidator(refuse)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def build_settings(model: type[Model], flat: Mapping[str, Any]) -> Model:
    """Settings from dotted keys.

    Raises:
        ConfigError: a value of the wrong type or out of range, named with its key.
    """
    try:
        return model.model_validate(_unflatten(flat))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        got, why = first.get("input"), _in_words(first)
        given = "" if isinstance(got, dict) else f" = {json.dumps(got, default=str)}"
        what = f"setting {key}{given} is" if key else "these settings are"
        raise ConfigError(f"{what} impossible: {why}") from None


def _in_words(error: Any) -> str:
    """What is wrong with a value, for people."""
    got = error.get("input")
    if error["type"] == "tuple_type":
        if isinstance(got, str) and got.lstrip().startswith(("[", "{")):
            return "it is a list, and this JSON does not parse"
        return f"it is a list, such as [{json.dumps(got, default=str)}]"
    if error["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return 'it is a group of settings, such as {"iters": 100}'
    words = {
        "missing": "it is missing",
        "extra_forbidden": "there is no such setting",
        "too_short": "it needs at least one value",
    }
    said: str = error["msg"]
    return words.get(error["type"], said.removeprefix("Value error, "))


def require_known(wanted: Iterable[str], planned: Iterable[str], where: str) -> None:
    """Stop on the first key that does not exist.

    Raises:
        ConfigError: no such key; the nearest ones are named.
    """
    planned = list(planned)
    for key in wanted:
        if key not in planned:
            near = difflib.get_close_matches(key, planned, n=3, cutoff=0.3)
            raise ConfigError(f"no setting {key!r} in {where}; near it: {', '.join(near) or '-'}")


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` words; a value is JSON, else a comma-separated list, else a string.

    Raises:
        ConfigError: a word without "=" or without a key.
    """
    parsed: dict[str, Any] = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set takes key=value, not {item!r}")
        parsed[key] = _parse_value(text)
    return parsed


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [_parse_value(part) for part in text.split(",")] if "," in text else text
