import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from vicregl_bench.errors import ConfigError, RecordError
from vicregl_bench.records.metrics import TITLES
from vicregl_bench.shipped import shipped
from vicregl_bench.tables.published import COLUMNS, KEY, PAPERS, published, read_published
from vicregl_bench.tasks.protocol import task_names

ROOT = Path(__file__).parents[2]

# Columns of each table from the left, with sum and count of their numbers: added up from the
# papers' text by another program than the one that made the file.
SUMS: dict[tuple[str, str], list[tuple[str, float, int]]] = {
    ("vicregl", "1"): [
        ("imagenet_linear", 770.6, 12),
        ("voc_linear", 535.7, 12),
        ("voc_linear_ft", 794.2, 12),
        ("cityscapes_linear", 206.3, 12),
    ],
    ("vicregl", "2"): [
        ("imagenet_linear", 1130.4, 15),
        ("voc_linear", 1001.4, 15),
        ("voc_linear_ft", 1207.9, 15),
        ("ade20k_linear", 476.5, 15),
    ],
    ("vicregl", "3"): [("imagenet_linear", 294.5, 4), ("voc_linear", 232.9, 4)],
    ("vicregl", "4"): [("imagenet_linear", 275.6, 4), ("voc_linear", 200.9, 4)],
    ("vicregl", "5"): [("imagenet_linear", 287.5, 4), ("voc_linear", 225.4, 4)],
    ("vicregl", "6"): [("imagenet_linear", 220.5, 3), ("voc_linear", 179.1, 3)],
    ("vicregl", "7"): [("imagenet_linear", 220.3, 3), ("voc_linear", 177.5, 3)],
    ("vicregl", "8"): [("voc_fcn", 742.0, 12), ("voc_fcn_ft", 825.9, 12)],
    ("vicregl", "9"): [("voc_det_frcnn_c4", 523.6, 8), ("voc_det_linear", 398.7, 8)],
    ("vicregl", "10"): [
        ("coco_semi_maskrcnn", 98.3, 4),
        ("coco_semi_maskrcnn_mask_ap", 86.2, 4),
    ],
    ("vicregl", "11"): [("time_100_epochs", 24.0, 2), ("peak_memory", 27.0, 2)],
    ("vicreg", "1"): [
        ("imagenet_linear", 1057.0, 15),
        ("imagenet_linear_top5", 453.8, 5),
        ("imagenet_semi_1", 290.6, 6),
        ("imagenet_semi_10", 400.2, 6),
        ("imagenet_semi_1_top5", 579.5, 8),
        ("imagenet_semi_10_top5", 700.4, 8),
    ],
    ("vicreg", "2"): [
        ("places205_linear", 530.1, 10),
        ("voc07_svm", 857.9, 10),
        ("inat18_linear", 377.8, 9),
        ("voc_det_frcnn_c4_ap50", 576.7, 7),
        ("coco_maskrcnn", 240.2, 6),
        ("coco_maskrcnn_mask_ap", 219.4, 6),
    ],
    ("vicreg", "6"): [("imagenet_linear", 1075.2, 14), ("imagenet_linear_top5", 1022.0, 11)],
    ("vicreg", "7"): [
        ("imagenet_semi_1", 455.4, 7),
        ("imagenet_semi_10", 524.2, 7),
        ("imagenet_semi_1_top5", 603.0, 7),
        ("imagenet_semi_10_top5", 647.1, 7),
    ],
    ("vicreg", "8"): [("imagenet_knn", 316.2, 5), ("imagenet_knn_200", 349.2, 6)],
    ("vicreg", "12"): [("imagenet_linear", 408.1, 6)],
    ("vicreg", "13"): [
        ("time_100_epochs", 55.0, 5),
        ("peak_memory", 59.6, 5),
        ("imagenet_linear", 367.8, 5),
    ],
    ("gl_sd", "2"): [("imagenet_linear", 676.4, 9), ("imagenet_knn", 375.1, 5)],
    ("gl_sd", "3"): [
        ("food101_knn", 277.4 + 71.0 + 288.1, 11),
        ("food101_linear", 318.9 + 87.3 + 327.6, 11),
        ("nct_crc_he_knn", 362.7 + 180.9 + 361.3, 11),
        ("nct_crc_he_linear", 364.9 + 180.7 + 360.7, 11),
        ("imagenet100_knn", 318.1 + 241.4 + 326.1, 12),
        ("imagenet100_linear", 334.8 + 253.0 + 339.8, 12),
    ],
    ("scaling", "1"): [
        ("cub200_probe_search", 79.0, 4),
        ("mini_imagenet_probe_search", 213.0, 4),
        ("sun397_probe_search", 136.0, 4),
        ("average", 142.7, 4),
    ],
}
TABLES = sorted(SUMS)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return published()


