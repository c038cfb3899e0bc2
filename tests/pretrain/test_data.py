from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from pretrain.augment import NORMALISATION, ViewMaker, ViewSpec
from pretrain.data import StreamSampler, ViewStream, make_loader, normalise, stack
from pretrain.pictures import PictureList, list_pictures, read_picture
from vicregl_bench.errors import DataError


def take(sampler: StreamSampler, count: int) -> list[tuple[int, int]]:
    return list(islice(sampler, count))


def processes(monkeypatch: pytest.MonkeyPatch, number: int, of: int) -> None:
    monkeypatch.setattr("pretrain.data.rank", lambda: number)
    monkeypatch.setattr("pretrain.data.world_size", lambda: of)


def view_maker() -> ViewMaker:
    return ViewMaker(ViewSpec(32, (0.3, 1.0), 2), ViewSpec(16, (0.1, 0.3), 3))


def test_epochs_are_permutations_cut_to_whole_batches() -> None:
    sampler = StreamSampler(11, batch=4, seed=0)
    assert (sampler.steps_per_epoch, sampler.own, len(sampler)) == (2, 4, 8)
    pairs = take(sampler, 40)
    assert [position for position, _ in pairs] == list(range(40))
    epochs = [[index for _, index in pairs[k : k + 8]] for k in range(0, 40, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 8 and set(epoch) <= set(range(11))
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert set().union(*epochs) == set(range(11))  # what an epoch leaves out, another has


def test_order_is_known() -> None:
    """So that a run goes on after an update as it began."""
    assert [index for _, index in take(StreamSampler(8, batch=4, seed=0), 16)] == [
        *[2, 4, 3, 6, 5, 0, 1, 7],
        *[1, 3, 7, 6, 0, 4, 2, 5],
    ]


def test_order_depends_on_the_seed_alone() -> None:
    first = take(StreamSampler(50, 10, seed=1), 100)
    assert first == take(StreamSampler(50, 10, seed=1), 100)
    assert first != take(StreamSampler(50, 10, seed=2), 100)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 7])
def test_skipping_goes_on_where_it_would_be(steps: int) -> None:
    sampler = StreamSampler(11, batch=4, seed=3)
    sampler.skip(steps * sampler.own)
    assert take(sampler, 20) == take(StreamSampler(11, batch=4, seed=3), 100)[4 * steps :][:20]


def test_processes_share_the_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = take(StreamSampler(26, batch=8, seed=4), 48)
    parts = []
    for number in range(2):
        processes(monkeypatch, number, 2)
        sampler = StreamSampler(26, batch=8, seed=4)
        assert (sampler.own, len(sampler)) == (4, 12)
        parts.append(take(sampler, 24))
        sampler.skip(5 * 4)
        assert take(sampler, 4) == parts[-1][20:]
    together = [pair for s in range(0, 24, 4) for part in parts for pair in part[s : s + 4]]
    assert together == whole


def test_views_of_a_position_are_its_own(pictures: Path) -> None:
    stream = ViewStream(list_pictures(pictures), view_maker(), seed=0)
    assert len(stream) == 20
    first, again, later = stream[(5, 3)], stream[(5, 3)], stream[(6, 3)]
    assert first["large"].shape == (2, 3, 32, 32) and first["small"].shape == (3, 3, 16, 16)
    for key in ("large", "small", "crops"):
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], later[key])
    other = ViewStream(stream.pictures, view_maker(), seed=1)[(5, 3)]
    assert not torch.equal(first["crops"], other["crops"])
    assert first["unreadable"] == []


def test_views_are_of_the_picture_named(pictures: Path) -> None:
    listed = list_pictures(pictures)
    seen = []

    def record(picture: torch.Tensor, seed: int) -> Any:
        seen.append(picture)
        return view_maker()(picture, seed)

    ViewStream(listed, record, seed=0)[(0, 7)]  # type: ignore[arg-type]
    assert torch.equal(seen[0], read_picture(pictures / listed.names[7]))


def test_an_unreadable_picture_is_replaced_by_the_next(pictures: Path) -> None:
    listed = list_pictures(pictures)
    stream = ViewStream(listed, view_maker(), seed=0)
    expected, wrapped = stream[(9, 5)], stream[(9, 0)]
    for k in (3, 4, 19):
        (pictures / listed.names[k]).write_bytes(b"no picture")
    sample = stream[(9, 3)]
    assert sample["unreadable"] == [listed.names[3], listed.names[4]]
    assert torch.equal(sample["large"], expected["large"])
    assert torch.equal(stream[(9, 19)]["large"], wrapped["large"])  # the list is a ring


def test_nothing_left_to_read(tmp_path: Path) -> None:
    stream = ViewStream(PictureList(tmp_path, ("a.jpg", "b.jpg")), view_maker(), seed=0)
    with pytest.raises(DataError, match="2 pictures on end cannot be read"):
        stream[(0, 1)]


def test_stack_puts_views_first(pictures: Path) -> None:
    stream = ViewStream(list_pictures(pictures), view_maker(), seed=0)
    samples = [stream[(k, k)] for k in range(4)]
    samples[1]["unreadable"], samples[3]["unreadable"] = ["b", "a"], ["b"]
    batch = stack(samples)
    assert batch["large"].shape == (2, 4, 3, 32, 32)
    assert batch["small"].shape == (3, 4, 3, 16, 16)
    assert batch["crops"].shape == (5, 4, 5)
    for k, sample in enumerate(samples):
        assert torch.equal(batch["large"][:, k], sample["large"])
        assert torch.equal(batch["small"][:, k], sample["small"])
        assert torch.equal(batch["crops"][:, k], sample["crops"])
    assert batch["unreadable"] == ["a", "b"]
    for sample in samples:
        sample["small"] = None
    assert stack(samples)["small"] is None


def test_workers_do_not_change_the_stream(pictures: Path) -> None:
    listed = list_pictures(pictures)
    (pictures / listed.names[2]).write_bytes(b"no picture")
    batches = []
    for workers in (0, 2):
        stream = ViewStream(listed, view_maker(), seed=7)
        loader = make_loader(stream, batch=8, seed=7, workers=workers, pin=False)
        assert len(loader) == 2
        batches.append(list(islice(loader, 5)))
    assert any(batch["unreadable"] for batch in batches[0])
    for one, other in zip(*batches, strict=True):
        for key in ("large", "small", "crops"):
            assert torch.equal(one[key], other[key])
        assert one["unreadable"] == other["unreadable"]


def test_processes_together_load_the_batch_of_one(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> dict[str, Any]:
        stream = ViewStream(list_pictures(pictures), view_maker(), seed=7)
        loader = make_loader(stream, batch=8, seed=7, workers=0, pin=False)
        return next(islice(loader, 2, 3))

    whole, parts = load(), []
    for number in range(2):
        processes(monkeypatch, number, 2)
        parts.append(load())
    for key in ("large", "small", "crops"):
        assert torch.equal(whole[key], torch.cat([part[key] for part in parts], dim=1))


@pytest.mark.parametrize("name", NORMALISATION)
def test_normalise_is_torchvisions(name: str) -> None:
    mean, std = NORMALISATION[name]
    views = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(2, 3, 3, -1, -1)
    expected = tvf.normalize(tvf.to_dtype(views, torch.float32, scale=True), mean, std)
    found = normalise(views, mean, std)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert views[0, 0, 0, 15, 15] == 255  # the input is left alone
