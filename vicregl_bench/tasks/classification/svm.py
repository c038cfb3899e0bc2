"""Multi-label classification by linear SVMs, one a class: VOC07's probe."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vicregl_bench.data import MultiLabelData, MultiLabelled, read_multi_label
from vicregl_bench.errors import DataError, RecordError
from vicregl_bench.features.extractor import Extractor
from vicregl_bench.features.svm import SvmOptions, can_fit, fit_svm, unit_vectors
from vicregl_bench.heads.sweep import HeadSpec
from vicregl_bench.records.arrays import read_arrays, write_arrays
from vicregl_bench.tasks.classification.extraction import (
    HELD,
    TRAIN,
    VAL,
    VectorProbe,
    extractor_of,
)
from vicregl_bench.tasks.classification.multi_label_outcome import MultiLabelScores
from vicregl_bench.tasks.classification.svm_settings import SvmSettings
from vicregl_bench.tasks.measured import Scores
from vicregl_bench.tasks.outcome import Outcome
from vicregl_bench.tasks.probing import Probing
from vicregl_bench.tasks.request import RunRequest

Arrays = dict[str, npt.NDArray[Any]]
FloatArray = npt.NDArray[np.float64]


class Svm(VectorProbe[MultiLabelData]):
    """One linear SVM a class on features of central crops, mAP over the classes.

    A class of which train has fewer pictures than folds, with it or without, has no SVM and no
    score, which is noted; so has one that no val picture has.

    Raises:
        DataError: no class can be trained and scored.
    """

    metric = "map"
    outcome = MultiLabelScores

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request)
        data = self.settings.data
        found = read_multi_label(data.dataset, request.data_root, data.variant)
        train, val = _labels(found.train), _labels(found.val)
        folds = self.settings.svm.folds
        without = [
            name
            for label, name in enumerate(found.classes)
            if not can_fit(train[:, label], folds) or not (val[:, label] == 1).any()
        ]
        if len(without) == len(found.classes):
            raise DataError(
                f"no class of {found.root} has {folds} pictures with it and {folds} without it in "
                "train, and one with it in val: an SVM needs them"
            )
        note = (
            f"no score for {len(without)} of {len(found.classes)} classes, which too few pictures "
            f"have: {', '.join(without)}"
        )
        self.dataset = replace(found, notes=(*found.notes, note)) if without else found

    @property
    def settings(self) -> SvmSettings:
        """Of the task."""
        settings = self.request.task.settings
        assert isinstance(settings, SvmSettings)
        return settings

    def heads(self) -> tuple[HeadSpec, ...]:
        """One: every class chooses its own C on train."""
        return (HeadSpec(None, 0),)

    def probe(self, probing: Probing) -> Scores:
        """Scores of all classes; what is done of them is kept.

        Raises:
            RunInterruptedError: asked to stop.
            DataError: with a slice held out, no class can be trained any more.
        """
        (head,) = self.heads()
        return probing.point(head, partial(self._scores, probing))

    def _scores(self, probing: Probing) -> Scores:
        settings = self.settings
        learned, extractor = extractor_of(self, probing, train=True), extractor_of(self, probing)

        def vectors(
            pictures: Sequence[MultiLabelled], stage: str, by: Extractor = extractor
        ) -> FloatArray:
            return unit_vectors(probing.features(by, pictures, stage).tensor().numpy())

        train = vectors(probing.train, TRAIN, learned)
        scored = {"val": vectors(probing.val, VAL)}
        if probing.holdout:
            scored["held"] = vectors(probing.holdout, HELD)
        labels = _labels(probing.train)
        svm = settings.svm
        lost = [
            name
            for name, before, left in zip(
                self.dataset.classes, _labels(self.dataset.train).T, labels.T, strict=True
            )
            if can_fit(before, svm.folds) and not can_fit(left, svm.folds)
        ]
        notes: tuple[str, ...] = ()
        if lost:
            notes = (f"the held-out slice leaves too few pictures for SVMs of {', '.join(lost)}",)
            probing.reporter.warn(f"{notes[0]}: no score for these")
        options = SvmOptions(
            svm.costs, svm.folds, svm.positive_weight, svm.max_iter, settings.sweep.run_seed
        )
        update = probing.reporter.stage("SVMs", len(self.dataset.classes) * len(svm.costs))
        columns: list[Arrays] = []
        for label, name in enumerate(self.dataset.classes):
            path = probing.points / f"class-{name}.npz"
            column = _read(path, scored)
            if column is None:
                done = len(columns) * len(svm.costs)
                column = _column(
                    probing,
                    (train, labels[:, label]),
                    scored,
                    options,
                    on_progress=partial(_add, update, done),
                )
                write_arrays(path, column)
            columns.append(column)
            update(len(columns) * len(svm.costs))
        if all(np.isnan(column["val"]).any() for column in columns):
            raise DataError(
                f"no class has {svm.folds} pictures with it and {svm.folds} without it among "
                f"{len(probing.train)} training pictures: an SVM needs them"
            )
        held = self._outcome(probing.holdout, columns, "held") if probing.holdout else None
        return Scores(self._outcome(probing.val, columns, "val"), held, notes=(notes,))

    def _outcome(
        self, pictures: Sequence[MultiLabelled], columns: Sequence[Arrays], which: str
    ) -> MultiLabelScores:
        return MultiLabelScores(
            names=tuple(picture.name for picture in pictures),
            labels=_labels(pictures).astype(np.int8),
            scores=np.stack([one[which] for one in columns], axis=1)[:, None].astype(np.float32),
            costs=np.array([[float(one["cost"]) for one in columns]]),
        )

    def save_kept(
        self,
        path: Path,
        pictures: Sequence[MultiLabelled],
        outcome: Outcome,
        head: int,
        kept: Mapping[str, Any],
    ) -> list[str]:
        """Nothing is kept of single pictures but their scores."""
        return []


def _column(
    probing: Probing,
    train: tuple[FloatArray, npt.NDArray[np.int64]],
    scored: Mapping[str, FloatArray],
    options: SvmOptions,
    on_progress: Callable[[int], None],
) -> Arrays:
    """Scores of one class by list of pictures, and the C chosen; NaN where there is no SVM.

    Args:
        probing: of the run.
        train: vectors (N, D) and labels (N,) of the class.
        scored: name of a list -> vectors of its pictures.
        options: of the SVM.
        on_progress: told how many values of C are validated.
    """
    vectors, labels = train
    if not can_fit(labels, options.folds):
        nothing = {name: np.full(len(rows), np.nan) for name, rows in scored.items()}
        return {**nothing, "cost": np.array(np.nan)}
    fitted = fit_svm(
        vectors,
        labels,
        options,
        workers=probing.workers,
        on_progress=on_progress,
        check_stop=probing.check_stop,
    )
    scores = {name: fitted(rows) for name, rows in scored.items()}
    return {**scores, "cost": np.array(fitted.cost)}


def _add(update: Callable[[int], None], before: int, done: int) -> None:
    update(before + done)


def _labels(pictures: Sequence[MultiLabelled]) -> npt.NDArray[np.int64]:
    """(N, C)."""
    return np.array([picture.labels for picture in pictures], dtype=np.int64)


def _read(path: Path, scored: Mapping[str, FloatArray]) -> Arrays | None:
    """What was kept of a class; None where that is nothing, or not whole."""
    with suppress(FileNotFoundError, RecordError, KeyError):
        column = read_arrays(path)
        if column["cost"].shape == () and all(
            column[name].shape == (len(rows),) for name, rows in scored.items()
        ):
            return column
    return None
