import json

from vicregl_bench.checkpoints import Coverage


def make(**changes: object) -> Coverage:
    facts: dict[str, object] = {
        "arch": "resnet18",
        "container": "model",
        "prefix": "module.",
        "matched": ("a", "b"),
        "missing": (),
        "missing_harmless": ("bn.num_batches_tracked",),
        "wrong_shape": (),
        "unexpected": ("fc.weight",),
        "dropped": (("queue", 1),),
    }
    return Coverage(**(facts | changes))  # type: ignore[arg-type]


def test_complete_asks_for_every_tensor_but_counters() -> None:
    assert make().complete
    assert not make(missing=("c",)).complete
    assert not make(wrong_shape=(("c", (1,), (2,)),)).complete


def test_total_counts_what_is_asked_for() -> None:
    assert make(missing=("c",), wrong_shape=(("d", (1,), (2,)),)).total == 4


def test_address() -> None:
    assert make().address == "model.module."
    assert make(container="").address == "module."
    assert make(container="", prefix="").address == ""


def test_dict_is_json() -> None:
    report = json.loads(json.dumps(make(wrong_shape=(("d", (1,), (2, 3)),)).to_dict()))
    assert report["complete"] is False
    assert report["wrong_shape"] == [{"key": "d", "found": [1], "wanted": [2, 3]}]
    assert report["dropped"] == {"queue": 1}
    assert report["missing_harmless"] == ["bn.num_batches_tracked"]
