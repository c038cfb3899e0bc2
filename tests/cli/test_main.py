"""Errors of the file system end in one line, wherever they come from."""

import errno
import os

import pytest

from vicregl_bench.cli import main


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EEXIST, errno.ENOTDIR, errno.EISDIR])
def test_an_error_of_the_file_system_is_one_line(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(**_: object) -> None:
        raise OSError(number, os.strerror(number), "runs/table1.md")

    monkeypatch.setattr(main, "app", app)
    assert main._guarded([]) == 2
    error = capsys.readouterr().err
    assert error == f"error: cannot read or write runs/table1.md: {os.strerror(number)}\n"
