"""`regress` from the command line: real runs on sound and damaged weights, every exit code."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from junitparser import JUnitXml
from junitparser.xunit2 import TestSuite as Suite
from PIL import Image

from tests.batch.test_baseline import record_of
from tests.running import run_here
from vicregl_bench.backbones.source import read_backbone
from vicregl_bench.batch import guard
from vicregl_bench.batch.job import Job, JobOutcome
from vicregl_bench.cli.main import _guarded, app
from vicregl_bench.errors import RunInterruptedError
from vicregl_bench.records import Record

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "regression.md"
WORKFLOW = ROOT / "docs" / "workflows" / "regress.yml"
Captured = pytest.CaptureFixture[str]
SUITE = """
checkpoint: {ckpt: sound.pth, arch: resnet18x0.25}
data: {colours: {root: colours}}
tasks:
  - task: folder_knn
    name: colours
    data: colours
    set: {data.crop: 32, data.resize: [32, 32], knn.ks: [3]}
"""


def coloured(root: Path) -> None:
    """Four classes that differ in colour, which any convolution keeps: 4 train, 3 val each."""
    draw = np.random.default_rng(0)
    for label, colour in enumerate([(220, 30, 30), (30, 220, 30), (30, 30, 220), (200, 200, 200)]):
        for split, count in (("train", 4), ("val", 3)):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                noise = draw.integers(-20, 20, (40, 40, 3))
                pixels = (np.array(colour) + noise).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}{number}.png")


def weights(folder: Path) -> None:
    """A sound checkpoint, and a copy whose last stage gives the same vector for every picture."""
    sound = dict(read_backbone("random:resnet18x0.25").state_dict)
    torch.save(sound, folder / "sound.pth")
    damaged = {key: value.clone() for key, value in sound.items()}
    for norm in ("layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn2"):
        damaged[f"{norm}.weight"].zero_()
        damaged[f"{norm}.bias"].fill_(1.0)
    torch.save(damaged, folder / "damaged.pth")


def test_a_sound_checkpoint_passes_and_a_damaged_one_fails(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    coloured(tmp_path / "colours")
    weights(tmp_path)
    Path("suite.yaml").write_text(SUITE)
    words = ["regress", "--suite", "suite.yaml", "--baseline", "baseline.json", "--device", "cpu"]
    assert _guarded([*words, "--update"]) == 0
    assert "baseline written" in capsys.readouterr().out
    accepted = Path("baseline.json").read_bytes()
    assert json.loads(accepted)["tasks"]["colours"]["score"] == 100.0

    # the first run was a process of its own, as all are; that is seen, and takes long
    monkeypatch.setattr(guard, "run_job", run_here)
    assert _guarded([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["status"], row["difference"]) == ("ok", 0.0)

    assert _guarded([*words, "--ckpt", "damaged.pth", "--junit", "ci/junit.xml"]) == 1
    printed = capsys.readouterr()
    # one vector for all pictures: one class of four is guessed for all
    assert re.search(r"colours .* 25\.00 .* 100\.00 .* -75\.00 .* fell", printed.out)
    assert "1 of 1 failed: colours" in printed.out
    (suite,) = [Suite.fromelem(one) for one in JUnitXml.fromfile("ci/junit.xml")]
    (case,) = suite
    assert (suite.failures, suite.errors) == (1, 0)
    assert case.result[0].message.startswith("top1 fell by 75.00, from 100.00 to 25.00")
    assert Path("baseline.json").read_bytes() == accepted


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A suite of two rows, whose runs `leave` settles; the command without its options."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    Path("suite.yaml").write_text(
        "checkpoint: {ckpt: 'random:resnet18'}\n"
        "data: {pictures: {root: pictures}}\n"
        "tasks:\n"
        "  - {task: voc_linear, data: pictures, name: one}\n"
        "  - {task: voc_linear, data: pictures, name: 'two | 2'}\n"
    )
    return ["regress", "--suite", "suite.yaml", "--baseline", "ci/baseline.json"]


def leave(monkeypatch: pytest.MonkeyPatch, *records: Record | Exception | None) -> None:
    left = list(records)

    def run(job: Job) -> JobOutcome:
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return JobOutcome(0 if one else 2, one, Path("r.json") if one else None, "no weights")

    monkeypatch.setattr(guard, "run_job", run)


def scored(score: float) -> Record:
    best = {"score": score, "interval": (score - 1, score + 1)}
    return record_of(created="2999-01-01T00:00:00+00:00", best=best)


def accepted(path: str = "ci/baseline.json") -> dict[str, float]:
    tasks: dict[str, Any] = json.loads(Path(path).read_text())["tasks"]
    return {name: entry["score"] for name, entry in tasks.items()}


def test_update_writes_what_was_measured_and_prints_old_and_new(
    suite: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, scored(50), scored(60))
    assert _guarded([*suite, "--update"]) == 0
    assert accepted() == {"one": 50.0, "two | 2": 60.0}
    capsys.readouterr()
    leave(monkeypatch, scored(40), scored(60))
    assert _guarded(suite) == 1
    assert accepted()["one"] == 50.0
    assert "one: miou fell by 10.00" in capsys.readouterr().out
    leave(monkeypatch, scored(40), scored(70))
    assert _guarded([*suite, "--update"]) == 0
    assert accepted() == {"one": 40.0, "two | 2": 70.0}
    printed = capsys.readouterr().out
    assert "one: 50.00 ± 1.00 -> 40.00 ± 1.00" in printed
    assert "two | 2: 60.00 ± 1.00 -> 70.00 ± 1.00" in printed


def test_update_leaves_the_baseline_where_a_row_has_no_score(
    suite: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, scored(50), None)
    assert _guarded([*suite, "--update"]) == 1
    assert not Path("ci/baseline.json").exists()
    printed = capsys.readouterr().out
    assert "two | 2: no weights" in printed
    assert "baseline left as it is: no score of two | 2" in printed


def test_better_is_well_and_new_is_not(
    suite: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, scored(50), scored(60))
    _guarded([*suite, "--update"])
    leave(monkeypatch, scored(55), scored(60))
    assert _guarded(suite) == 0
    assert "one: --update takes the better score" in capsys.readouterr().out
    text = Path("suite.yaml").read_text()
    Path("suite.yaml").write_text(text.replace("name: one", "name: uno"))
    leave(monkeypatch, scored(55), scored(60))
    assert _guarded(suite) == 1
    printed = capsys.readouterr().out
    assert "uno: the baseline has no such row: --update takes it in" in printed
    assert "one: in the baseline, no longer in the suite" in printed


def test_markdown_is_one_table_whatever_the_names(
    suite: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, scored(50), scored(60))
    _guarded([*suite, "--update"])
    capsys.readouterr()
    leave(monkeypatch, scored(50), scored(50))
    assert _guarded([*suite, "--format", "markdown"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2] == "| one | mIoU | 50.00 ± 1.00 | 50.00 ± 1.00 | +0.00 | 1.00 (interval) | ok |"
    assert lines[3].startswith(r"| two \| 2 | mIoU | 50.00 ± 1.00 | 60.00 ± 1.00 | -10.00 |")
    assert lines[4] == "" and all(line.startswith("- ") for line in lines[5:])


def test_what_is_there_is_run_again_where_that_is_asked_for(
    suite: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run(job: Job) -> JobOutcome:
        ran.append(job.force)
        return JobOutcome(0, scored(50), Path("r.json"), "")

    monkeypatch.setattr(guard, "run_job", run)
    assert _guarded([*suite, "--update", "--force"]) == 0
    assert _guarded(suite) == 0
    assert ran == [True, True, False, False]


def test_pictures_that_do_not_fit_stop_before_they_are_made(
    suite: list[str], capsys: Captured
) -> None:
    text = Path("suite.yaml").read_text()
    Path("suite.yaml").write_text(text.replace("root: pictures", "generate: {kind: folder}"))
    assert _guarded([*suite, "--update"]) == 2
    assert "voc_linear reads voc, and data.pictures is made as folder" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_an_interruption_ends_with_130(
    suite: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(monkeypatch, scored(50), RunInterruptedError("interrupted in two"))
    assert _guarded([*suite, "--update", "--junit", "j.xml"]) == 130
    assert not Path("ci/baseline.json").exists() and not Path("j.xml").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ([], "no baseline at ci/baseline.json: --update writes the first one"),
        (["--update", "--suite", "none.yaml"], "cannot read none.yaml: No such file"),
        (["--update", "--ckpt", "none.pth"], "no checkpoint file none.pth"),
        (["--update", "--ckpt", ""], "--ckpt: it is empty"),
        (["--update", "--junit", "./suite.yaml"], "is the suite or the baseline; name another"),
        (["--update", "--junit", "pictures"], "--junit pictures is a folder"),
        (["--update", "--junit", "suite.yaml/j.xml"], "suite.yaml is a file; name a folder"),
        (["--update", "--baseline", "pictures"], "--baseline pictures is a folder"),
        (["--update", "--out", "suite.yaml"], "--out suite.yaml: suite.yaml is a file"),
        (["--baseline", "suite.yaml"], "baseline suite.yaml is damaged or half-written"),
        (["--update", "--ckpt", "suite.yaml"], "suite.yaml"),
        (["--format", "pdf"], "'--format': 'pdf' is not one of text, markdown (--help"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    change: list[str], text: str, suite: list[str], capsys: Captured
) -> None:
    assert _guarded([*suite, *change]) == 2
    printed = capsys.readouterr()
    assert text in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def commands(text: str) -> list[list[str]]:
    """The words of every `vicregl-bench` command of a page or a script, up to a redirection."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    found = [line.partition(">>")[0] for line in lines if line.startswith("vicregl-bench ")]
    return [shlex.split(line)[1:] for line in found]


