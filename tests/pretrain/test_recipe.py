from typing import Any

import pytest

from pretrain.optim import learning_rate
from pretrain.recipe import Recipe, differences, load_recipe, recipe_names
from tests.pretrain.conftest import small_recipe
from vicregl_bench.errors import ConfigError

NAMES = [
    "convnext_base",
    "convnext_base_released",
    "convnext_small",
    "convnext_small_released",
    "convnext_tiny",
    "convnext_xlarge",
    "resnet50",
    "resnet50_released",
    "tiny",
]


def rate(recipe: Recipe, epoch: float) -> float:
    """Learning rate after some epochs of 100 steps."""
    schedule = recipe.schedule
    return learning_rate(
        round(epoch * 100),
        base_lr=recipe.optimizer.base_lr,
        batch_size=schedule.batch_size,
        end_lr_ratio=schedule.end_lr_ratio,
        total_steps=schedule.epochs * 100,
        warmup_steps=round(schedule.warmup_epochs * 100),
    )


def test_names() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.recipe.name == name
    assert recipe.recipe.title and recipe.recipe.source
    assert recipe.method == "vicregl"
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


# ../shared/PROTOCOLS.md, "Pretraining": epochs, batch, peak rate, last rate, weight decay
SCHEDULES: dict[str, tuple[int, int, float, float, float]] = {
    "resnet50": (300, 2048, 0.1, 0.002, 1e-6),
    "resnet50_released": (300, 2048, 0.2 * 2048 / 256, 0.2 * 2048 / 256 / 1000, 1e-6),
    "convnext_small": (400, 384, 0.001, 1e-5, 1e-6),
    "convnext_base": (400, 576, 0.001, 1e-5, 1e-6),
    "convnext_xlarge": (150, 576, 0.001, 1e-5, 1e-6),
    "convnext_small_released": (100, 384, 7.5e-4 * 1.5, 7.5e-7 * 1.5, 0.05),
    "convnext_base_released": (400, 576, 5e-4 * 2.25, 5e-7 * 2.25, 0.05),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_the_papers_recipes(name: str) -> None:
    recipe = load_recipe(name)
    epochs, batch, peak, last, decay = SCHEDULES[name]
    assert (recipe.schedule.epochs, recipe.schedule.batch_size) == (epochs, batch)
    assert recipe.schedule.warmup_epochs == 10
    assert rate(recipe, 0) == 0.0
    assert rate(recipe, 5) == pytest.approx(peak / 2)
    assert rate(recipe, 10) == pytest.approx(peak)
    assert rate(recipe, epochs) == pytest.approx(last)
    assert recipe.optimizer.weight_decay == decay
    assert recipe.optimizer.type == ("LARS" if "resnet" in name else "AdamW")


@pytest.mark.parametrize("name", SCHEDULES)
def test_views_heads_and_criterion_of_the_papers_recipes(name: str) -> None:
    recipe = load_recipe(name)
    views, model, criterion = recipe.views, recipe.model, recipe.criterion
    released, resnet = name.endswith("_released"), name.startswith("resnet")
    assert model.backbone == name.removesuffix("_released")
    assert not model.separate
    assert model.expander == (8192, 8192, 8192)
    assert model.projector == (512, 512, 512)
    assert model.norm == ("batch" if resnet else "layer")
    assert (criterion.name, criterion.alpha) == ("vicregl", 0.75)
    assert (criterion.invariance, criterion.variance, criterion.covariance) == (25, 25, 1)
    assert criterion.num_matches == (20, 4)
    assert (criterion.matching, criterion.local_criterion) == (("location", "feature"), "VIC")
    assert criterion.preset == ("released" if released else "paper")
    assert criterion.feature_top_gamma is None
    assert views.large_size == 224
    assert views.large_scale == ((0.08, 1.0) if resnet else (0.4, 1.0))
    assert views.small_count == (0 if resnet else 6)
    assert (views.small_size, views.small_scale) == (96, (0.08, 0.4))
    assert views.pipeline == ("asymmetric" if released else "symmetric")
    assert views.normalisation == ("released" if released else "paper")
    assert views.track_flips != released
    assert recipe.map_sides() == [7, 7] + [3] * views.small_count


def test_tiny() -> None:
    recipe = load_recipe("tiny")
    assert recipe.map_sides() == [3, 3]
    assert recipe.views.largest == 72
    assert recipe.criterion.num_matches[0] == 4


def test_largest_view() -> None:
    assert small_recipe(views__small_size=96).views.largest == 64
    assert small_recipe(views__small_size=96, views__small_count=2).views.largest == 96


def test_overrides() -> None:
    recipe = load_recipe("resnet50", {"criterion.alpha": 1, "data.subset": 0.1})
    assert recipe.criterion.alpha == 1.0 and recipe.data.subset == 0.1
    rest = load_recipe("resnet50").model_dump()
    rest["criterion"]["alpha"], rest["data"]["subset"] = 1.0, 0.1
    assert recipe.model_dump() == rest


@pytest.mark.parametrize(
    ("settings", "method", "heads"),
    [
        ({}, "vicregl", (True, True)),
        ({"criterion__alpha": 0}, "vicregl", (False, True)),
        ({"criterion__alpha": 1}, "vicreg", (True, False)),
        ({"criterion__matching": []}, "vicreg", (True, False)),
        ({"criterion__name": "simclr"}, "simclr_l", (True, True)),
        ({"criterion__name": "simclr", "criterion__alpha": 1}, "simclr", (True, False)),
        ({"criterion__name": "simclr", "criterion__matching": []}, "simclr", (True, False)),
        ({"criterion__name": "barlow_twins", "criterion__alpha": 1}, "barlow_twins", (True, False)),
    ],
)
def test_methods(settings: dict[str, Any], method: str, heads: tuple[bool, bool]) -> None:
    recipe = small_recipe(**settings)
    assert recipe.method == method
    assert (recipe.criterion.with_global, recipe.criterion.with_local) == heads


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet5", r"no recipe 'resnet5'; did you mean resnet50\? \(known: convnext_base, .*tiny"),
        ("zzz", r"no recipe 'zzz' \(known"),
        ("_base_/vicregl", "no recipe"),
    ],
)
def test_unknown_recipes(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_recipe(name)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    (
        {"criterion.alfa": 1},
        r"no setting 'criterion.alfa' in recipe tiny; near it: criterion.alpha",
    ),
    ({"criterion": 1}, "no setting 'criterion'"),
    ({"criterion.alpha": 1.5}, "setting criterion.alpha = 1.5 is impossible"),
    ({"criterion.alpha": "much"}, 'setting criterion.alpha = "much" is impossible'),
    ({"criterion.alpha": float("nan")}, "setting criterion.alpha = NaN is impossible"),
    ({"criterion.name": "byol"}, r"criterion.name = .*'vicregl'"),
    ({"criterion.preset": "mine"}, "criterion.preset"),
    ({"criterion.temperature": 0}, "criterion.temperature = 0 is impossible.*greater than 0"),
    ({"criterion.num_matches": [4]}, "criterion.num_matches"),
    ({"criterion.num_matches": [0, 4]}, r"criterion.num_matches.0 = 0"),
    ({"criterion.matching": ["place"]}, "criterion.matching.0"),
    ({"views.large_scale": [0.5, 0.2]}, r"views .*a scale of 0.5 to 0.2: use 0 < smallest"),
    ({"views.small_scale": [0.5, 1.2]}, "a scale of 0.5 to 1.2"),
    ({"views.large_scale": [0, 1]}, "views.large_scale.0 = 0"),
    ({"views.pipeline": "none"}, "'none': use one of symmetric, asymmetric, scaling"),
    ({"views.normalisation": "none"}, "'none': use one of paper, released"),
    ({"views.interpolation": "nearest"}, "views.interpolation"),
    ({"views.small_count": -1}, "views.small_count = -1"),
    ({"model.expander": []}, r"model.expander = \[\] is impossible"),
    ({"model.projector": [4, 0]}, "model.projector.1 = 0"),
    ({"model.norm": "group"}, "model.norm"),
    ({"model.backbone": "vgg"}, "unknown architecture 'vgg'"),
    ({"model.second_backbone": "vgg"}, "unknown architecture 'vgg'"),
    ({"optimizer.type": "SGD"}, "optimizer.type"),
    ({"optimizer.base_lr": 0}, "optimizer.base_lr = 0"),
    ({"optimizer.betas": [0.9, 1.0]}, "optimizer.betas.1 = 1.0 is impossible: .*less than 1"),
    ({"schedule.batch_size": 1}, "schedule.batch_size = 1"),
    ({"schedule.epochs": 0}, "schedule.epochs = 0"),
    (
        {"schedule.epochs": 3, "schedule.warmup_epochs": 3.0},
        "3 warm-up epochs do not fit 3 epochs.*warmup_epochs=0",
    ),
    ({"run.precision": "fp64"}, "run.precision"),
    ({"run.clip_grad": 0}, "run.clip_grad = 0"),
    ({"run.seed": -1}, "run.seed = -1"),
    ({"data.unreadable": 2}, "data.unreadable = 2"),
    ({"criterion.name": "barlow_twins"}, "barlow_twins is a global criterion.*criterion.alpha=1"),
    ({"model.backbone": "convnext_tiny", "views.large_size": 31}, "views.large_size = 31"),
    ({"criterion.num_matches": [10, 4]}, "gamma is 10, but a map has 9 cells"),
    (
        {"criterion.num_matches": [4, 5], "views.small_count": 2},
        "gamma is 5, but a map has 4 cells",
    ),
    (
        {"criterion.num_matches": [4, 10], "criterion.preset": "released"},
        "gamma is 10, but a map has 9 cells",
    ),
    (  # 72 px: a ResNet has 3 x 3 cells, a ConvNeXt 2 x 2
        {"criterion.num_matches": [5, 1], "model.second_backbone": "convnext_tiny"},
        "gamma is 5, but a map has 4 cells",
    ),
]


