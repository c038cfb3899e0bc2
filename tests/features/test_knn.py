from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from vicregl_bench.errors import CheckpointError, ConfigError
from vicregl_bench.features.knn import Neighbours, nearest_rows

KS = (1, 5, 10, 20)
CLASSES = 7


def drawn(classes: int = CLASSES, train: int = 300, val: int = 90) -> tuple[Tensor, ...]:
    """Features of overlapping classes, with lengths of their own, and labels."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 24, generator=generator)
    parts: list[Tensor] = []
    for count in (train, val):
        labels = torch.randint(0, classes, (count,), generator=generator)
        noise = torch.randn(count, 24, generator=generator)
        lengths = torch.rand(count, 1, generator=generator) + 0.1
        parts += [(centres[labels] + 2.5 * noise) * lengths, labels]
    return tuple(parts)


def find_neighbours(
    train: Tensor, labels: Tensor, val: Tensor, k: int, **chunks: int
) -> Neighbours:
    similarities, rows = nearest_rows(train, val, k, **chunks)
    return Neighbours(similarities, labels[rows])


def knn_predict(
    train: Tensor, labels: Tensor, val: Tensor, ks: Sequence[int], **options: Any
) -> Tensor:
    """One search, and the classes of every k."""
    found = find_neighbours(train, labels, val, max(ks, default=0))
    return found.predict(ks, **options)


def knn_ranks(
    train: Tensor,
    labels: Tensor,
    val: Tensor,
    true: Tensor,
    ks: Sequence[int],
    temperature: float | None = None,
    **chunks: int,
) -> Tensor:
    """One search, and the true classes' ranks of every k."""
    found = find_neighbours(train, labels, val, max(ks), **chunks)
    return found.ranks(true, ks, classes=CLASSES, temperature=temperature)


def sklearn_knn(train: Tensor, labels: Tensor, k: int) -> KNeighborsClassifier:
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
    return model.fit(train.double().numpy(), labels.numpy())


@pytest.mark.parametrize("k", [1, 3, 15])
def test_two_classes_and_an_odd_k_equal_scikit_learn(k: int) -> None:
    train, labels, val, _ = drawn(classes=2)
    expected = sklearn_knn(train, labels, k).predict(val.double().numpy())
    found = knn_predict(train, labels, val, [k])[0, :, 0]
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("k", KS)
def test_votes_without_a_tie_equal_scikit_learn(k: int) -> None:
    train, labels, val, true = drawn()
    model = sklearn_knn(train, labels, k)
    shares = model.predict_proba(val.double().numpy())
    ordered = np.sort(shares, axis=1)
    untied = ordered[:, -1] > ordered[:, -2]
    assert untied.mean() > 0.6
    found = knn_predict(train, labels, val, [k])[0, :, 0].numpy()
    np.testing.assert_array_equal(found[untied], shares.argmax(axis=1)[untied])
    ranks = knn_ranks(train, labels, val, true, [k])[0].numpy()
    np.testing.assert_array_equal((ranks == 0)[untied], (found == true.numpy())[untied])


def dino_votes(train: Tensor, labels: Tensor, val: Tensor, k: int, temperature: float) -> Tensor:
    """Votes (N, C) as DINO's eval_knn.py counts them."""
    similar = F.normalize(val.double()) @ F.normalize(train.double()).T
    values, indices = similar.topk(k)
    votes = torch.zeros(len(val), CLASSES, dtype=torch.float64)
    for row, (value, index) in enumerate(zip(values, indices, strict=True)):
        for weight, label in zip((value / temperature).exp(), labels[index], strict=True):
            votes[row, label] += weight
    return votes


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_weighted_votes_are_those_of_dino(temperature: float) -> None:
    train, labels, val, true = drawn()
    found = knn_predict(train, labels, val, KS, temperature=temperature)
    ranks = knn_ranks(train, labels, val, true, KS, temperature=temperature)
    for number, k in enumerate(KS):
        votes = dino_votes(train, labels, val, k, temperature)
        order = votes.argsort(dim=1, descending=True)[:, :5]
        has = votes.gather(1, order) > 0
        assert torch.equal(found[number], torch.where(has, order, -1))
        own = votes.gather(1, true[:, None])
        expected = torch.where(own[:, 0] > 0, (votes > own).sum(dim=1), CLASSES - 1)
        assert torch.equal(ranks[number], expected)


def test_a_tiny_temperature_is_the_nearest_neighbour() -> None:
    train, labels, val, _ = drawn()
    nearest = knn_predict(train, labels, val, [1])[0, :, 0]
    found = knn_predict(train, labels, val, [20], temperature=1e-6)[0, :, 0]
    assert torch.equal(found, nearest)


@pytest.mark.parametrize(("query_chunk", "bank_chunk"), [(1, 300), (90, 1), (7, 13), (64, 128)])
@pytest.mark.parametrize("temperature", [None, 0.07])
def test_chunks_do_not_change_the_result(
    query_chunk: int, bank_chunk: int, temperature: float | None
) -> None:
    train, labels, val, true = drawn()
    whole = knn_ranks(train, labels, val, true, KS, temperature=temperature)
    parts = knn_ranks(
        train,
        labels,
        val,
        true,
        KS,
        temperature=temperature,
        query_chunk=query_chunk,
        bank_chunk=bank_chunk,
    )
    assert torch.equal(parts, whole)


