import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from vicregl_bench.data import AnnotationError, DetectionData, Picture, list_sha256
from vicregl_bench.data.detection import box_outside, seeded_share, shared_names
from vicregl_bench.errors import DataError


def pictures(count: int) -> tuple[Picture, ...]:
    return tuple(
        Picture(f"{i:012d}", i, Path(f"{i}.jpg"), Path("all.json")) for i in range(1, count + 1)
    )


def test_share_is_the_first_by_hash() -> None:
    chosen = seeded_share(pictures(100), 5, seed=3)
    ranked = sorted(range(1, 101), key=lambda i: hashlib.sha256(f"3:{i}".encode()).hexdigest())
    assert [picture.id for picture in chosen] == sorted(ranked[:5])


def test_share_is_the_same_everywhere() -> None:
    # computed once; another value means another list in published results
    assert [picture.id for picture in seeded_share(pictures(200), 2)] == [15, 44, 46, 87]
    assert list_sha256(seeded_share(pictures(200), 2)) == (
        "d29a44eb051842174bce77d1ad52a8befdd3b215aff95a72c0495402a4937ede"
    )


def test_smaller_shares_lie_in_larger_ones() -> None:
    shares = [set(seeded_share(pictures(1_000), percent)) for percent in (1, 2, 5, 10)]
    assert [len(share) for share in shares] == [10, 20, 50, 100]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert set(seeded_share(pictures(1_000), 10, seed=1)) != shares[3]
    assert len(seeded_share(pictures(3), 1)) == 1


def test_list_sha256_follows_names_not_order() -> None:
    some = pictures(3)
    text = "000000000001\n000000000002\n000000000003\n"
    assert list_sha256(some) == hashlib.sha256(text.encode()).hexdigest()
    assert list_sha256(some[::-1]) == list_sha256(some)
    assert list_sha256(some[:2]) != list_sha256(some)


@pytest.mark.parametrize(
    ("box", "outside"),
    [
        ((1, 1, 80, 64), "no"),
        ((0, 1, 80, 64), "rounding"),
        ((1, 1, 81, 64), "rounding"),
        ((1, 1, 80, 66), "yes"),
        ((-1, 1, 80, 64), "yes"),
    ],
)
def test_box_outside(box: tuple[int, ...], outside: str) -> None:
    assert box_outside(box, 1, 80, 64) == outside


def test_shared_names() -> None:
    a, b, c = pictures(3)
    assert list(shared_names((a, b), (b, c))) == [b]
    assert list(shared_names((a,), (replace(b, name=a.name),)))
    assert list(shared_names((a,), (replace(b, id=a.id),)))


def test_errors_of_annotations_are_data_errors(voc_boxes: DetectionData) -> None:
    picture = voc_boxes.train[0]
    picture.annotation.unlink()
    with pytest.raises(AnnotationError, match=f"{picture.name}.xml: the annotation is missing"):
        voc_boxes.annotations(picture)
    assert issubclass(AnnotationError, DataError)


def test_annotations_of_all_pictures(voc_boxes: DetectionData, coco: DetectionData) -> None:
    for dataset in (voc_boxes, coco):
        for items in dataset.splits.values():
            for picture in items:
                found = dataset.annotations(picture)
                count = len(found.labels)
                assert count > 0
                assert found.boxes.shape == (count, 4)
                assert (found.width, found.height) == (80, 64)
                for flags in (found.difficult, found.truncated, found.crowd, found.ignored):
                    assert flags.shape == (count,)
                assert ((found.boxes[:, 2:] - found.boxes[:, :2]) > 0).all()
