"""`vicregl-bench show`: a record, and the pictures of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vicregl_bench.cli.output import print_json, print_record, print_text
from vicregl_bench.cli.reporter import StderrReporter
from vicregl_bench.errors import BenchError, ConfigError, RecordError

if TYPE_CHECKING:
    from vicregl_bench.records import Record
    from vicregl_bench.records.predictions import KeptPicture

Warn = Callable[[str], None]

# metrics of the tasks that keep predictions of single pictures
_KEEPING = ("miou", "ap", "match_accuracy")


@dataclass(frozen=True)
class PictureRequest:
    """What `draw_pictures` draws of a record."""

    record: "Record"
    path: Path  # file of the record
    out: Path  # folder of the pictures
    data_root: Path | None = None  # None: where the record says
    only: tuple[str, ...] = ()  # names of pictures; all that are kept where none is given
    against: "Record | None" = None


@dataclass(frozen=True)
class _Kept:
    """Predictions that a record keeps."""

    pictures: tuple["KeptPicture", ...] = ()
    classes: tuple[str, ...] = ()


def show(
    record: Annotated[Path, typer.Argument(help="File of a record.")],
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Draw predictions, learning-rate curve, scores per class."),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Record whose scores per class stand beside (--pictures).")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Names of the pictures to draw, A,B (--pictures).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of what is drawn; default: beside the record.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the data set is; default: where the record says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show a record: what was run, the learning-rate curve, the best; or draw it."""
    from vicregl_bench.records import read_record

    given = {"--against": against, "--only": only, "--out": out, "--data-root": data_root}
    extra = [name for name, value in given.items() if value is not None]
    if extra and not pictures:
        raise ConfigError(f"{', '.join(extra)} is about what is drawn: give --pictures too")
    found = read_record(record)
    if pictures:
        reporter = StderrReporter()
        request = PictureRequest(
            record=found,
            path=record,
            out=record.parent if out is None else out,
            data_root=data_root,
            only=() if only is None else picture_names(only, "--only"),
            against=None if against is None else read_record(against),
        )
        for path in draw_pictures(request, reporter.warn):
            if as_json:
                reporter.console.print(str(path), markup=False, soft_wrap=True)
            else:
                print_text(str(path))
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif not pictures:
        print_record(found)


def picture_names(text: str, option: str) -> tuple[str, ...]:
    """Names separated by commas, each once; an ending such as `.jpg` is cut off.

    Raises:
        ConfigError: no name in it.
    """
    endings = (".jpg", ".jpeg", ".png")
    words = [word.strip() for word in text.split(",")]
    names = [Path(w).stem if w.lower().endswith(endings) else w for w in words if w]
    if not names:
        raise ConfigError(f"{option} takes names of pictures such as 2007_000033, not {text!r}")
    return tuple(name.removesuffix("_leftImg8bit") for name in dict.fromkeys(names))


def draw_pictures(request: PictureRequest, warn: Warn) -> tuple[Path, ...]:
    """Draw what a record has: predictions, learning-rate curve, and bars per class.

    A grid of one point without learning rate has no curve, pictures without classes no bars.
    What else cannot be drawn for want of scores or kept predictions is warned of; what was asked
    for by name is not left out but refused.

    Returns:
        The files drawn: `.predictions.png`, `.curve.png` and `.classes.png` after the record's
        stem.

    Raises:
        ConfigError: nothing to draw, a name that was not kept, or a record to compare with that has
            other classes or no best learning rate.
        RecordError: a file cannot be written.
    """
    from vicregl_bench.tables.pictures import class_bars, draw_classes, draw_curve

    record, against = request.record, request.against
    if against is not None:
        class_bars(record, against)  # what is wrong with them, before anything is drawn
        if record.data.fingerprint != against.data.fingerprint:
            warn("the two records were made on other data: their bars compare with care")
    drawn: list[Path] = []
    reasons: list[str] = []
    kept = _kept(request, reasons.append)
    predictions = _target(request, "predictions")
    if kept.pictures:
        _draw_predictions(request, kept, predictions, warn)
        drawn.append(predictions)
    drawings: dict[str, Callable[[Path], None]] = {}
    if _has_grid(record):
        drawings["curve"] = lambda path: draw_curve(record, path)
    if against is not None or record.best is None or record.best.by_class:
        drawings["classes"] = lambda path: draw_classes(record, path, against)
    for name, draw in drawings.items():
        path = _target(request, name)
        try:
            draw(path)
        except ConfigError as error:
            reasons.append(str(error))
        else:
            drawn.append(path)
    if not drawn:
        raise ConfigError(f"nothing to draw of {request.path}: {'; '.join(reasons)}")
    for reason in reasons:
        warn(reason)
    return tuple(drawn)


def _has_grid(record: "Record") -> bool:
    """Whether there is a curve to draw; one point without learning rate is none."""
    points = {(one.lr, *sorted(one.options.items())) for one in record.results}
    return len(points) != 1 or record.results[0].lr is not None