def test_slices_of_val_put_together_are_the_whole() -> None:
    train, labels, val, _ = drawn()
    whole = knn_predict(train, labels, val, KS)
    parts = [knn_predict(train, labels, val[rows], KS) for rows in (slice(50), slice(50, 90))]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_one_search_serves_all_k() -> None:
    train, labels, val, _ = drawn()
    whole = knn_predict(train, labels, val, KS)
    for number, k in enumerate(KS):
        assert torch.equal(knn_predict(train, labels, val, [k])[0], whole[number])


# vectors of length 2 and of zeros: products of their halves are exact in float32
SIGNS = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [-1, -1, -1, -1]])


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_of_equal_neighbours_the_first_is_nearer(chunk: int) -> None:
    train = SIGNS[[1, 0, 0, 2, 0, 0, 3, 0]]
    labels = torch.arange(8)
    found = find_neighbours(train, labels, SIGNS[:1], 4, bank_chunk=chunk)
    assert found.labels.tolist() == [[1, 2, 4, 5]]
    found = find_neighbours(train, labels, SIGNS[:1], 8, bank_chunk=chunk)
    assert found.labels.tolist() == [[1, 2, 4, 5, 7, 0, 3, 6]]
    assert found.similarities.tolist() == [[1.0] * 5 + [0.5, 0.0, -1.0]]


def test_ties_go_to_the_larger_sum_then_to_the_smaller_class() -> None:
    similarities = torch.tensor([[0.9, 0.8, 0.7, 0.5], [0.75, 0.75, 0.5, 0.5]])
    found = Neighbours(similarities, torch.tensor([[4, 2, 2, 4], [3, 1, 3, 1]]))
    predicted = found.predict([2, 4], top=3)
    assert predicted.tolist() == [[[4, 2, -1], [1, 3, -1]], [[2, 4, -1], [1, 3, -1]]]
    ranks = [found.ranks(torch.full((2,), c), [2, 4], classes=9).tolist() for c in range(5)]
    # the last rank where the class has no neighbour, small as its number may be
    assert ranks == [
        [[8, 8], [8, 8]],
        [[8, 0], [8, 0]],
        [[1, 8], [0, 8]],
        [[8, 1], [8, 1]],
        [[0, 8], [1, 8]],
    ]


def test_ranks_are_the_places_of_what_is_predicted() -> None:
    train, labels, val, true = drawn()
    ranks = knn_ranks(train, labels, val, true, KS)
    predicted = knn_predict(train, labels, val, KS, top=CLASSES)
    places = (predicted == true[:, None]).int()
    found = places.amax(dim=2) > 0
    assert torch.equal(ranks[found], places.argmax(dim=2)[found])
    assert bool((ranks[~found] == CLASSES - 1).all()) and not bool(found.all())


def test_lengths_do_not_matter_and_zeros_are_like_nothing() -> None:
    train, labels, val, _ = drawn()
    whole = knn_predict(train, labels, val, KS)
    lengths = torch.tensor([1e-30, 1e30])[torch.arange(len(train)) % 2, None]
    assert torch.equal(knn_predict(train * lengths, labels, val * 1e25, KS), whole)
    found = find_neighbours(torch.cat([SIGNS, torch.zeros(1, 4)]), torch.arange(5), SIGNS[:1], 5)
    assert found.labels.tolist() == [[0, 1, 2, 4, 3]]
    assert found.similarities.tolist() == [[1.0, 0.5, 0.0, 0.0, -1.0]]


def test_no_val_pictures_have_no_ranks() -> None:
    train, labels, val, true = drawn()
    assert knn_predict(train, labels, val[:0], KS).shape == (4, 0, 5)
    assert knn_ranks(train, labels, val[:0], true[:0], KS).shape == (4, 0)


def test_nearest_rows_are_those_of_a_plain_search() -> None:
    train, _, val, _ = drawn()
    similar = F.normalize(val.double()) @ F.normalize(train.double()).T
    expected, order = similar.sort(dim=1, descending=True)
    values, indices = nearest_rows(train, val, 7, query_chunk=40, bank_chunk=64)
    assert torch.equal(indices, order[:, :7])
    torch.testing.assert_close(values.double(), expected[:, :7], rtol=0, atol=1e-6)


def test_stopping_between_chunks() -> None:
    train, _, val, _ = drawn()
    calls = 0

    def check_stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest_rows(train, val, 3, query_chunk=40, bank_chunk=150, check_stop=check_stop)
    assert calls == 5


@pytest.mark.parametrize("ks", [[], [0], [-1], [20, 301]])
def test_impossible_numbers_of_neighbours(ks: list[int]) -> None:
    train, labels, val, _ = drawn()
    with pytest.raises(ConfigError, match="neighbours"):
        knn_predict(train, labels, val, ks)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_temperatures(temperature: float) -> None:
    train, labels, val, _ = drawn()
    with pytest.raises(ConfigError, match="temperature"):
        knn_predict(train, labels, val, [5], temperature=temperature)


def test_features_of_other_widths_or_not_finite() -> None:
    train, labels, val, _ = drawn()
    with pytest.raises(ConfigError, match="24 channels and of 23"):
        knn_predict(train, labels, val[:, 1:], [5])
    val[3, 3] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        knn_predict(train, labels, val, [5])