def test_the_workflow_is_valid_and_its_command_parses() -> None:
    flow = yaml.safe_load(WORKFLOW.read_text())
    assert "pull_request" in flow[True]  # YAML 1.1 reads the key `on` as true
    steps = flow["jobs"]["regress"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    (words,) = commands("\n".join(step.get("run", "") for step in steps))
    context = parsed(words)
    assert str(context["suite"]) == "ci/suite.yaml" and context["form"] == "markdown"
    kept = next(step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert kept["if"] == "always()"  # after a fall above all
    assert str(context["junit"]) in kept["with"]["path"].split()
    assert WORKFLOW.read_text() in PAGE.read_text()


def test_the_page_speaks_of_what_there_is() -> None:
    page = PAGE.read_text()
    found = [words for words in commands(page) if words[0] == "regress"]
    assert len(found) == 3
    assert [parsed(words)["update"] for words in found] == [True, False, False]
    for status in guard.Status:
        assert f"`{status.value}`" in page
    example = re.search(r"```yaml\n(checkpoint:.*?)```", page, re.DOTALL)
    assert example is not None
    from vicregl_bench.batch.suite import Suite as SuiteFile

    suite = SuiteFile.model_validate(yaml.safe_load(example[1]))
    assert [row.name for row in suite.tasks] == ["folder_knn", "linear, short"]


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command; an unknown one raises."""
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    parameters: dict[str, Any] = command.make_context(words[0], words[1:]).params
    return parameters