# --- the file by itself ---


def test_every_column_adds_up(frame: pd.DataFrame) -> None:
    found = frame.groupby(["paper", "table", "column"])["value"].agg(["sum", "count"])
    expected = {
        (*table, column): (pytest.approx(total, abs=1e-6), count)
        for table, columns in SUMS.items()
        for column, total, count in columns
    }
    assert {key: (row["sum"], row["count"]) for key, row in found.iterrows()} == expected
    assert len(frame) == 475


@pytest.mark.parametrize(
    ("table", "row", "method", "column", "value"),
    [
        ("vicregl 1", 12, "VICRegL", "voc_linear", 55.9),
        ("vicregl 2", 15, "VICRegL", "ade20k_linear", 43.2),
        ("vicregl 3", 4, "VICRegL", "voc_linear", 60.3),
        ("vicregl 4", 4, "SimCLR-L", "voc_linear", 51.3),
        ("vicregl 5", 2, "VICRegL", "voc_linear", 57.8),
        ("vicregl 6", 3, "VICRegL", "imagenet_linear", 73.5),
        ("vicregl 7", 1, "VICRegL", "voc_linear", 59.0),
        ("vicregl 8", 7, "DetCon", "voc_fcn", 66.1),
        ("vicregl 9", 4, "VICRegL", "voc_det_linear", 45.6),
        ("vicregl 10", 4, "VICRegL", "coco_semi_maskrcnn", 25.7),
        ("vicregl 11", 2, "VICRegL", "peak_memory", 15.7),
        ("vicreg 1", 15, "VICReg", "imagenet_semi_10", 69.5),
        ("vicreg 2", 11, "VICReg", "voc_det_frcnn_c4_ap50", 82.4),
        ("vicreg 6", 14, "VICReg", "imagenet_linear_top5", 93.3),
        ("vicreg 7", 5, "BYOL", "imagenet_semi_1", 71.2),
        ("vicreg 8", 7, "VICReg", "imagenet_knn", 64.5),
        ("vicreg 12", 5, "VICReg", "imagenet_linear", 68.6),
        ("vicreg 13", 3, "BYOL", "peak_memory", 14.6),
        ("gl_sd 2", 9, "Geometric", "imagenet_knn", 75.4),
        ("gl_sd 3", 5, "Similarity", "nct_crc_he_linear", 34.1),
        ("scaling 1", 4, "VICReg", "average", 47.3),
    ],
)
def test_one_number_of_each_table(
    table: str, row: int, method: str, column: str, value: float
) -> None:
    numbers = published(*table.split())
    found = numbers[(numbers["row"] == row) & (numbers["column"] == column)]
    assert found[found["method"] == method]["value"].tolist() == [value]


def test_shape(frame: pd.DataFrame) -> None:
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated([*KEY]).any()
    for (_, _), rows in frame.groupby(["paper", "table"]):
        assert sorted(set(rows["row"])) == list(range(1, rows["row"].max() + 1))
        about = ["column", "column_title", "protocol", "metric", "unit"]
        if rows["paper"].iloc[0] != "gl_sd":
            assert len(rows[about].drop_duplicates()) == rows["column"].nunique()
    assert (frame["source"] == frame["paper"].map(PAPERS) + ", table " + frame["table"]).all()


