"""Which of many records a table shows; names that do not exist are told with near ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vicregl_bench.errors import ConfigError
from vicregl_bench.near import near_names
from vicregl_bench.records.collection import Entry
from vicregl_bench.records.schema import Record


@dataclass(frozen=True)
class Filter:
    """Names to keep, in whatever case; an empty tuple keeps all.

    Attributes:
        protocols: name and version, such as `voc_linear-v1`.
    """

    tasks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    def keep(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries that every filter keeps, in their order.

        Raises:
            ConfigError: a name that no entry has, or nothing is left.
        """
        kept = list(entries)
        words = []
        for what, names, value in self._criteria():
            wanted = {name.casefold() for name in names}
            if not wanted:
                continue
            known = sorted({value(entry.record) for entry in entries})
            for name in names:
                if name.casefold() not in {one.casefold() for one in known}:
                    raise ConfigError(f"no record of {what} {name!r}{near_names(name, known)}")
            kept = [entry for entry in kept if value(entry.record).casefold() in wanted]
            words.append(f"{what} {' or '.join(names)}")
        if not kept:
            raise ConfigError(f"no record is of {' and of '.join(words)} at once")
        return kept

    def _criteria(self) -> list[tuple[str, tuple[str, ...], Callable[[Record], str]]]:
        return [
            ("task", self.tasks, lambda record: record.task.name),
            ("method", self.methods, lambda record: record.checkpoint.method),
            ("backbone", self.backbones, lambda record: record.checkpoint.arch),
            ("profile", self.profiles, lambda record: record.task.profile),
            (
                "protocol",
                self.protocols,
                lambda record: f"{record.task.name}-v{record.task.version}",
            ),
        ]