@pytest.mark.parametrize(("overrides", "text"), IMPOSSIBLE)
def test_impossible_settings(overrides: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        load_recipe("tiny", overrides)
    assert "\n" not in str(caught.value)


def test_gamma_counts_only_where_it_is_used() -> None:
    assert load_recipe("tiny", {"criterion.num_matches": [9, 100]}).criterion.num_matches[1] == 100
    assert load_recipe("tiny", {"criterion.num_matches": [99, 1], "criterion.alpha": 1})


def test_differences_name_what_changed() -> None:
    before = small_recipe().model_dump(mode="json")
    after = small_recipe(criterion__alpha=1, model__expander=[8]).model_dump(mode="json")
    assert differences(before, after) == [
        "criterion.alpha: 0.75 before, 1.0 now",
        "model.expander: [32, 32] before, [8] now",
    ]
    assert differences(before, before) == []


def test_differences_pass_over_what_leaves_the_weights_alone() -> None:
    whole = small_recipe().model_dump(mode="json")
    untouched = {
        *("recipe.name", "recipe.title", "recipe.source"),
        *("run.log_every", "run.watch_every", "run.save_every"),
        *("run.probe_every", "run.probe_pictures", "run.probe_k"),
    }
    passed = set()
    for section, settings in whole.items():
        for key in settings:
            changed = {**whole, section: {**settings, key: "other"}}
            if not differences(whole, changed):
                passed.add(f"{section}.{key}")
    assert passed == untouched


def test_differences_see_settings_that_came_or_went() -> None:
    before = small_recipe().model_dump(mode="json")
    after = {**before, "run": {k: v for k, v in before["run"].items() if k != "accumulate"}}
    assert differences(before, after) == ["run.accumulate: 1 before, None now"]
    assert differences(after, before) == ["run.accumulate: None before, 1 now"]
