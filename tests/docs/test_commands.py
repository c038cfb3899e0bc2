"""Every command of README.md and docs/ is run, or listed with the reason why not."""

import re
import shlex
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.docs.not_run import NOT_RUN
from tests.docs.options import parse
from tests.docs.pages import ROOT, Command, all_commands, commands_of
from tests.docs.shortened import shorten
from tests.docs.workplace import borrow, clear, furnish
from tests.running import run_here
from vicregl_bench.cli.main import _guarded

COMMANDS = all_commands()


def reason(words: Sequence[str]) -> str | None:
    """Why a command is not run; None where it is."""
    text = " ".join(words)
    return next((why for pattern, why in NOT_RUN.items() if fnmatch(text, pattern)), None)


RUN = [words for words in COMMANDS if words[0] == "vicregl-bench" and reason(words) is None]


def places(words: tuple[str, ...]) -> str:
    return ", ".join(command.where for command in COMMANDS[words])


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("vicregl_bench.batch.guard.run_job", run_here)
        patch.setenv("VICREGL_BENCH_CACHE", str(tmp_path_factory.mktemp("checked")))
        furnish(folder)
    return folder


@pytest.mark.parametrize("words", RUN, ids=lambda words: shlex.join(words[1:])[:90])
def test_a_command_does_what_it_says(
    words: tuple[str, ...], furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    borrow(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("vicregl_bench.batch.guard.run_job", run_here)
    short = shorten(words[1:])
    clear(short, folder)
    assert _guarded(short) == 0, f"{places(words)}: {shlex.join(['vicregl-bench', *short])}"
    if "--out" in short:
        assert (folder / short[short.index("--out") + 1]).exists(), f"{places(words)} leaves none"


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in RUN], ids=shlex.join)
def test_what_is_not_run_is_listed_and_exists(words: tuple[str, ...]) -> None:
    assert reason(words) is not None, (
        f"{places(words)}: {shlex.join(words)} is neither run nor in tests/docs/not_run.py: add a "
        "pattern with its reason there, or write it as a vicregl-bench command"
    )
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), places(words)
    elif words[0] == "vicregl-bench":
        parse(words[1:])
    elif words[0] == "torchrun":
        assert words[words.index("-m") + 1] == "vicregl_bench"
        parse(words[words.index("-m") + 2 :])
    elif words[:2] != ("python", "train.py") and words[0] in ("python", "examples/low_data.sh"):
        script = words[0] if words[0] != "python" else words[1]
        program = (ROOT / script).read_text() if script != "-m" else ""
        options = [word for word in words[2:] if word.startswith("--")] if program else []
        assert [option for option in options if f'"{option}"' not in program] == [], places(words)


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_every_exception_is_of_a_command(pattern: str) -> None:
    assert any(fnmatch(" ".join(words), pattern) for words in COMMANDS), f"remove {pattern}"


def test_commands_are_found() -> None:
    page = """
text with vicregl-bench in it

    vicregl-bench run --ckpt A \\
        --set 'test.scales=[0.5]'      # a comment
    VOCdevkit/VOC2012/      --data-root: this
    SIZES="1 2" make demo > log.txt

```python
vicregl-bench = 1
```

```yaml
steps:
  - run: vicregl-bench ls tasks
```

```bash
$ vicregl-bench --help | head
```
"""
    found = commands_of(page, "p.md")
    assert [command.words for command in found] == [
        ("vicregl-bench", "run", "--ckpt", "A", "--set", "test.scales=[0.5]"),
        ("make", "demo"),
        ("vicregl-bench", "ls", "tasks"),
        ("vicregl-bench", "--help"),
    ]
    assert found[0] == Command(
        "vicregl-bench run --ckpt A --set 'test.scales=[0.5]'", found[0].words, "p.md:4"
    )


def test_an_unknown_program_or_option_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match=r"p\.md:2: frobnicate is not among PROGRAMS"):
        commands_of("```bash\nfrobnicate --all\n```\n", "p.md")
    parse(["run", "--ckpt", "A", "..."])
    with pytest.raises(AssertionError, match="run has no --chpt"):
        parse(["run", "--chpt", "A", "..."])
    with pytest.raises(AssertionError, match="no command rum"):
        parse(["rum"])
    with pytest.raises(Exception, match="--chpt"):
        parse(["inspect", "--chpt", "A"])
    assert reason(["frobnicate", "--all"]) is None
