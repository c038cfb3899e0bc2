"""The options of our command line, without running anything."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.main import get_command

from vicregl_bench.cli.main import app


def parse(words: Sequence[str]) -> None:
    """Parse a command as click does, and do nothing.

    Where `...` stands for what is left out, only the names of the options are looked up.

    Raises:
        AssertionError: no such command or option.
        Exception: click's own, for a missing or wrong value.
    """
    command, name, rest = _find(words)
    if "..." in rest:
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in rest:
            given = word.partition("=")[0]
            assert not word.startswith("--") or given in known, f"{name} has no {given}"
    elif "--help" not in rest:
        command.make_context(name, rest)


def _find(words: Sequence[str]) -> tuple[Any, str, list[str]]:
    command, name, rest = get_command(app), "vicregl-bench", list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("--"):
        name = rest.pop(0)
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    return command, name, rest


def all_options() -> set[str]:
    """The options of all commands."""
    return {"--help", *_options(get_command(app))}


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for one in getattr(command, "commands", {}).values():
        yield from _options(one)
