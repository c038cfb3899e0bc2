from pathlib import Path

import pytest

from vicregl_bench.batch.roots import Roots, read_roots
from vicregl_bench.errors import ConfigError


def roots(folder: Path, text: str) -> Roots:
    path = folder / "data.yaml"
    path.write_text(text)
    return read_roots(path)


def test_a_tasks_own_name_goes_before_its_data_sets(tmp_path: Path) -> None:
    found = roots(tmp_path, "roots: {voc: voc, voc_linear_ft: /fast/voc}")
    assert found.folder("voc_linear", "voc") == tmp_path / "voc"
    assert found.folder("voc_linear_ft", "voc") == Path("/fast/voc")
    assert found.folder("cityscapes_linear", "cityscapes") is None


def test_settings_may_be_nested(tmp_path: Path) -> None:
    text = "roots: {voc: v}\nsettings:\n  voc_linear: {schedule.iters: 2, sweep: {lrs: [0.1]}}"
    assert roots(tmp_path, text).settings == {
        "voc_linear": {"schedule.iters": 2, "sweep.lrs": [0.1]}
    }
    assert roots(tmp_path, "roots: {voc: v}").settings == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("roots: {cityscape: c}", "roots.cityscape: no data set or task .* did you mean citysc"),
        ("roots: {voc: v}\nsettings: {voc_liner: {}}", "settings.voc_liner: .* did you mean voc_l"),
        ("roots: {voc: v}\nsettings: {voc: {}}", "settings.voc: no task"),
        ("roots: {}", "roots: "),
        ("roots: {voc: v, voc: w}", "'voc' stands twice"),
        ("roots: {voc: 3}", "roots.voc: "),
        ("root: {voc: v}", "roots: it is missing"),
        ("roots: {voc: v}\nmore: 1", "more: there is no such key"),
        ("voc", "holds no mapping"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        roots(tmp_path, text)
