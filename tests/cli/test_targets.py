"""Places to write to, known to be none before anything is done."""

import os
from pathlib import Path

import pytest

from vicregl_bench.cli.targets import require_file, require_folder
from vicregl_bench.errors import ConfigError


def test_folders_that_are_or_can_be_made_are_well(tmp_path: Path) -> None:
    require_folder("--out", tmp_path)
    require_folder("--out", tmp_path / "new" / "newer")
    require_file("--junit", tmp_path / "new" / "file.xml")


def test_a_folder_that_cannot_be_written_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the superuser may write everywhere, so the answer is made up
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for path in (tmp_path, tmp_path / "new" / "newer"):
        with pytest.raises(ConfigError, match=f"cannot write in {tmp_path}; name another"):
            require_folder("--out", path)
    with pytest.raises(ConfigError, match="cannot write in"):
        require_file("--junit", tmp_path / "scores.xml")
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    require_folder("--out", tmp_path)
