"""A linear SVM of one class against the rest, its C by cross-validation on train.

As Goyal et al. 2019 (1905.01235; `tools/svm` of the code, which VISSL took over) train them for
VOC07: LIBLINEAR's L2-regularised squared hinge loss in the dual with a regularised bias, a
tolerance of 1e-4, vectors of length 1, stratified folds in the order of the pictures, and of
several C the one of the largest mean average precision over the folds (the first of equal ones).
Deviations: pictures of label 0 (VOC: all objects of the class are difficult) are left out of
training, theirs are negatives; LIBLINEAR's order of coordinates is seeded.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.model_selection import cross_val_score  # type: ignore[import-untyped]
from sklearn.svm import LinearSVC  # type: ignore[import-untyped]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_TOLERANCE = 1e-4
_SHORT = 1e-5  # added to every length, as theirs


@dataclass(frozen=True)
class SvmOptions:
    """How the SVM of a class is trained.

    Attributes:
        costs: values of C to choose from.
        folds: of the cross-validation.
        positive_weight: times C, of pictures that have the class.
        max_iter: passes over the pictures at the most.
        seed: of LIBLINEAR's order.
    """

    costs: tuple[float, ...]
    folds: int = 3
    positive_weight: float = 2.0
    max_iter: int = 2000
    seed: int = 0

    def classifier(self, cost: float) -> LinearSVC:
        """scikit-learn's classifier of labels 1 and -1, not fitted."""
        return LinearSVC(
            C=cost,
            class_weight={1: self.positive_weight, -1: 1.0},
            loss="squared_hinge",
            penalty="l2",
            dual=True,
            tol=_TOLERANCE,
            max_iter=self.max_iter,
            random_state=self.seed,
        )


@dataclass(frozen=True, eq=False)
class LinearSvm:
    """A trained SVM.

    Attributes:
        cost: the C that was chosen.
        precisions: (costs,) cross-validated average precision of each, 0 to 1.
        weights: (D,).
        bias: added to the product.
    """

    cost: float
    precisions: FloatArray
    weights: FloatArray
    bias: float

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Decision values (N,) of vectors (N, D) of length 1."""
        values: FloatArray = vectors @ self.weights + self.bias
        return values


def unit_vectors(vectors: npt.NDArray[Any]) -> FloatArray:
    """Vectors (N, D) of length 1, float64, as LIBLINEAR computes."""
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True) + _SHORT
    return exact


def can_fit(labels: IntArray, folds: int) -> bool:
    """Whether every fold can have both a picture with the class and one without."""
    return bool(min((labels == 1).sum(), (labels == -1).sum()) >= folds)


def fit_svm(
    vectors: FloatArray,
    labels: IntArray,
    options: SvmOptions,
    *,
    workers: int = 0,
    on_progress: Callable[[int], None] = lambda done: None,
    check_stop: Callable[[], None] = lambda: None,
) -> LinearSvm:
    """Choose C by cross-validation, and train with it on all of the pictures.

    The result does not depend on `workers`. Each process takes 24 bytes an element of the vectors,
    LIBLINEAR's own copy among them: 250 MB for VOC07's 5,011 vectors of 2,048.

    Args:
        vectors: (N, D) of length 1, `unit_vectors`.
        labels: (N,) 1 with the class, -1 without, 0 left out.
        options: how.
        workers: processes that share the values of C; 0 and 1 use this one.
        on_progress: told how many values of C are validated.
        check_stop: called between fits; raises where the run is to stop.

    Raises:
        ValueError: fewer pictures with or without the class than folds.
    """
    if not can_fit(labels, options.folds):
        raise ValueError(f"{options.folds} folds need as many pictures with and without the class")
    rows = np.flatnonzero(labels)
    validate = delayed(_precision)
    # processes and not threads: LIBLINEAR's random numbers are global
    validated = Parallel(n_jobs=max(1, workers), return_as="generator")(
        validate(vectors, labels, rows, options, cost) for cost in options.costs
    )
    precisions = np.empty(len(options.costs))
    check_stop()
    for index, precision in enumerate(validated):
        precisions[index] = precision
        on_progress(index + 1)
        check_stop()
    cost = options.costs[int(precisions.argmax())]
    fitted = _quietly(lambda: options.classifier(cost).fit(vectors[rows], labels[rows]))
    # of the classes -1 and 1 the one row is the decision for 1
    return LinearSvm(cost, precisions, fitted.coef_[0], float(fitted.intercept_[0]))


def _precision(
    vectors: FloatArray, labels: IntArray, rows: IntArray, options: SvmOptions, cost: float
) -> float:
    """Mean average precision of the folds."""
    each = _quietly(
        lambda: cross_val_score(
            options.classifier(cost),
            vectors[rows],
            labels[rows],
            cv=options.folds,
            scoring="average_precision",
        )
    )
    return float(each.mean())


def _quietly(fit: Callable[[], Any]) -> Any:
    """A fit, which at large C often ends at `max_iter`: that is the protocol."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit()
