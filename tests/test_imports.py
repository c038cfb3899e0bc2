"""The arrows between packages, and what light commands must not import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.made_record import make_record
from vicregl_bench.records import write_record

ROOT = Path(__file__).parents[1]
# what each package may import of the others (single modules such as errors are everybody's)
ALLOWED = {
    "checkpoints": set(),
    "backbones": {"checkpoints"},
    "heads": set(),
    "data": set(),
    "records": set(),
    "tables": {"records"},
    "page": {"records", "tables"},
    "engine": set(),
    "features": {"backbones", "checkpoints", "data", "engine"},
    "tasks": {"engine", "backbones", "heads", "data", "features", "records", "checkpoints"},
    "batch": {"tasks", "tables", "records", "checkpoints", "backbones", "data", "engine"},
}


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_point_one_way(package: str) -> None:
    for path in (ROOT / "vicregl_bench" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                top, _, rest = node.module.partition(".")
                target = rest.split(".")[0]
                everybodys = ("errors", "near", "digest", "atomic", "shipped")
                if top == "vicregl_bench" and target not in (*everybodys, package):
                    assert target in ALLOWED[package], f"{path} imports {node.module}"
                assert top != "pretrain", f"{path} imports {node.module}"


def test_pretrain_knows_nothing_of_tasks_records_or_tables() -> None:
    for path in (ROOT / "pretrain").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                top, _, rest = node.module.partition(".")
                allowed = ("engine", "checkpoints", "backbones", "errors", "digest", "atomic")
                if top == "vicregl_bench":
                    assert rest.split(".")[0] in allowed, f"{path} imports {node.module}"


@pytest.mark.parametrize("words", [["ls", "tasks"], ["--help"], ["data", "--help"]])
def test_light_commands_do_not_import_mmseg(words: list[str]) -> None:
    program = (
        "import sys; from vicregl_bench.cli.main import _guarded; "
        f"code = _guarded({words!r}); heavy = 'mmseg' in sys.modules; sys.exit(code or heavy)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_naming_by_a_zoo_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    (tmp_path / "zoo.yaml").write_text(
        "checkpoints: [{name: a, ckpt: a.pth, arch: resnet50}, {name: b, ckpt: 'random:resnet50'}]"
    )
    (tmp_path / "runs").mkdir()
    write_record(tmp_path / "runs", make_record())
    words = [
        "leaderboard",
        "--records",
        str(tmp_path / "runs"),
        "--zoo",
        str(tmp_path / "zoo.yaml"),
    ]
    program = (
        "import sys; from vicregl_bench.cli.main import _guarded; "
        f"code = _guarded({words!r}); sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