def test_ranges(frame: pd.DataFrame) -> None:
    assert frame["parameters"].dropna().between(20, 600).all()
    assert frame["epochs"].dropna().between(100, 1000).all()
    assert set(frame["alpha"].dropna()) == {0.75, 0.9}
    assert (frame["alpha"].isna() | (frame["method"] == "VICRegL")).all()
    assert set(frame["unit"]) == {"percent", "hours", "G"}
    assert set(frame["metric"]) <= {"", *TITLES}


def test_columns_of_our_tasks_bear_their_names(frame: pd.DataFrame) -> None:
    tasks = {name for name in frame["protocol"] if name}
    assert tasks <= set(task_names())
    for column, protocol, metric in frame[["column", "protocol", "metric"]].itertuples(index=False):
        assert column.startswith(protocol), column
        assert not protocol or metric, column
        assert protocol or column not in task_names(), column


def test_a_flag_has_a_note(frame: pd.DataFrame) -> None:
    assert (frame["note"][frame["flag"] != ""] != "").all()
    assert frame["flag"].value_counts().drop("").to_dict() == {"text differs": 19, "shifted": 4}


def test_bold_is_the_best_of_its_column(frame: pd.DataFrame) -> None:
    best = frame.groupby(["paper", "table", "column"])["value"].transform("max")
    bold = frame[frame["bold"]]
    assert (bold["value"] == best[bold.index]).all()
    assert bold.groupby(["paper", "table"]).size().to_dict() == {
        ("scaling", "1"): 4,
        ("vicregl", "1"): 4,
        ("vicregl", "10"): 2,
        ("vicregl", "2"): 1,
        ("vicregl", "8"): 2,
        ("vicregl", "9"): 2,
    }
    assert not bold.duplicated(["paper", "table", "column"]).any()


def test_differences_are_those_to_the_vanilla_method() -> None:
    runs = published("gl_sd")
    runs = runs[runs["method"].isin(["Vanilla", "Similarity", "Geometric"])]
    compared = 0
    runs["comparison"] = runs["row"].where(runs["table"] == "3", 0)  # table 2: all its rows
    for _, same in runs.groupby(["table", "comparison", "column"]):
        vanilla = same["method"] == "Vanilla"
        base = same[vanilla]["value"].item()
        assert same["difference"].isna().tolist() == vanilla.tolist()
        others = same[~vanilla]
        assert (others["value"] - base - others["difference"]).abs().max() < 0.01, same
        compared += len(others)
    assert compared == 48


def test_averages_are_those_of_their_rows() -> None:
    for _, row in published("scaling").groupby("row"):
        values = row.set_index("column")["value"]
        assert values.pop("average") == pytest.approx(values.mean(), abs=0.05)


def test_numbers_that_two_tables_share(frame: pd.DataFrame) -> None:
    """VICRegL alpha 0.75 of table 1 is that of table 4, VICReg's run time that of its own paper."""
    values = frame.set_index(["paper", "table", "column", "row"])["value"].to_dict()
    for column in ("imagenet_linear", "voc_linear"):
        assert values["vicregl", "1", column, 12] == values["vicregl", "4", column, 2]
        full = {
            values["vicregl", t, column, k] for t, k in (("3", 4), ("5", 4), ("6", 2), ("7", 3))
        }
        assert len(full) == 1
    for column in ("time_100_epochs", "peak_memory"):
        assert values["vicregl", "11", column, 1] == values["vicreg", "13", column, 5]
    column = "imagenet_linear"
    for row, here in ((15, 5), (14, 4), (13, 2), (12, 3), (9, 1)):
        assert values["vicreg", "1", column, row] == values["vicreg", "13", column, here]


