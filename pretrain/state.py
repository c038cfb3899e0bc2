"""What a run folder says about its run: run.json, and mmengine's checkpoints in work/."""

import zipfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pretrain.pictures import PictureList
from pretrain.probe import ProbeScores
from pretrain.recipe import Recipe, differences
from vicregl_bench.atomic import write_atomic
from vicregl_bench.errors import ConfigError, DataError, RecordError

STATE_FILE = "run.json"


class RunState(BaseModel):
    """Content of run.json.

    `recipe` is kept as it was written, so that a run of an older version can be told apart. The
    hash of the pictures is over their names: changed contents pass.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    status: Literal["running", "stopped", "diverged", "finished"]
    recipe: dict[str, Any]
    pictures: int
    pictures_sha256: str
    device: str
    processes: int
    torch: str
    command: str
    steps: int = 0
    wall_s: float = 0.0
    last: dict[str, float] = {}
    probe_start: ProbeScores | None = None
    probe_end: ProbeScores | None = None


def read_state(out: Path) -> RunState | None:
    """The state of the run in a folder, None where there is none.

    Raises:
        RecordError: run.json is no state of a run.
    """
    path = out / STATE_FILE
    if not path.exists():
        return None
    try:
        return RunState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise RecordError(
            f"{path}: not the state of a run ({where} {first['msg']}); move {out} away or use "
            "another --out"
        ) from error


def write_state(out: Path, state: RunState) -> None:
    """Write run.json whole or not at all.

    Raises:
        OSError: as the file system says.
    """
    write_atomic(out / STATE_FILE, state.model_dump_json(indent=2).encode() + b"\n")


def require_same_run(state: RunState, recipe: Recipe, pictures: PictureList, out: Path) -> None:
    """Stop where the folder holds another run.

    Raises:
        ConfigError: other settings.
        DataError: other pictures.
    """
    changed = differences(state.recipe, recipe.model_dump(mode="json"))
    if changed:
        raise ConfigError(
            f"{out} holds a run of another recipe ({'; '.join(changed[:4])}): use another --out, "
            "or the settings it began with"
        )
    if state.pictures_sha256 != pictures.sha256:
        raise DataError(
            f"{out} holds a run over {state.pictures} other pictures than the "
            f"{len(pictures.names)} in {pictures.root}: use another --out"
        )


def latest_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint of a run; half-written ones are passed over."""
    steps = {path.stem.removeprefix("iter_"): path for path in work.glob("iter_*.pth")}
    newest_first = sorted((step for step in steps if step.isdigit()), key=int, reverse=True)
    return next((steps[step] for step in newest_first if zipfile.is_zipfile(steps[step])), None)
