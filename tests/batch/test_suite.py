"""Suites: what is read, what is refused, and the jobs that come out."""

import contextlib
from pathlib import Path

import pytest
import torch

from vicregl_bench.batch.suite import (
    chosen_weights,
    read_as,
    read_suite,
    require_possible_suite,
    require_weights,
    suite_jobs,
)
from vicregl_bench.batch.weights import Weights, WeightsGiven
from vicregl_bench.data import (
    CLASSIFICATION_SETS,
    DETECTION_SETS,
    MAKERS,
    MULTI_LABEL_SETS,
    SEGMENTATION_SETS,
    read_classification,
    read_detection,
    read_multi_label,
    read_segmentation,
)
from vicregl_bench.errors import CheckpointError, ConfigError, DataError

ROOT = Path(__file__).parents[2]
TEXT = """
checkpoint: {ckpt: weights/a.pth, arch: resnet50_v1, trust_pickle: true}
tolerance: 1.5
data:
  real: {root: pictures}
  made: {generate: {kind: folder, train: 12, val: 6, seed: 3}}
tasks:
  - {task: voc_dense_knn, data: real}
  - task: folder_knn
    name: knn
    data: made
    profile: paper
    select: holdout
    tolerance: 0
    set: {knn.ks: [5]}
"""


def write(folder: Path, text: str = TEXT) -> Path:
    path = folder / "ci" / "suite.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file_and_names_default_to_tasks(tmp_path: Path) -> None:
    suite = read_suite(write(tmp_path))
    assert suite.checkpoint.ckpt == str(tmp_path / "ci/weights/a.pth")
    assert suite.data["real"].root == tmp_path / "ci/pictures"
    assert [row.name for row in suite.tasks] == ["voc_dense_knn", "knn"]
    assert [row.profile for row in suite.tasks] == ["ci", "paper"]
    assert [suite.tolerance_of(row) for row in suite.tasks] == [1.5, 0.0]
    random = read_suite(write(tmp_path, TEXT.replace("weights/a.pth", "random:resnet18")))
    assert random.checkpoint.ckpt == "random:resnet18"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = TEXT.replace("weights/a.pth", "~/a.pth").replace("root: pictures", "root: ~/pictures")
    suite = read_suite(write(tmp_path, text))
    assert suite.checkpoint.ckpt == str(tmp_path / "home/a.pth")
    assert suite.data["real"].root == tmp_path / "home/pictures"


def test_jobs_are_the_commands_of_run_and_pictures_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "ci/weights").mkdir(parents=True)
    (tmp_path / "ci/weights/a.pth").touch()
    suite, out = read_suite(write(tmp_path)), tmp_path / "out"
    weights = chosen_weights(suite, WeightsGiven())
    jobs = suite_jobs(suite, weights, out, {"device": "cpu"})
    made = out / "data/folder-12-6-seed3"
    assert jobs["knn"].arguments() == [
        *("run", "--ckpt", str(tmp_path / "ci/weights/a.pth"), "--arch", "resnet50_v1"),
        *("--trust-pickle", "--task", "folder_knn", "--data-root", str(made)),
        *("--profile", "paper", "--out", str(out), "--select", "holdout", "--device", "cpu"),
        *("--set", "knn.ks=[5]"),
    ]
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.png")}
    assert len(times) == 18
    forced = suite_jobs(suite, weights, out, force=True)
    assert [job.arguments()[-1] for job in forced.values()] == ["--force", "--force"]
    assert suite_jobs(suite, weights, out)["knn"].data_root == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.png")} == times
    other = read_suite(write(tmp_path, TEXT.replace("val: 6", "val: 7")))
    assert suite_jobs(other, weights, out)["knn"].data_root != made