# --- the file against the papers' text ---

Cell = tuple[float | None, float | None]  # value and difference


def _lines(text: str, table: str) -> list[str]:
    """The lines from a table's caption on, down to the next caption."""
    start = re.search(rf"^ ?Table {table}[.:]", text, re.MULTILINE)
    assert start is not None, table
    rest = text[start.end() :]
    end = re.search(r"^ ?Table \d+[.:]", rest, re.MULTILINE)
    return rest[: end.start() if end else None].splitlines()


def _tail_rows(text: str, table: str, width: int) -> Iterator[tuple[str, list[Cell]]]:
    """Rows of a table whose cells are parted by blanks: they end in so many decimal numbers."""
    number = r"\d+(?:\.\d|(?=h))[hG]?"
    pattern = re.compile(rf"^(.*?)((?: {number}){{{width}}})$")
    for line in _lines(text, table):
        if found := pattern.match(line):
            yield found[1], [(float(word.strip("hG")), None) for word in found[2].split()]


def _cell(text: str) -> Cell:
    """A cell of a table parted by tabs, without the marks around its number."""
    bare = re.sub(r"\$\\overline\{(.*)\}\$|</?[a-z]+>|\^\{\\dagger\}|\[†\]", r"\1", text).strip()
    found = re.fullmatch(r"(\d+\.\d+|\d+(?=h))[hG]?(?: \(([+-]) ?(\d+\.\d)\))?", bare)
    if found is None:
        assert bare in ("", "-", "_", "NA"), text
        return None, None
    return float(found[1]), float(found[2] + found[3]) if found[2] else None


def _tab_rows(text: str, table: str, width: int, lead: int) -> Iterator[tuple[str, list[Cell]]]:
    """Rows of a table parted by tabs, of so many leading cells that are no results."""
    for line in _lines(text, table):
        parts = line.split("\t")
        if len(parts) < lead + width or not re.search(r"\d\.\d|\d\dh|NA", "".join(parts[lead:])):
            continue
        assert not any(parts[lead + width :]), line
        yield "\t".join(parts[:lead]), [_cell(part) for part in parts[lead : lead + width]]


def text_rows(paper: str, table: str, text: str) -> list[tuple[str, list[Cell]]]:
    """What stands left of the results, and the results, of each row of a table in the text."""
    width = 6 if (paper, table) == ("gl_sd", "3") else len(SUMS[paper, table])
    if paper == "vicregl":
        return list(_tail_rows(text, table, width))
    if (paper, table) == ("vicreg", "12"):
        lines = [line.split("\t") for line in _lines(text, table) if "\t" in line]
        sizes, scores = lines[0][1:], lines[1][1:]
        return [(size, [_cell(score)]) for size, score in zip(sizes, scores, strict=True)]
    if paper == "scaling":
        # its caption is below it
        body = "Table 1.\n" + text[text.index("Method / Configuration") : text.index("Table 1. ")]
        return list(_tab_rows(body.replace("<b>", "").replace("</b>", ""), table, width, 1))
    lead = {("vicreg", "6"): 4, ("vicreg", "7"): 4, ("gl_sd", "2"): 5}.get((paper, table), 1)
    return list(_tab_rows(text, table, width, lead))


