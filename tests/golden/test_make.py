"""Golden files can be made anew, and hold what those in the repository hold."""

import json
from pathlib import Path

import pytest

from tests.golden.make import golden_files, make
from tests.tasks.test_protocol import GOLDEN


@pytest.mark.parametrize("name", ["folder_knn", "voc_linear", "voc_fcn", "voc_det_frcnn_c4"])
def test_they_are_those_that_are_there(name: str, tmp_path: Path) -> None:
    made = make(name, tmp_path)
    assert {path.name for path in made} == {path.name for path in GOLDEN.glob(f"{name}-v*.json")}
    for path in made:
        assert json.loads(path.read_text()) == json.loads((GOLDEN / path.name).read_text())


def test_another_version_goes_and_another_number_needs_one(tmp_path: Path) -> None:
    old, other = tmp_path / "folder_knn-v0-ci.json", tmp_path / "folder_knn_two-v0-ci.json"
    for path in (old, other):
        path.write_text("{}")
    first, *_ = make("folder_knn", tmp_path)
    assert not old.exists() and other.exists()
    changed = json.loads(first.read_text()) | {"backbone": {"output_stride": 8}}
    first.write_text(json.dumps(changed))
    with pytest.raises(SystemExit, match="raise `version`"):
        make("folder_knn", tmp_path)
    assert json.loads(first.read_text()) == changed
    assert first.name in dict(golden_files("folder_knn"))
