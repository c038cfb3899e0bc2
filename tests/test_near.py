import pytest

from vicregl_bench.near import near_names


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("VOC_liner", ["voc_linear", "folder_knn"], "; near it: voc_linear"),
        ("zzz", ["b", "a"], "; there are: a, b"),
        (
            "zzz",
            [f"a{k}" for k in range(9)],
            "; there are: a0, a1, a2, a3, a4, a5, a6, a7 and 1 more",
        ),
        ("DINO, ViT", ["DINO, ViT-S"], "; near it: 'DINO, ViT-S'"),
        ("zzz", [], "; there is none"),
    ],
)
def test_names_near_it_or_the_first_few(name: str, known: list[str], text: str) -> None:
    assert near_names(name, known) == text


def test_what_makes_no_difference_is_the_callers() -> None:
    def plain(text: str) -> str:
        return text.replace("alpha", "α")

    assert near_names("alpha=2", ["α=1"], plain=plain) == "; near it: α=1"
    assert near_names("alpha=2", ["α=1"]) == "; there are: α=1"
    assert near_names("abcd", ["abxy"], cutoff=0.5) == "; near it: abxy"
