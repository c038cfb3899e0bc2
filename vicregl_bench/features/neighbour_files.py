"""Nearest neighbours of stored features, searched by several processes together and kept."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vicregl_bench.digest import json_sha256
from vicregl_bench.engine.reporter import Reporter
from vicregl_bench.errors import RecordError
from vicregl_bench.features.checksums import Checksums
from vicregl_bench.features.knn import QUERY_CHUNK, nearest_rows
from vicregl_bench.features.shards import Features
from vicregl_bench.features.shared_files import Made, make_together, when_changed

# Raised whenever our code searches or stores neighbours otherwise: older ones no longer count.
NEIGHBOUR_VERSION = 1


def search_together(
    folder: Path,
    bank: Features,
    queries: Features,
    k: int,
    *,
    device: torch.device,
    reporter: Reporter,
    check_stop: Callable[[], None] = lambda: None,
    chunk: int = QUERY_CHUNK,
) -> tuple[Tensor, Tensor]:
    """`knn.nearest_rows` of features in a `FeatureCache`, shared by all that ask for the same.

    Each process takes a chunk of queries at a time, and all end with all of them, bit for bit those
    of one process. Every chunk is kept, held against its checksum when it is used again.

    Args:
        folder: of the cache; each search has a folder of its own in it.
        bank: features (N, D) of the cache.
        queries: features (Q, D) of the cache.
        k: how many.
        device: where similarities are computed.
        reporter: told of the queries that are done, and of files computed anew.
        check_stop: called between parts and while waiting; raises where the run is to stop.
        chunk: queries a file.

    Returns:
        Similarities (Q, k) float32 and the rows' indices (Q, k), on the CPU.

    Raises:
        ConfigError: a k below 1 or above N.
        CheckpointError: features that are not finite.
        RecordError: the folder cannot be written, or a file went away.
    """
    identity = {
        "neighbour_version": NEIGHBOUR_VERSION,
        "bank": _key(bank),
        "queries": _key(queries),
        "k": k,
        "chunk": chunk,
        "device": device.type,
        "torch": torch.__version__,
    }
    index = Checksums(folder / json_sha256(identity), identity, reporter.warn)
    parts = {
        f"{number:06d}.npy": slice(first, min(len(queries), first + chunk))
        for number, first in enumerate(range(0, len(queries), chunk))
    }
    update = when_changed(reporter.stage("neighbours", len(queries)))

    def make(names: Sequence[str]) -> Made:
        for name in names:
            found = nearest_rows(
                bank, queries[parts[name]], k, device=device, check_stop=check_stop
            )
            yield name, _encode(*found)

    def report() -> None:
        update(sum(parts[name].stop - parts[name].start for name in index.verified))

    make_together(index, tuple(parts), make, report=report, check_stop=check_stop)
    similarities, rows = zip(*(_decode(index.folder / name) for name in parts), strict=True)
    return torch.cat(similarities), torch.cat(rows)


def _key(features: Features) -> str:
    """Under which the cache keeps them: its folders are named so."""
    return features.paths[0].parent.name


def _encode(similarities: Tensor, rows: Tensor) -> bytes:
    shape = (similarities.shape[1],)
    stored = np.empty(
        len(similarities), dtype=[("similarity", "<f4", shape), ("row", "<i8", shape)]
    )
    stored["similarity"], stored["row"] = similarities.numpy(), rows.numpy()
    buffer = io.BytesIO()
    np.save(buffer, stored, allow_pickle=False)
    return buffer.getvalue()


def _decode(path: Path) -> tuple[Tensor, Tensor]:
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordError(
            f"stored neighbours {path} went away or broke: run the same again"
        ) from error
    return (
        torch.from_numpy(np.array(stored["similarity"])),
        torch.from_numpy(np.array(stored["row"])),
    )
