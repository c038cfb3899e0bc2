from pathlib import Path

import pytest

from tests.made_record import make_record
from vicregl_bench.batch.zoo import Zoo, read_zoo, require_architectures
from vicregl_bench.digest import file_sha256
from vicregl_bench.errors import BenchError, ConfigError
from vicregl_bench.records import Record
from vicregl_bench.tables.named import Named


def zoo(folder: Path, *entries: str) -> Zoo:
    path = folder / "zoo.yaml"
    path.write_text("checkpoints:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries))
    return read_zoo(path)


def record(**changes: object) -> Record:
    return make_record(checkpoint=changes)


def test_an_entry_is_found_by_its_bytes_wherever_they_lay(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    (tmp_path / "b.pth").write_bytes(b"b")
    found = zoo(
        tmp_path,
        "name: first, ckpt: a.pth, row: VICReg, alpha: 1, epochs: 300",
        "name: second, ckpt: ./b.pth",
        "name: gone, ckpt: gone.pth",
    )
    sha = file_sha256(tmp_path / "a.pth")
    named = found.named(record(name="other.pth", file_sha256=sha))
    assert named == Named("first", "VICReg", 1.0, 300)
    assert found.named(record(file_sha256=file_sha256(tmp_path / "b.pth"))) == Named("second")
    assert found.named(record(file_sha256="0" * 64)) is None
    assert [found.missing(one) for one in found.entries][:2] == [None, None]
    assert found.missing(found.entries[2]) == f"gone: no file {tmp_path / 'gone.pth'}"


def test_random_weights_are_found_by_their_architecture(tmp_path: Path) -> None:
    found = zoo(
        tmp_path,
        "name: plain, ckpt: 'random:resnet50'",
        "name: wide, ckpt: 'random:resnet50w2'",  # an alias
        "name: stride first, ckpt: 'random:resnet50', arch: resnet50_v1",
    )
    names = {
        arch: found.named(record(name=f"random:{arch}", arch=arch))
        for arch in ("resnet50", "resnet50x2", "resnet50_v1", "resnet18")
    }
    assert {arch: one and one.name for arch, one in names.items()} == {
        "resnet50": "plain",
        "resnet50x2": "wide",
        "resnet50_v1": "stride first",
        "resnet18": None,
    }


def test_an_entry_with_an_architecture_takes_records_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    found = zoo(tmp_path, "name: a, ckpt: a.pth, arch: resnet50_v1")
    sha = file_sha256(tmp_path / "a.pth")
    assert found.named(record(file_sha256=sha, arch="resnet50_v1")) == Named("a")
    assert found.named(record(file_sha256=sha, arch="resnet50")) is None


def test_two_of_one_file_are_told_apart_by_how_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    (tmp_path / "copy.pth").write_bytes(b"a")
    found = zoo(
        tmp_path,
        "name: student, ckpt: a.pth, prefix: student",
        "name: teacher, ckpt: copy.pth, prefix: teacher.backbone., row: VICReg",
    )
    sha = file_sha256(tmp_path / "a.pth")

    def name(container: str, prefix: str) -> str | None:
        place = {"container": container, "prefix": prefix}
        named = found.named(record(file_sha256=sha, coverage=place))
        return named and named.name

    found.require_unlike_files()
    assert name("", "student.") == name("student", "") == name("model", "student.") == "student"
    assert name("teacher", "backbone.") == name("", "teacher.backbone.") == "teacher"
    assert name("", "teacher.") is None
    assert found.named(record(file_sha256=sha)) is None  # of an unknown place
    assert found.strangers([]) == [
        f"{tmp_path / 'zoo.yaml'}, {one}: no record is of its weights"
        for one in ("student", "teacher")
    ]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("method: vicreg", "method: dino", True),
        ("arch: resnet50", "arch: resnet50_v1", True),
        ("method: vicreg, prefix: a", "method: dino, prefix: a", True),
        ("prefix: a.backbone", "prefix: b.backbone", True),
        ("prefix: model", "prefix: model_ema", True),
        ("prefix: a", "trust_pickle: true", False),  # what is found without one may lie there
        ("prefix: a", "method: dino", False),
        ("prefix: a", "prefix: a.", False),
        ("prefix: backbone", "prefix: student.backbone.", False),
        ("method: own", "method: dino", False),  # the method in the file may be any
        ("arch: resnet50w2", "arch: resnet50x2", False),
    ],
)
def test_entries_of_one_file_need_values_that_differ(
    tmp_path: Path, one: str, other: str, apart: bool
) -> None:
    entries = [f"name: one, ckpt: a.pth, {one}", f"name: other, ckpt: a.pth, {other}"]
    if apart:
        assert len(zoo(tmp_path, *entries).entries) == 2
    else:
        with pytest.raises(ConfigError, match="one and other have the same weights: give each"):
            zoo(tmp_path, *entries)


