import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.made_record import make_record
from vicregl_bench.backbones.resnet import random_resnet_state
from vicregl_bench.batch.matrix import (
    MatrixCell,
    Options,
    look_again,
    make_matrix,
    profile_cost,
    require_runnable,
    table_tasks,
)
from vicregl_bench.batch.roots import Roots
from vicregl_bench.batch.zoo import Zoo, read_zoo
from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.records import write_record
from vicregl_bench.tasks.protocol import protocol_info

TINY = "random:resnet18x0.25"


def zoo(folder: Path, **ckpts: str) -> Zoo:
    entries = [{"name": name, "ckpt": ckpt} for name, ckpt in ckpts.items()]
    path = folder / "zoo.yaml"
    path.write_text(json.dumps({"checkpoints": entries}))
    return read_zoo(path)


def roots(folder: Path, settings: Any = None, **folders: Path) -> Roots:
    return Roots(folder / "data.yaml", folders, settings or {})


def matrix(
    folder: Path, checkpoints: Zoo, data: Roots, *tasks: str, **options: Any
) -> dict[tuple[str, str], MatrixCell]:
    chosen = Options(folder / "runs", "ci", device="cpu", **options)
    cells = make_matrix(tasks, checkpoints, data, chosen)
    return {(cell.task, cell.entry.name): cell for cell in cells}


@pytest.mark.parametrize(
    ("table", "tasks"),
    [
        ("1", ["imagenet_linear", "voc_linear", "voc_linear_ft", "cityscapes_linear"]),
        ("2", ["imagenet_linear", "voc_linear", "voc_linear_ft", "ade20k_linear"]),
        ("3", ["imagenet_linear", "voc_linear"]),
        ("8", ["voc_fcn", "voc_fcn_ft"]),
        ("9", ["voc_det_frcnn_c4", "voc_det_linear"]),
        ("10", ["coco_semi_maskrcnn"]),
    ],
)
def test_tasks_are_the_tables_columns(table: str, tasks: list[str]) -> None:
    assert table_tasks(table) == tasks


def test_tasks_are_taken_in_the_order_in_which_they_are_named() -> None:
    assert table_tasks("8", ["voc_fcn_ft", "voc_fcn", "voc_fcn_ft"]) == ["voc_fcn_ft", "voc_fcn"]


@pytest.mark.parametrize(
    ("table", "only", "words"),
    [
        ("11", None, "table 11 has nothing that a task measures"),
        ("12", None, "table '12'"),
        ("1", ["voc_liner"], "no 'voc_liner' in table 1, .* did you mean voc_linear"),
        ("1", ["voc_fcn"], "no 'voc_fcn' in table 1"),
        ("1", [], "--tasks names none"),
    ],
)
def test_unknown_tables_and_tasks_are_refused(
    table: str, only: list[str] | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        table_tasks(table, only)


def test_cells_go_task_by_task_and_know_their_run(tiny_voc: Path, tmp_path: Path) -> None:
    data = roots(tmp_path, {"voc_linear": {"schedule.iters": 2}}, voc=tiny_voc)
    two = zoo(tmp_path, a=TINY, b="random:resnet18")
    cells = matrix(tmp_path, two, data, "voc_linear", "cityscapes_linear", select="holdout")
    assert list(cells) == [
        ("voc_linear", "a"),
        ("voc_linear", "b"),
        ("cityscapes_linear", "a"),
        ("cityscapes_linear", "b"),
    ]
    assert {cell.state for cell in cells.values()} == {"missing", "no root"}
    assert cells["cityscapes_linear", "a"].reason == "no root for cityscapes in data.yaml"
    found = cells["voc_linear", "a"]
    assert found.planned is not None and found.job is not None
    plan = found.planned
    assert (plan.arch, plan.iterations, plan.batch) == ("resnet18x0.25", 2, 8)
    assert (plan.train, plan.val, plan.frozen, plan.runs) == (11, 6, True, 1)
    assert found.job.overrides == {"schedule.iters": 2}
    assert found.job.arguments()[-6:] == [
        *("--select", "holdout", "--device", "cpu"),
        *("--set", "schedule.iters=2"),
    ]


def test_runs_of_a_fine_tuned_task_are_its_grid(tiny_voc: Path, tmp_path: Path) -> None:
    data = roots(tmp_path, {"voc_linear_ft": {"sweep.seeds": 3}}, voc=tiny_voc)
    cells = matrix(tmp_path, zoo(tmp_path, a=TINY), data, "voc_linear_ft")
    plan = cells["voc_linear_ft", "a"].planned
    assert plan is not None
    assert (plan.frozen, plan.runs) == (False, 2 * 3)  # profile ci has two learning rates


def test_what_is_there_is_found(tiny_voc: Path, tmp_path: Path) -> None:
    checkpoints, data = zoo(tmp_path, a=TINY), roots(tmp_path, voc=tiny_voc)

    def now() -> MatrixCell:
        return matrix(tmp_path, checkpoints, data, "voc_linear")["voc_linear", "a"]

    begun = now()
    assert begun.planned is not None
    key, out = begun.planned.key, tmp_path / "runs"
    assert begun.state == "missing"

    work = out / "work" / key[:12]
    work.mkdir(parents=True)
    (work / "spent.json").write_text('{"iterations": 7}')  # killed, so there is no record
    assert (now().state, now().done) == ("interrupted", (7, 60))
    progress = {"iterations": 12, "of": 60}
    write_record(out, make_record(key=key, status="interrupted", progress=progress))
    assert (now().state, now().done) == ("interrupted", (12, 60))
    diverged = write_record(out, make_record(key=key, status="diverged", best=None))
    assert now().state == "diverged"
    diverged.unlink()
    write_record(out, make_record(key=key))
    assert now().state == "done"
    assert look_again(begun) == now()
    assert (
        matrix(tmp_path, checkpoints, data, "voc_linear", select="holdout")["voc_linear", "a"].state
        == "missing"
    )


def test_a_damaged_record_is_refused(tiny_voc: Path, tmp_path: Path) -> None:
    checkpoints, data = zoo(tmp_path, a=TINY), roots(tmp_path, voc=tiny_voc)
    begun = matrix(tmp_path, checkpoints, data, "voc_linear")["voc_linear", "a"]
    assert begun.planned is not None
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"x-{begun.planned.key[:12]}.json").write_text("{")
    found = matrix(tmp_path, checkpoints, data, "voc_linear")["voc_linear", "a"]
    assert found.state == "refused" and "half-written" in found.reason
    with pytest.raises(RecordError):
        look_again(begun)


