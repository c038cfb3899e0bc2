"""The folder of a generated data set: finished, to be begun again, or not ours and left alone."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vicregl_bench.errors import DataError

MARKER = ".vicregl-bench.json"
UNFINISHED = ".vicregl-bench.unfinished.json"


def fill_once(
    out: str | Path,
    parameters: Mapping[str, object],
    tops: Sequence[str],
    files: Mapping[str, int],
    write: Callable[[Path], None],
) -> None:
    """Call `write(out)` unless `out` holds the finished result of the same parameters.

    Args:
        out: folder to fill; new, empty, unfinished or finished by an earlier call.
        parameters: what the result follows from; kept in a marker file.
        tops: folders that `write` makes in `out`; those of an unfinished call are removed first.
        files: glob pattern in `out` -> number of files that a finished result has.
        write: writes the data set.

    Raises:
        DataError: `out` holds anything else, or cannot be written.
    """
    out = Path(out)
    try:
        if not _already_there(out, parameters, tops, files):
            _write_marked(out, parameters, tops, write)
    except OSError as error:
        raise DataError(f"cannot write the generated data into {out}: {error}") from error


def _already_there(
    out: Path, parameters: Mapping[str, object], tops: Sequence[str], files: Mapping[str, int]
) -> bool:
    """Whether `out` holds the finished result; DataError where it holds anything not ours."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out} is a file: choose another --out")
    entries = {path.name for path in out.iterdir()}
    if MARKER in entries:
        if _read_marker(out / MARKER) != parameters:
            raise DataError(
                f"{out} holds data generated with other parameters: choose another --out"
            )
        if any(sum(1 for _ in out.glob(pattern)) != count for pattern, count in files.items()):
            raise DataError(
                f"{out} holds generated data that was changed since: remove it or choose another "
                "--out"
            )
        return True
    foreign = sorted(entries - ({UNFINISHED, *tops} if UNFINISHED in entries else set()))
    if foreign:
        raise DataError(f"{out} holds other files ({foreign[0]}): choose another --out")
    return False


def _read_marker(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_marked(
    out: Path,
    parameters: Mapping[str, object],
    tops: Sequence[str],
    write: Callable[[Path], None],
) -> None:
    """Call `write(out)` between an unfinished marker and the final one, on a clean folder."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / UNFINISHED
    unfinished.write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8", newline="\n")
    for top in tops:
        if (out / top).exists():
            shutil.rmtree(out / top)
    write(out)
    unfinished.replace(out / MARKER)
