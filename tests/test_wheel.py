"""The wheel holds what the installed command needs."""

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_wheel_ships_the_eval_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hatchling.build import build_wheel

    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
    shipped = {p.relative_to(ROOT / "eval_configs") for p in (ROOT / "eval_configs").rglob("*.py")}
    assert {f"vicregl_bench/eval_configs/{p.as_posix()}" for p in shipped} <= names
    assert "vicregl_bench/cli/main.py" in names
    assert not [name for name in names if name.startswith("tests/")]