def test_a_task_of_other_backbones_is_impossible(tiny_voc: Path, tmp_path: Path) -> None:
    two = zoo(tmp_path, resnet=TINY, vit="random:vit_small_patch16")
    cells = matrix(tmp_path, two, roots(tmp_path, voc=tiny_voc), "voc_fcn")
    assert cells["voc_fcn", "resnet"].state == "missing"
    assert cells["voc_fcn", "vit"].state == "impossible"
    assert cells["voc_fcn", "vit"].reason == "for resnet, not vit"
    require_runnable(list(cells.values()))


def test_bad_input_is_refused_all_at_once(tiny_voc: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 no more")
    three = zoo(tmp_path, gone="gone.pth", cut="cut.pth", a=TINY)
    data = roots(tmp_path, voc=tiny_voc, cityscapes=tmp_path / "nowhere")
    cells = matrix(tmp_path, three, data, "voc_linear", "cityscapes_linear")
    assert cells["voc_linear", "a"].state == "missing"
    with pytest.raises(ConfigError) as caught:
        require_runnable(list(cells.values()))
    message = str(caught.value)
    assert message.count(f"gone: no file {tmp_path / 'gone.pth'}") == 1  # of two tasks
    assert "cut: " in message
    assert f"no folder {tmp_path / 'nowhere'} for cityscapes" in message


def test_an_empty_data_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    data = roots(tmp_path, voc=tmp_path / "empty")
    found = matrix(tmp_path, zoo(tmp_path, a=TINY), data, "voc_linear")["voc_linear", "a"]
    assert found.state == "refused"
    assert str(tmp_path / "empty") in found.reason


def test_settings_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    data = roots(tmp_path, {"voc_linear": {"schedule.itres": 2}})
    with pytest.raises(ConfigError, match=r"data.yaml, settings.voc_linear: .*schedule.iters"):
        matrix(tmp_path, zoo(tmp_path, gone="gone.pth"), data, "voc_linear")


def test_equal_weights_under_two_names_are_refused(tiny_voc: Path, tmp_path: Path) -> None:
    state = random_resnet_state("resnet18x0.25", seed=3)
    torch.save(state, tmp_path / "a.pth")
    torch.save({"model": state}, tmp_path / "b.pth")  # other bytes
    two = zoo(tmp_path, a="a.pth", b="b.pth")
    with pytest.raises(ConfigError, match="a and b have the same weights"):
        matrix(tmp_path, two, roots(tmp_path, voc=tiny_voc), "voc_linear")


def test_student_and_teacher_of_one_file_are_two_checkpoints(
    tiny_voc: Path, tmp_path: Path
) -> None:
    states = {
        name: random_resnet_state("resnet18x0.25", seed=seed)
        for seed, name in enumerate(("student", "teacher"))
    }
    torch.save(states, tmp_path / "both.pth")
    path = tmp_path / "zoo.yaml"
    entries = [{"name": name, "ckpt": "both.pth", "prefix": name} for name in states]
    path.write_text(json.dumps({"checkpoints": entries}))
    checkpoints = read_zoo(path)
    cells = matrix(tmp_path, checkpoints, roots(tmp_path, voc=tiny_voc), "voc_linear")
    keys = [cell.planned.key for cell in cells.values() if cell.planned is not None]
    assert len(set(keys)) == 2
    for entry in checkpoints.entries:
        source = checkpoints.weights(entry).read()
        about = {"file_sha256": source.file_sha256, "coverage": source.coverage}
        named = checkpoints.named(make_record(checkpoint=about))
        assert named is not None and named.name == entry.name


def test_a_copy_under_another_architecture_is_refused_before_anything_runs(
    tiny_voc: Path, tmp_path: Path
) -> None:
    torch.save(random_resnet_state("resnet18x0.25", seed=3), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    path = tmp_path / "zoo.yaml"
    entries = [{"name": "a", "ckpt": "a.pth"}, {"name": "b", "ckpt": "b.pth", "method": "vicreg"}]
    path.write_text(json.dumps({"checkpoints": entries}))
    with pytest.raises(ConfigError, match="a and b have the same weights"):
        matrix(tmp_path, read_zoo(path), roots(tmp_path, voc=tiny_voc), "voc_linear")


def test_an_unknown_architecture_is_no_zoo_to_run(tmp_path: Path) -> None:
    two = zoo(tmp_path, a="random:resnet51")
    with pytest.raises(ConfigError, match="a: unknown architecture 'resnet51'"):
        matrix(tmp_path, two, roots(tmp_path), "voc_linear")


def test_a_protocols_cost_is_told_by_profile() -> None:
    info = protocol_info("voc_linear")
    assert profile_cost(info, "paper") == "GPU hours"
    assert profile_cost(info, "ci") == "about 3 minutes on 2 CPU cores"
    one = info.model_copy(update={"cost": "seconds"})
    assert profile_cost(one, "ci") == "seconds"