def test_what_the_command_line_gives_wins_and_trust_is_of_one_file(tmp_path: Path) -> None:
    other = tmp_path / "b.pth"
    other.touch()
    suite = read_suite(write(tmp_path))
    weights = chosen_weights(suite, WeightsGiven(ckpt=str(other), method="vicregl"))
    assert (weights.ckpt, weights.arch, weights.method) == (str(other), "resnet50_v1", "vicregl")
    assert not weights.trust_pickle
    with pytest.raises(ConfigError, match=r"no checkpoint file .*ci/weights/a\.pth"):
        chosen_weights(suite, WeightsGiven())
    none = read_suite(write(tmp_path, TEXT.replace("ckpt: weights/a.pth, ", "")))
    with pytest.raises(ConfigError, match="no checkpoint: give --ckpt"):
        chosen_weights(none, WeightsGiven())
    assert chosen_weights(none, WeightsGiven(ckpt=str(other))).trust_pickle is False


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("task: folder_knn", "tsk: folder_knn", r"tasks\[1\]\.task: it is missing"),
        ("profile: paper", "profile: full", r"tasks\[1\]\.profile: Input should be 'paper' or"),
        ("select: holdout", "selekt: x", r"tasks\[1\]\.selekt: there is no such key here"),
        (
            "name: knn",
            "name: voc_dense_knn",
            r"suite\.yaml, tasks\[1\]\.name: 'voc_dense_knn' is taken",
        ),
        ("name: knn", "name: ''", r"tasks\[1\]\.name: it is empty"),
        ("data: made", "data: mad", r"tasks\[1\]\.data: nothing is called 'mad' .* there: made"),
        ("tolerance: 0\n", "tolerance: -1\n", r"tasks\[1\]\.tolerance: .*greater than or equal"),
        ("tolerance: 1.5", "tolerance: .inf", r"tolerance: .*finite"),
        ("kind: folder", "kind: foldr", r"data\.made\.generate\.kind: no layout 'foldr'; use voc,"),
        ("train: 12", "train: 5", r"data\.made\.generate\.train: folder needs at least 6"),
        ("{root: pictures}", "{}", r"data\.real: give root"),
        ("  real: {", "  made: {", r"'made' stands twice, again in line 6"),
        ("tasks:", "tasks: []\nrest:", r"tasks: it needs at least one entry"),
        ("data:\n", "data: [\n", r"cannot be read as YAML"),
        (TEXT, "just words", r"holds no mapping"),
        (TEXT, "[]", r"holds no mapping"),
        (TEXT, "", r"holds no mapping"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    old: str, new: str, text: str, tmp_path: Path
) -> None:
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=text) as caught:
        read_suite(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        read_suite(tmp_path / "none.yaml")


def test_merge_keys_of_yaml_work(tmp_path: Path) -> None:
    text = TEXT.replace("{task: voc_dense_knn, data: real}", "&one {task: folder_knn, data: made}")
    suite = read_suite(write(tmp_path, text + "  - {<<: *one, name: again}\n"))
    assert [row.name for row in suite.tasks] == ["folder_knn", "knn", "again"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("task: folder_knn", "task: folder_knm", r"tasks\[1\] \(knn\): no task 'folder_knm'"),
        ("knn.ks: [5]", "knn.k: 5", r"tasks\[1\] \(knn\): no setting 'knn.k'"),
        ("knn.ks: [5]", "knn.ks: []", r"tasks\[1\] \(knn\): setting knn.ks"),
        ("{root: pictures}", "{root: gone}", r"data\.real\.root: no folder .*ci/gone"),
        ("kind: folder", "kind: voc", r"\(knn\): folder_knn reads folder, .* kind folder$"),
        ("kind: folder", "kind: voc_boxes", r"data\.made is made as voc_boxes"),
        ("task: folder_knn", "task: cub200_knn", r"reads cub200, .* cannot be made up"),
    ],
)
def test_what_cannot_run_is_found_before_anything_runs(
    old: str, new: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "ci/pictures").mkdir(parents=True)
    path = write(tmp_path)
    require_possible_suite(path, read_suite(path))
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=text):
        require_possible_suite(path, read_suite(path))


def test_every_layout_is_read_as_what_is_said(tmp_path: Path) -> None:
    readers = [
        (SEGMENTATION_SETS, read_segmentation),
        (DETECTION_SETS, read_detection),
        (CLASSIFICATION_SETS, read_classification),
        (MULTI_LABEL_SETS, read_multi_label),
    ]
    for kind, make in MAKERS.items():
        root = make(tmp_path / kind, train=6, val=2, seed=0)
        found = []
        for names, read in readers:
            for name in names:
                with contextlib.suppress(DataError):
                    read(name, root)
                    found.append(name)
        assert set(found) == set(read_as(kind)), kind


def test_the_words_for_no_mapping_hold_a_suite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_suite(write(tmp_path, ""))
    example = str(caught.value).split("`")[1]
    suite = read_suite(write(tmp_path, example))
    require_possible_suite(tmp_path, suite)


def test_the_checkpoint_is_read_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace("task: voc_dense_knn", "task: voc_fcn"))
    suite = read_suite(path)
    require_weights(path, suite, Weights(ckpt="random:resnet18x0.25"))
    with pytest.raises(ConfigError, match=r"tasks\[0\] \(voc_fcn\): .* not vit"):
        require_weights(path, suite, Weights(ckpt="random:vit_tiny_patch16"))
    state = dict(Weights(ckpt="random:resnet18x0.25").read().state_dict)
    file = tmp_path / "a.pth"
    given = Weights(ckpt=str(file), arch="resnet18x0.25")
    torch.save(state, file)
    require_weights(path, suite, given)
    torch.save(state | {"conv1.weight": state["conv1.weight"] * float("nan")}, file)
    with pytest.raises(CheckpointError, match="NaN"):
        require_weights(path, suite, given)
    torch.save({key: value for key, value in state.items() if "layer4" not in key}, file)
    with pytest.raises(CheckpointError):
        require_weights(path, suite, given)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError):
        require_weights(path, suite, given)


def test_the_example_is_a_suite() -> None:
    path = ROOT / "examples" / "suite.yaml"
    suite = read_suite(path)
    require_possible_suite(path, suite)
    assert all(one.generate is not None for one in suite.data.values())  # runs anywhere
