"""docs/checkpoints.md says what the code does."""

import re
from pathlib import Path

import pytest

from vicregl_bench.backbones.zoo import architecture_names, find_architecture
from vicregl_bench.checkpoints import READERS
from vicregl_bench.checkpoints.convert import FORMATS, possible_formats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "checkpoints.md").read_text()


def cell(text: str) -> str:
    """Text of a Markdown table's cell; what stands between backticks is taken as it is."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([<*_|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def method_table() -> str:
    """The table of methods as it has to stand in the page."""
    lines = ["| method | name | architectures | files | tried on |", "|" + "---|" * 5]
    for reader in READERS:
        about = (reader.card.title, reader.architectures, reader.files, reader.verified)
        lines.append(f"| `{reader.card.method}` | {' | '.join(map(cell, about))} |")
    return "\n".join(lines)


def section(title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def test_methods_are_those_of_the_code() -> None:
    assert method_table() in PAGE, f"put this into docs/checkpoints.md:\n{method_table()}"


def test_architectures_are_those_of_the_code() -> None:
    named = set(re.findall(r"`([a-z0-9_.]+)`", section("Architectures")))
    assert set(architecture_names()) <= named
    assert all(find_architecture(name) for name in named if "net" in name or "vit_" in name)


def test_formats_are_those_of_the_code() -> None:
    for form in FORMATS:
        row = re.search(rf"^\| `{form}` \|(.*)\|$", section("Convert"), re.MULTILINE)
        assert row is not None, form
        for family in ("resnet", "convnext", "vit", "swin"):
            column = ["resnet", "convnext", "vit", "swin"].index(family)
            said = row[1].split("|")[column + 1].strip()
            assert (said != "–") == (form in possible_formats(family)), (form, family)


@pytest.mark.parametrize("name", re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", PAGE))
def test_the_traps_tests_exist(name: tuple[str, str]) -> None:
    path, test = name
    assert f"def {test}(" in (ROOT / path).read_text()


def test_every_trap_has_a_test() -> None:
    rows = [line for line in section("Traps").splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert all("`tests/" in row for row in rows)