def file_rows(paper: str, table: str, frame: pd.DataFrame) -> list[list[Cell]]:
    """The results of each row of a table in the file, in the text's order of cells."""
    columns = [column for column, _, _ in SUMS[paper, table]]
    numbers = frame[(frame["paper"] == paper) & (frame["table"] == table)]
    rows: dict[int, dict[tuple[str, str], Cell]] = {}
    names = ["row", "method", "column", "value", "difference"]
    for row, method, column, value, gain in numbers[names].itertuples(index=False):
        cells = rows.setdefault(row, {})
        place = (method if (paper, table) == ("gl_sd", "3") else "", column)
        assert place not in cells and column in columns
        cells[place] = (value, None if pd.isna(gain) else gain)
    if (paper, table) != ("gl_sd", "3"):
        places = [("", column) for column in columns]
        return [[rows[row].get(place, (None, None)) for place in places] for row in sorted(rows)]
    # a row is a data set; its cells are kNN and linear of each method
    methods, sets = ("Vanilla", "Similarity", "Geometric"), ("food101", "nct_crc_he", "imagenet100")
    return [
        [
            rows[row].get((method, f"{sets[(row - 1) % 3]}_{kind}"), (None, None))
            for method in methods
            for kind in ("knn", "linear")
        ]
        for row in sorted(rows)
    ]


def disagreements(paper: str, table: str, text: str, frame: pd.DataFrame) -> list[str]:
    """Where file and text differ, cell by cell."""
    there = [cells for _, cells in text_rows(paper, table, text)]
    here = file_rows(paper, table, frame)
    if len(there) != len(here):
        return [f"{len(here)} rows for {len(there)} in the text"]
    return [
        f"row {k}: {ours} for {theirs}"
        for k, (ours, theirs) in enumerate(zip(here, there, strict=True), 1)
        if ours != theirs
    ]


FILES = {
    ("vicregl", "main"): "000",
    ("vicregl", "appendix"): "001",
    ("scaling", "main"): "002",
    ("vicreg", "main"): "003",
    ("gl_sd", "main"): "004",
}


@pytest.fixture()
def text_of(shared: Path) -> Callable[[str, str], str]:
    """The text of the paper's part with a table."""
    seeds = shared / "seeds"
    if not seeds.is_dir():
        pytest.skip("no ../shared/seeds with the papers' text beside the project")

    def read(paper: str, table: str) -> str:
        part = "appendix" if paper == "vicregl" and int(table) > 7 else "main"
        (path,) = seeds.glob(f"{FILES[paper, part]}_*.txt")
        return path.read_text()

    return read


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_number_stands_in_its_place_in_the_text(
    paper: str, table: str, text_of: Callable[[str, str], str], frame: pd.DataFrame
) -> None:
    text = text_of(paper, table)
    assert disagreements(paper, table, text, frame) == []
    printed = sum(
        value is not None for _, cells in text_rows(paper, table, text) for value, _ in cells
    )
    assert printed == sum(count for _, _, count in SUMS[paper, table])


