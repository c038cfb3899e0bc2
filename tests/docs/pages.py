"""README.md and docs/*.md as text: their commands, and what stands between backticks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# first words of a line of code that make it a command
PROGRAMS = (
    "vicregl-bench",
    "make",
    "torchrun",
    "python",
    "python3",
    "pip",
    "mkdocs",
    "git",
    "source",
    "export",
    "cd",
    "for",
    "done",
    "examples/low_data.sh",
)
SHELLS = ("sh", "bash", "shell", "console")
NO_SHELLS = ("python", "json", "csv", "text", "latex", "xml", "html", "toml", "markdown")
OPERATORS = ("|", "||", "&&", "&", ";", ">", ">>", "<")


@dataclass(frozen=True)
class Command:
    """A line of code that a reader would type.

    Attributes:
        text: without comment, continuation lines joined by one space.
        words: as the shell splits it, up to the first pipe or redirection, without variables that
            are set before it.
        where: page and line.
    """

    text: str
    words: tuple[str, ...]
    where: str


def commands_of(text: str, page: str) -> list[Command]:
    """The commands of a page's code blocks, fenced and indented, in order.

    In a fence of a shell every line is one; elsewhere a line that begins with one of `PROGRAMS`,
    after `$` or the `run:` of a workflow. Fences of other languages than YAML have none.

    Raises:
        ValueError: a line in a shell's fence with another program, or quotes that do not close.
    """
    found = []
    for number, line, language in _code_lines(text):
        line = re.sub(r"^(- )?run: (?=\S)", "", line.strip()).removeprefix("$ ")
        try:
            words = _split(line)
        except ValueError:  # prose with an apostrophe; quotes of a real command close
            if line.split(" ")[0] in PROGRAMS:
                raise ValueError(f"{page}:{number}: quotes do not close: {line}") from None
            continue
        if words and words[0] in PROGRAMS:
            cut = next((i for i, word in enumerate(words) if word in OPERATORS), len(words))
            text_ = re.sub(r"\s+#.*$", "", line)
            found.append(Command(text_, tuple(words[:cut]), f"{page}:{number}"))
        elif words and language in SHELLS:
            raise ValueError(f"{page}:{number}: {words[0]} is not among PROGRAMS of {__name__}")
    return found


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def _code_lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(number of the line, line with its continuations, language of its fence) of all code."""
    lines = text.splitlines()
    fence, language, number = "", "", 0
    while number < len(lines):
        line, begin = lines[number], number + 1
        number += 1
        opened = re.match(r"\s*(```+|~~~+)\s*([a-z]*)", line)
        if opened and (not fence or line.strip() == fence):
            fence, language = ("", "") if fence else (opened[1], opened[2])
            continue
        if not fence and not line.startswith("    "):
            continue
        while line.endswith("\\") and number < len(lines):
            line = line[:-1].rstrip() + " " + lines[number].strip()
            number += 1
        if language not in NO_SHELLS:
            yield begin, line, language


def all_commands() -> dict[tuple[str, ...], list[Command]]:
    """Every distinct command, by its words, with all places where it stands."""
    found: dict[tuple[str, ...], list[Command]] = {}
    for page in PAGES:
        for command in commands_of(page.read_text(), str(page.relative_to(ROOT))):
            found.setdefault(command.words, []).append(command)
    return found


def inline_code(text: str) -> list[str]:
    """What stands between single backticks outside of code blocks; a line break is a space."""
    prose = re.sub(r"(?ms)^\s*(```+|~~~+).*?^\s*\1\s*$", "", text)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("    "))
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
