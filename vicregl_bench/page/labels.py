"""What tells records apart that are called the same: same checkpoint, protocol and preset."""

from collections.abc import Callable, Sequence

from vicregl_bench.records.schema import Record

_LONGEST = 60
"""Characters of one deviation; what is cut off may make labels equal, then the key is added."""

_WORDS: tuple[Callable[[Record], str], ...] = (
    lambda one: one.checkpoint.arch,
    lambda one: one.checkpoint.method,
    lambda one: f"{one.data.train} + {one.data.val} pictures",
    lambda one: f"data {one.data.fingerprint[:8]}",
    lambda one: f"chosen on {one.task.select}",
    lambda one: one.environment.precision,
    lambda one: one.status if one.status != "complete" else "",
)


def apart(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """What tells each record from the others of the same name and protocol.

    Args:
        records: any.
        names: of their checkpoints, as they are shown.

    Returns:
        One text a record: what not all of its namesakes share (data, selection, precision,
        status, deviations in short), or, where that is the same for several, the key's first eight
        signs behind it. Empty where there is no namesake.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for at, (record, name) in enumerate(zip(records, names, strict=True)):
        task = record.task
        called = name, task.name, task.version, task.profile, task.preset
        groups.setdefault(called, []).append(at)
    texts = [""] * len(records)
    for group in groups.values():
        for at, text in zip(group, _texts([records[at] for at in group]), strict=True):
            texts[at] = text
    return texts


def _texts(same: Sequence[Record]) -> list[str]:
    if len(same) == 1:
        return [""]
    told = [word for word in _WORDS if len({word(one) for one in same}) > 1]
    shared = set[str](same[0].deviations).intersection(*(one.deviations for one in same))
    texts = []
    for one in same:
        own = [_short(text) for text in one.deviations if text not in shared]
        texts.append(", ".join(filter(None, [*(word(one) for word in told), *own])))
    return [
        ", ".join(filter(None, [text, one.key[:8]])) if texts.count(text) > 1 else text
        for one, text in zip(same, texts, strict=True)
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
