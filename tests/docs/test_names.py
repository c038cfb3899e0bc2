"""What README.md and docs/ name between backticks is there."""

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pretrain.recipe import Recipe
from tests.docs.options import all_options, parse
from tests.docs.pages import PAGES, ROOT, all_commands, inline_code
from vicregl_bench.records.schema import Record
from vicregl_bench.tasks.protocol import SETTINGS, task_names

# options of other programs
FOREIGN_OPTIONS = {
    "--no-build-isolation": "pip",
    "--kill-on-bad-exit": "srun",
    "--nproc-per-node": "torchrun",
}
# dotted words that are no setting, field or module
FOREIGN_DOTTED = {
    "classy_state_dict.base_model.model.trunk": "a container in VISSL's files",
    "conv1.weight": "a tensor of a ResNet",
}
FOREIGN_FILES = {"detection/train_net.py": "MoCo"}
TASK = re.compile(
    r"[a-z0-9_]+_(linear|linear_ft|linear_released|linear_cached|knn|fcn|fcn_ft|svm|semi_\d+"
    r"|probe_search|correspondence|maskrcnn|maskrcnn_\dpct|frcnn_c4)"
)
ENDINGS = (
    "py|md|json|csv|txt|pth|yaml|yml|sh|npz|npy|png|jpg|pkl|tar|gz|ckpt|torch|zip|html|xml|tex"
    "|safetensors"
)
FOLDERS = "vicregl_bench|tests|docs|eval_configs|benchmarks|results|pretrain|examples"
BENCHMARK_OPTIONS = {
    option
    for program in (ROOT / "benchmarks").glob("*.py")
    for option in re.findall(r'"(--[a-z-]+)"', program.read_text())
}
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _keys(model: Any) -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield key
        for inner in _models(field.annotation):
            yield from (f"{key}.{name}" for name in _keys(inner))


def _models(annotation: Any) -> list[Any]:
    """The models in an annotation such as `Section | None`."""
    parts = (annotation, *getattr(annotation, "__args__", ()))
    return [part for part in parts if hasattr(part, "model_fields")]


@cache
def known_settings() -> frozenset[str]:
    """The settings of all tasks and of recipes, sections too."""
    known = {name for model in (*SETTINGS.values(), Recipe) for name in _keys(model)}
    return frozenset(known)


def is_record_field(dotted: str) -> bool:
    return dotted in set(_keys(Record))


def is_module(dotted: str) -> bool:
    try:
        return importlib.util.find_spec(dotted) is not None
    except ModuleNotFoundError:
        return False


@pages
def test_options_exist(page: Path) -> None:
    known = all_options() | BENCHMARK_OPTIONS | set(FOREIGN_OPTIONS)
    named = {
        option
        for code in inline_code(page.read_text())
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
    }
    assert sorted(named - known) == []


@pages
def test_commands_between_backticks_exist(page: Path) -> None:
    for code in inline_code(page.read_text()):
        if code.startswith("vicregl-bench "):
            parse([*code.split()[1:], "..."])


@pages
def test_tasks_exist(page: Path) -> None:
    words = {word for code in inline_code(page.read_text()) for word in code.split()}
    assert sorted(filter(TASK.fullmatch, words - set(task_names()))) == []


@pages
def test_settings_exist(page: Path) -> None:
    missing = []
    for code in inline_code(page.read_text()):
        for word in code.removeprefix("--set ").replace(" --set ", " ").split(" "):
            found = re.fullmatch(r"'?([a-z]\w*(?:\.[a-z]\w*)+)(=.*)?", word)
            if found is None or re.search(rf"\.({ENDINGS})$", found[1]):
                continue
            name, given = found.groups()
            told = name in known_settings() | set(FOREIGN_DOTTED)
            if not told and (given or not (is_record_field(name) or is_module(name))):
                missing.append(name)
    assert missing == []


def test_settings_of_commands_that_are_not_run_exist() -> None:
    for words, places in all_commands().items():
        for option, word in pairwise(words):
            if option == "--set":
                name = word.partition("=")[0]
                assert name in known_settings(), f"{places[0].where}: {name}"


@pages
def test_files_exist(page: Path) -> None:
    text = page.read_text()
    named = {word for code in inline_code(text) for word in code.split()}
    named |= set(re.findall(r"(?<![\w/`])docs/[a-z_]+\.md", text))
    missing = []
    for name in named:
        path = name.partition("::")[0].rstrip(".,")
        if not re.fullmatch(rf"({FOLDERS})/[\w./*-]*|\w+/[\w/]+\.py", path):
            continue
        if path not in FOREIGN_FILES and not any(
            list(base.glob(path)) for base in (ROOT, ROOT / "vicregl_bench")
        ):
            missing.append(name)
    assert sorted(missing) == []


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#\s]+)", (ROOT / "README.md").read_text())
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_pictures_and_results_of_the_readme_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\((?!https?://)([^)\s]+)", text)
    results = re.findall(r"(?<![\w/])results/[\w./-]*\w", text)
    assert pictures and results
    assert [name for name in (*pictures, *results) if not (ROOT / name).exists()] == []
    # no pointer of Git LFS, and no other format under this name
    assert all((ROOT / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_what_is_not_there_is_noticed() -> None:
    assert TASK.fullmatch("voc_liner") is None and TASK.fullmatch("vox_linear")
    assert "sweep.lrs" in known_settings() and "sweep.lr" not in known_settings()
    assert is_record_field("task.metric") and not is_record_field("task.metrics")
    assert is_module("vicregl_bench.cli") and not is_module("vicregl_bench.cly")
    code = "a `b c`\n\n    `no`\n\n```\n`no`\n```\n`d\ne`"
    assert inline_code(code) == ["b c", "d e"]