def test_a_wrong_file_disagrees_with_the_text(
    text_of: Callable[[str, str], str], frame: pd.DataFrame
) -> None:
    for paper, table in TABLES:
        text = text_of(paper, table)
        index = frame.index[(frame["paper"] == paper) & (frame["table"] == table)]
        assert not disagreements(paper, table, text, frame)
        for place in (index[0], index[len(index) // 2], index[-1]):
            changed = frame.copy()
            changed.loc[place, "value"] += 0.1
            assert disagreements(paper, table, text, changed), (paper, table)
            assert disagreements(paper, table, text, frame.drop(place)), (paper, table)
        swapped = frame.copy()
        other = next(k for k in index if frame.loc[k, "value"] != frame.loc[index[0], "value"])
        swapped.loc[[index[0], other], "value"] = frame.loc[[other, index[0]], "value"].to_numpy()
        assert disagreements(paper, table, text, swapped), (paper, table)
    gains = frame["difference"].first_valid_index()
    changed = frame.copy()
    changed.loc[gains, "difference"] *= -1
    paper, table = frame.loc[gains, ["paper", "table"]]
    assert disagreements(paper, table, text_of(paper, table), changed)


# names in the file -> in the text, where they differ
SPELLED = {
    "ResNet-50 (x2)": "R50(x2)",
    "ResNet-50 (x4)": "R50(x4)",
    "ResNet-50 (x5)": "R50(x5)",
    "ResNet-200 (x2)": "R200(x2)",
    "Narrow ResNet-50 (x2)": "N-R50(x2)",
    "Narrow ResNet-50 (x4)": "N-R50(x4)",
    "ResNeXt-101-32-16": "RNXT101-32-16",
    "ConvNeXt-S": "CNX-S",
    "ConvNeXt-B": "CNX-B",
    "ConvNeXt-XL": "CNX-XL",
    "ViT-S/16": "ViT-S/P=16",
    "Swin-T/7": "Swin-T/W=7",
}
CITATION = re.compile(r"\[[A-Z][^]]*\d{4}\w?\]|[A-Z][\w-]+ (?:et al\.|& \w+) \(\d{4}\w?\)")
NOT_A_METHOD = re.compile(
    r"α = [\d.]+†?|\b(?:R50|ViT-\w|CNX-\w+)\b|\b\d+M\b|\b\d+$|✓|\(.*\)|\[\d+\]|<sup>\d</sup>"
)
PRINTED_BACKBONES = (("vicregl", "2"), ("vicregl", "9"), ("vicreg", "6"), ("vicreg", "7"))
# of one method, or with one a column
UNNAMED_METHODS = (
    ("vicregl", "3"),
    ("vicregl", "6"),
    ("vicregl", "7"),
    ("vicreg", "12"),
    ("gl_sd", "3"),
    ("scaling", "1"),
)


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_what_stands_left_of_the_numbers(
    paper: str, table: str, text_of: Callable[[str, str], str], frame: pd.DataFrame
) -> None:
    """Method, weight alpha, backbone, parameters, epochs and numbers of the setting."""
    numbers = frame[(frame["paper"] == paper) & (frame["table"] == table)]
    heads = [head for head, _ in text_rows(paper, table, text_of(paper, table))]
    name = ""
    for k, (head, (_, same)) in enumerate(zip(heads, numbers.groupby("row"), strict=True), 1):
        row = same.iloc[0]
        bare = CITATION.sub("", head)
        name = NOT_A_METHOD.sub("", bare.split("\t")[0]).strip() or name  # empty: as above it
        if (paper, table) not in UNNAMED_METHODS:
            assert row["method"].lower() == name.lower().replace("moco-v3", "moco v3"), head
        if pd.notna(row["alpha"]) or "α" in bare:
            assert f"α = {row['alpha']:g}" in bare, (k, head)
        if (paper, table) in PRINTED_BACKBONES or (paper, table) == ("gl_sd", "2"):
            shown = SPELLED.get(row["backbone"], row["backbone"])
            shown = "R50" if paper == "vicregl" and shown == "ResNet-50" else shown
            assert shown in re.split(r"[ \t]", bare.replace(" (x", "(x")), (k, head)
        if pd.notna(row["parameters"]) or re.search(r"\d\dM\b", bare):
            assert re.search(rf"\b{row['parameters']}M\b", bare), (k, head)
        if (paper, table) in (("vicregl", "1"), ("vicregl", "2"), ("vicregl", "8"), ("gl_sd", "2")):
            assert bare.split()[-1] == str(row["epochs"]), (k, head)
        for word in re.findall(r"(?<=Repr\. )\d+|(?<=gamma\d )\d+|(?<=size )\d+", row["setting"]):
            assert word in bare.split(), (k, head)
        if row["setting"].startswith("FLOPS"):
            assert row["setting"].split()[1] in bare.split("\t"), (k, head)
        assert ("†" in head) == (row["setting"] == "pretrained on ImageNet-22k"), (k, head)
        multi = "✓" in head or "(w/ multi-crop)" in head or "(m-c)" in head
        assert multi == (row["setting"] == "multi-crop"), (k, head)


@pytest.mark.parametrize("table", [str(k) for k in range(1, 12)])
def test_groups_are_the_headings_above_the_rows(
    table: str, text_of: Callable[[str, str], str]
) -> None:
    numbers = published("vicregl", table)
    heads = [head for head, _ in text_rows("vicregl", table, text_of("vicregl", table))]
    group, found = "", []
    for line in _lines(text_of("vicregl", table), table):
        group = line if line in ("Global features", "Local features", "Ours") else group
        if len(found) < len(heads) and line.startswith(f"{heads[len(found)]} "):
            found.append(group)
    assert found == numbers.drop_duplicates("row")["group"].tolist()
    assert (numbers.groupby("row")["group"].nunique() == 1).all()


# --- the reader ---


def test_choosing_a_paper_and_a_table() -> None:
    assert set(published("vicreg")["table"]) == {"1", "2", "6", "7", "8", "12", "13"}
    assert set(published(table="1")["paper"]) == {"vicregl", "vicreg", "scaling"}
    numbers = published("vicregl", "10")
    assert numbers.index.tolist() == list(range(8))
    assert numbers["bold"].sum() == 2
    with pytest.raises(ConfigError, match=r"no paper 'dino'.*: vicregl, vicreg, gl_sd, scaling"):
        published("dino")
    with pytest.raises(ConfigError, match=r"table '1' of gl_sd: 2, 3$"):
        published("gl_sd", "1")


def _damage(find: str, replacement: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert find in text
        return text.replace(find, replacement, 1)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_damage(",bold,", ",fat,"), "unknown or twice fat; missing bold"),
        (_damage("paper,table,", "paper,"), "cannot read"),
        (_damage(",flag,", ",bold,"), "unknown or twice bold, bold; missing flag"),
        (lambda text: text + text.splitlines()[7] + "\n", "line 477 .*twice"),
        (_damage(",67.5,percent", ",67.5%,percent"), "line 2 .*value is no number"),
        (_damage(",67.5,percent", ",675,percent"), "line 2 .*not within 0 and 100"),
        (_damage(",67.5,percent", ",,percent"), "line 2 .*no value"),
        (_damage(",35.6,percent", ",35.6,points"), "line 3 .*unit is none of"),
        (_damage("vicregl,1,1,", "vicregl,1,1.5,"), "line 2 .*row is not whole"),
        (_damage("vicregl,1,1,", "vicregel,1,1,"), "line 2 .*paper is none of"),
        (_damage(",text differs,", ",text agrees,"), "line 14 .*flag is none of"),
        (_damage("vicregl,1,1,", "vicregl,1,1,1,"), "line 2"),
        (
            lambda text: text.replace("\n", "\n" + text.splitlines()[1][:30] + "\n", 1),
            "line 2 .*no column",
        ),
        (lambda text: "", "cannot read"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    damaged = tmp_path / "published.csv"
    damaged.write_text(change(shipped("results/published.csv").read_text()))
    with pytest.raises(RecordError, match=message) as error:
        read_published(damaged)
    assert "\n" not in str(error.value)
    assert str(damaged) in str(error.value)


def test_no_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot read published numbers") as error:
        read_published(tmp_path / "none.csv")
    assert "\n" not in str(error.value)


def test_the_installed_file_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "vicregl_bench"
    package.mkdir()
    monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path / name)
    assert shipped("results/published.csv") == tmp_path / "results" / "published.csv"
    inside = package / "results" / "published.csv"
    inside.parent.mkdir()
    inside.write_text("")
    assert shipped("results/published.csv") == inside


def test_the_page_counts_as_the_file_does(frame: pd.DataFrame) -> None:
    page = (ROOT / "docs" / "published.md").read_text()
    counts = frame.groupby(["paper", "table"], sort=False).size()
    for (paper, table), count in counts.items():
        assert re.search(rf"^\| `{paper}` \| {table} \|.*\| {count} \|$", page, re.MULTILINE), table
    assert len(re.findall(r"^\| `\w+` \| \d+ \|", page, re.MULTILINE)) == len(counts)
    assert f"{len(frame)} numbers" in page
    for column in COLUMNS:
        assert f"`{column}`" in page, column
