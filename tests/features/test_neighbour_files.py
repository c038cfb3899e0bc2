"""Neighbours searched together: those of one search, each chunk once, nothing stale or damaged."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.reporter import Silent
from vicregl_bench.errors import ConfigError, RunInterruptedError
from vicregl_bench.features import neighbour_files
from vicregl_bench.features.knn import nearest_rows
from vicregl_bench.features.neighbour_files import search_together
from vicregl_bench.features.shards import Features, encode

QUERIES, CHUNK, K = 22, 5, 4
CPU = torch.device("cpu")


def features(folder: Path, rows: int, seed: int) -> Features:
    """As a cache keeps them: the folder's name is their key."""
    folder.mkdir(parents=True)
    vectors = torch.randn(rows, 12, generator=torch.Generator().manual_seed(seed))
    (folder / "000000.npy").write_bytes(encode(vectors))
    return Features([folder / "000000.npy"], rows, rows)


class Bench:
    """A bank, queries, and how many of them were searched here."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "features"
        self.bank = features(self.folder / "bank", 60, 0)
        self.queries = features(self.folder / "queries", QUERIES, 1)
        self.searched: list[int] = []
        self.reporter = Silent()

        def counted(bank: Features, queries: Tensor, k: int, **options: Any) -> Any:
            self.searched.append(len(queries))
            return nearest_rows(bank, queries, k, **options)

        monkeypatch.setattr(neighbour_files, "nearest_rows", counted)

    def search(self, reporter: Silent | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        asked = {"bank": self.bank, "queries": self.queries, "k": K} | options
        return search_together(
            self.folder, device=CPU, reporter=reporter or self.reporter, chunk=CHUNK, **asked
        )

    def stored(self) -> list[Path]:
        """Files of chunks."""
        homes = {path.parent for path in self.folder.glob("*/index.json")}
        return sorted(path for home in homes for path in home.glob("*.npy"))


@pytest.fixture()
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_the_search_is_that_of_one_process_and_done_once(bench: Bench) -> None:
    alone = nearest_rows(bench.bank, bench.queries, K, query_chunk=CHUNK)
    assert same(bench.search(), alone)
    assert bench.searched == [5, 5, 5, 5, 2]
    assert same(bench.search(), alone)
    assert len(bench.searched) == 5


def test_progress_counts_queries(bench: Bench) -> None:
    told: list[int] = []
    bench.search(Silent(lambda name, done: told.append(done)))
    assert told == [0, 5, 10, 15, 20, 22]


def test_what_decides_neighbours_is_part_of_the_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.search()
    for options in (
        {"k": K + 1},
        {"bank": features(bench.folder / "another bank", 60, 2)},
        {"queries": features(bench.folder / "other queries", QUERIES, 3)},
    ):
        before = len(bench.searched)
        found = bench.search(**options)
        assert len(bench.searched) == before + 5
        asked = {"bank": bench.bank, "queries": bench.queries, "k": K} | options
        assert same(found, nearest_rows(**asked, query_chunk=CHUNK))
    monkeypatch.setattr(neighbour_files, "NEIGHBOUR_VERSION", 2)
    before = len(bench.searched)
    bench.search()
    assert len(bench.searched) == before + 5


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_chunk_alone_is_searched_anew(bench: Bench, how: str) -> None:
    whole = bench.search()
    path = next(one for one in bench.stored() if one.name == "000002.npy")
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if how == "cut" else content[:-1] + b"\x7f")
    assert same(bench.search(), whole)
    assert bench.searched[5:] == [5]
    (warning,) = bench.reporter.warnings
    assert "000002.npy is missing or damaged: it is computed anew" in warning


def test_interrupted_and_resumed_is_uninterrupted(bench: Bench) -> None:
    whole = nearest_rows(bench.bank, bench.queries, K, query_chunk=CHUNK)

    def stop() -> None:
        if len(bench.searched) == 3:
            raise RunInterruptedError("stopped")

    with pytest.raises(RunInterruptedError):
        bench.search(check_stop=stop)
    assert len(bench.stored()) == 2  # the third was stopped in its middle
    assert same(bench.search(), whole)
    assert bench.searched[3:] == [5, 5, 2]


def test_two_at_once_share_the_chunks(bench: Bench) -> None:
    """The other begins when one has a chunk, and takes another while that one waits."""
    whole = nearest_rows(bench.bank, bench.queries, K, query_chunk=CHUNK)
    found: list[tuple[Tensor, Tensor]] = []
    taken = threading.Event()
    other = Silent(lambda name, done: taken.set() if done >= 2 * CHUNK else None)
    thread = threading.Thread(target=lambda: found.append(bench.search(other)))

    def wait_for_other(name: str, done: int) -> None:
        if done == CHUNK and not thread.ident:
            thread.start()
            assert taken.wait(60)

    assert same(bench.search(Silent(wait_for_other)), whole)
    thread.join(60)
    assert same(found[0], whole)
    assert sorted(bench.searched) == [2, 5, 5, 5, 5]


def test_more_neighbours_than_vectors_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="61 neighbours are impossible"):
        bench.search(k=61)