def _target(request: PictureRequest, name: str) -> Path:
    return request.out / f"{request.path.stem}.{name}.png"


def _kept(request: PictureRequest, warn: Warn) -> _Kept:
    """The kept predictions asked for; none, and `warn` says why, where nothing is kept."""
    name = request.record.predictions_file
    try:
        if name is None and request.record.task.metric not in _KEEPING:
            raise RecordError(f"{request.record.task.name} keeps none of single pictures")
        if name is None:
            raise RecordError(
                f"{request.path} keeps no predictions: a run without a score or with --pictures 0 "
                "has none; one from before they were kept is run again with --force"
            )
        kept = _load(request.path.parent / Path(name).name, request.record)
    except RecordError as error:
        if request.only:
            raise
        warn(f"no predictions drawn: {error}")
        return _Kept()
    names = [one.name for one in kept.pictures]
    absent = [name for name in request.only if name not in names]
    if absent:
        raise ConfigError(
            f"the record keeps no prediction of {', '.join(absent)}, only of {', '.join(names)}; "
            "`vicregl-bench run --pictures NAMES --force` keeps others"
        )
    if request.only:
        chosen = tuple(one for name in request.only for one in kept.pictures if one.name == name)
        return replace(kept, pictures=chosen)
    return kept


def _dataset(record: "Record") -> str:
    return str(record.task.settings.get("data", {}).get("dataset"))


def _load(path: Path, record: "Record") -> _Kept:
    """Label maps, of detection boxes, of correspondence matches."""
    from vicregl_bench.data import DETECTION_SETS
    from vicregl_bench.records.detections import load_detections
    from vicregl_bench.records.matches import load_matches
    from vicregl_bench.records.predictions import load_predictions

    if record.task.metric == "match_accuracy":
        return _Kept(load_matches(path))
    if _dataset(record) in DETECTION_SETS:
        return _Kept(*load_detections(path))
    classes = () if record.best is None else tuple(record.best.by_class)
    return _Kept(load_predictions(path), classes)


def _draw_predictions(request: PictureRequest, kept: _Kept, path: Path, warn: Warn) -> None:
    from vicregl_bench.records.matches import KeptMatches
    from vicregl_bench.tables.match_pictures import draw_matches
    from vicregl_bench.tables.pictures import MAX_ROWS

    record, count = request.record, len(kept.pictures)
    if count > MAX_ROWS:
        warn(f"the first {MAX_ROWS} of {count} kept predictions are drawn; --only names others")
        kept = replace(kept, pictures=kept.pictures[:MAX_ROWS])
    matches = [one for one in kept.pictures if isinstance(one, KeptMatches)]
    if matches:  # they bring their views along
        draw_matches(matches, path)
        return
    dataset = _dataset(record)
    root = Path(record.data.root) if request.data_root is None else request.data_root
    missing = _draw_kept(kept, _find_pictures(kept.pictures, root, dataset), dataset, path)
    if missing:
        warn(
            f"{len(missing)} of {len(kept.pictures)} pictures cannot be read and are grey, the "
            f"first is {missing[0]}; --data-root says where the data set is now"
        )


def _draw_kept(kept: _Kept, images: Sequence[Path], dataset: str, path: Path) -> tuple[Path, ...]:
    """Draw what is kept of each picture; the pictures that cannot be read."""
    from vicregl_bench.data import class_colours, palette
    from vicregl_bench.records.detections import KeptDetections
    from vicregl_bench.records.predictions import KeptPrediction
    from vicregl_bench.tables.detection_pictures import draw_detections, spread_colours
    from vicregl_bench.tables.pictures import draw_predictions

    rows = list(zip(images, kept.pictures, strict=True))
    boxes = [(image, one) for image, one in rows if isinstance(one, KeptDetections)]
    if boxes:
        # VOC's colour map begins with the background, which boxes have none of
        colours = palette()[1:] if dataset == "voc_boxes" else spread_colours(len(kept.classes))
        return draw_detections(boxes, kept.classes, path, colours)
    maps = [
        (image, one.truth, one.labels) for image, one in rows if isinstance(one, KeptPrediction)
    ]
    return draw_predictions(maps, class_colours(dataset), path, kept.classes)


def _find_pictures(kept: Sequence["KeptPicture"], root: Path, dataset: str) -> list[Path]:
    """Where the pictures are: as kept below the root, or by name among the data set's val ones."""
    places = [root / one.image for one in kept]
    if all(place.is_file() for place in places):
        return places
    from vicregl_bench.data import DETECTION_SETS, read_detection, read_segmentation

    read = read_detection if dataset in DETECTION_SETS else read_segmentation
    try:
        val = {picture.image.name: picture.image for picture in read(dataset, root).val}
    except BenchError:
        val = {}
    return [place if place.is_file() else val.get(place.name, place) for place in places]
