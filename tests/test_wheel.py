"""The wheel holds what the installed command needs."""

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_ships_eval_configs_and_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hatchling.build import build_wheel

    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
    shipped = {p.relative_to(ROOT / "eval_configs") for p in (ROOT / "eval_configs").rglob("*.py")}
    assert {f"vicregl_bench/eval_configs/{p.as_posix()}" for p in shipped} <= names
    recipes = {p.relative_to(ROOT) for p in (ROOT / "pretrain" / "recipes").rglob("*.py")}
    assert len(recipes) > 10 and {p.as_posix() for p in recipes} <= names
    assert "vicregl_bench/results/published.csv" in names
    assert "vicregl_bench/cli/main.py" in names
    assert not [name for name in names if name.startswith("tests/")]