def test_an_entry_with_a_method_takes_records_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    found = zoo(tmp_path, "name: a, ckpt: a.pth, method: vicreg")
    sha = file_sha256(tmp_path / "a.pth")
    assert found.named(record(file_sha256=sha, method="vicreg")) == Named("a")
    assert found.named(record(file_sha256=sha, method="dino")) is None


def test_weights_are_options_of_run(tmp_path: Path) -> None:
    found = zoo(
        tmp_path,
        "name: a, ckpt: sub/a.pth, method: vicregl, trust_pickle: true",
        "name: b, ckpt: 'random:resnet18x0.25'",
        "name: c, ckpt: /c.pth",
    )
    options = [found.weights(entry).options() for entry in found.entries]
    assert options == [
        ["--ckpt", str(tmp_path / "sub/a.pth"), "--method", "vicregl", "--trust-pickle"],
        ["--ckpt", "random:resnet18x0.25"],
        ["--ckpt", "/c.pth"],
    ]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["name: a, ckpt: a.pth", "name: a, ckpt: b.pth"], "2 entries have the name a"),
        (["name: a, ckpt: a.pth", "name: b, ckpt: x/../a.pth"], "a and b have the same weights"),
        (["name: a, ckpt: 'random:resnet50w2'", "name: b, ckpt: 'random:resnet50x2'"], "a and b"),
        (["name: a"], "checkpoints[0].ckpt: it is missing"),
        (["name: a, ckpt: a.pth, colour: red"], "checkpoints[0].colour: there is no such key"),
        (["name: a, ckpt: a.pth, alpha: 2"], "checkpoints[0].alpha"),
        (["name: ' ', ckpt: a.pth"], "checkpoints[0].name: it is empty"),
        (["name: a, ckpt: a.pth", "name: 'a ', ckpt: b.pth"], "2 entries have the name a"),
        (['name: "a\\nb", ckpt: a.pth'], "checkpoints[0].name: it has a line break"),
        (["name: a, ckpt: a.pth, ckpt: b.pth"], "'ckpt' stands twice, again in line 2"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, entries: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        zoo(tmp_path, *entries)
    assert words in str(caught.value)
    assert str(tmp_path / "zoo.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ckpt", ["~nobody_of_this_name/a.pth", "a\\0b"])
def test_a_path_that_cannot_be_is_a_missing_file(tmp_path: Path, ckpt: str) -> None:
    found = zoo(tmp_path, f'name: a, ckpt: "{ckpt}"')
    missing = found.missing(found.entries[0])
    assert missing is not None and missing.startswith("a: no file ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no mapping"),
        ("- a", "holds no mapping"),
        ("checkpoints: []", "checkpoints: "),
        ("{", "cannot be read as YAML"),
        ("models: [{name: a, ckpt: b}]", "checkpoints: it is missing"),
        ("? [a]\n: 1", "cannot be read as YAML"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_zoo(path)


def test_no_file_and_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*zoo\.yaml: No such file"):
        read_zoo(tmp_path / "zoo.yaml")
    (tmp_path / "zoo.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        read_zoo(tmp_path / "zoo.yaml")


def test_two_copies_of_a_file_are_nobodys_records(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"a")
    (tmp_path / "b.pth").write_bytes(b"a")
    found = zoo(tmp_path, "name: a, ckpt: a.pth", "name: b, ckpt: b.pth")
    with pytest.raises(BenchError, match="a and b have the same weights"):
        found.named(record(file_sha256="0" * 64))
    with pytest.raises(BenchError, match="a and b have the same weights"):
        found.require_unlike_files()


@pytest.mark.parametrize("entry", ["ckpt: a.pth, arch: resnet51", "ckpt: 'random:resnet51'"])
def test_an_unknown_architecture_is_named_where_it_is_asked_for(tmp_path: Path, entry: str) -> None:
    found = zoo(tmp_path, f"name: a, {entry}")
    with pytest.raises(ConfigError, match=r"zoo\.yaml, a: unknown architecture 'resnet51'"):
        require_architectures(found)
