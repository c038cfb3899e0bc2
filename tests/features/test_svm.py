"""The SVM of a class against plain scikit-learn, and what choosing C means."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from vicregl_bench.features.svm import SvmOptions, can_fit, fit_svm, unit_vectors

COSTS = (1e-4, 0.01, 1.0, 100.0)


def drawn(noise: float = 1.5, count: int = 90) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Vectors of two overlapping classes, a third of them with the class."""
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(count) < 1 / 3, 1, -1)
    vectors = generator.normal(size=(count, 12)) * noise
    vectors[:, 0] += labels
    return unit_vectors(vectors * generator.uniform(0.5, 50, size=(count, 1))), labels


def plain(cost: float) -> LinearSVC:
    """As VISSL's svm_trainer.py makes it, with a seed."""
    return LinearSVC(
        C=cost,
        class_weight={1: 2, -1: 1},
        intercept_scaling=1.0,
        penalty="l2",
        loss="squared_hinge",
        tol=0.0001,
        dual=True,
        max_iter=2000,
        random_state=0,
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_it_is_plain_scikit_learn(workers: int) -> None:
    vectors, labels = drawn()
    expected = [
        cross_val_score(plain(cost), vectors, labels, cv=3, scoring="average_precision").mean()
        for cost in COSTS
    ]
    found = fit_svm(vectors, labels, SvmOptions(COSTS), workers=workers)
    np.testing.assert_allclose(found.precisions, expected, rtol=1e-12)
    assert found.cost == COSTS[int(np.argmax(expected))] and len(set(expected)) > 1
    values = plain(found.cost).fit(vectors, labels).decision_function(vectors)
    np.testing.assert_allclose(found(vectors), values, rtol=1e-12)


def test_pictures_of_label_0_are_left_out() -> None:
    vectors, labels = drawn()
    out = np.arange(len(labels)) % 5 == 0
    with_zeros = fit_svm(vectors, np.where(out, 0, labels), SvmOptions(COSTS))
    without = fit_svm(vectors[~out], labels[~out], SvmOptions(COSTS))
    np.testing.assert_array_equal(with_zeros.weights, without.weights)
    np.testing.assert_array_equal(with_zeros.precisions, without.precisions)
    as_negatives = fit_svm(vectors, np.where(out, -1, labels), SvmOptions(COSTS))
    assert not np.allclose(with_zeros.weights, as_negatives.weights)


def test_of_equal_costs_the_first_is_chosen() -> None:
    vectors, labels = drawn(noise=0.01)
    found = fit_svm(vectors, labels, SvmOptions((1.0, 0.1, 10.0)))
    assert found.precisions.tolist() == [1.0, 1.0, 1.0] and found.cost == 1.0
    assert ((found(vectors) > 0) == (labels == 1)).all()


def test_vectors_have_length_1() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32) * 100
    np.testing.assert_allclose(unit_vectors(vectors), normalize(vectors.astype(float)), rtol=1e-6)
    assert unit_vectors(np.zeros((1, 3), np.float32)).tolist() == [[0.0, 0.0, 0.0]]


def test_a_class_needs_as_many_pictures_as_folds() -> None:
    vectors, _ = drawn(count=9)
    labels = np.array([1, 1, 0, -1, -1, -1, -1, -1, -1])
    assert not can_fit(labels, 3) and not can_fit(-labels, 3) and can_fit(labels, 2)
    with pytest.raises(ValueError, match="3 folds"):
        fit_svm(vectors, labels, SvmOptions(COSTS))


def test_progress_and_stopping() -> None:
    vectors, labels = drawn()
    done: list[int] = []

    def check_stop() -> None:
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_svm(vectors, labels, SvmOptions(COSTS), on_progress=done.append, check_stop=check_stop)
    assert done == [1, 2]
