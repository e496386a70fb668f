"""Recipes whose keys can't hold together are refused at load, with both values in the message."""

from typing import Any

import pytest
from tests.train_fixture import BASE, MACHINE, data_facts

from fettle.errors import RecipeError
from fettle.recipe.load import dump_recipe, load_recipe
from fettle.recipe.methods import LORA_KEYS, PASSED_THROUGH, REFUSED
from fettle.recipe.recipe import MethodSection, Recipe
from fettle.recipe.resolve import Settings, resolve

DATA = {"data": {"path": ["a.csv"]}}


def load(method: dict[str, Any] | None = None, train: dict[str, Any] | None = None) -> Recipe:
    return load_recipe({**DATA, "method": method or {}, "train": train or {}})


def refuse(
    method: dict[str, Any] | None = None, train: dict[str, Any] | None = None
) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(method, train)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


def settled(recipe: Recipe, num_train: int = 24) -> Settings:
    return resolve(recipe, data_facts("chat", num_train), BASE, MACHINE, "loss")


IMPOSSIBLE = {
    # section, key, value, what the message says of what is allowed
    "rank 0": ("method", "rank", 0, "at least 1"),
    "rank -4": ("method", "rank", -4, "at least 1"),
    "rank 5000": ("method", "rank", 5000, "at most 1024"),
    "alpha 0": ("method", "alpha", 0, "above 0"),
    "dropout 1": ("method", "dropout", 1.0, "below 1"),
    "no layers": ("method", "layers", 0, "at least 1"),
    "ratio below 1": ("method", "plus_ratio", 0.5, "at least 1"),
    "unknown init": ("method", "init", "pisa", "pissa"),
    "negative rate": ("train", "learning_rate", -0.001, "above 0"),
    "rate 0": ("train", "learning_rate", 0, "above 0"),
    "batch 0": ("train", "batch_size", 0, "at least 1"),
    "no steps": ("train", "max_steps", 0, "at least 1"),
    "no epochs": ("train", "epochs", 0, "above 0"),
}


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"), IMPOSSIBLE.values(), ids=IMPOSSIBLE
)
def test_impossible_values(section: str, key: str, value: object, allowed: str) -> None:
    error = refuse(**{section: {key: value}})
    assert error.code == "E0205"
    assert f"{section}.{key} is {value!r}" in str(error)
    assert allowed in str(error)


CONFLICTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a rank for full": ({"type": "full", "rank": 8}, ("method.rank = 8", "method.type = full")),
    "dora for full": ({"type": "full", "dora": True}, ("method.dora = True", "full")),
    "targets for full": ({"type": "full", "target_modules": ["q"]}, ("target_modules", "full")),
    "layers for lora": ({"type": "lora", "layers": 3}, ("method.layers = 3", "lora")),
    "layers for full": ({"type": "full", "layers": 3}, ("method.layers = 3", "full")),
    "targets for last_n": ({"type": "last_n", "target_modules": ["q"]}, ("last_n",)),
    "options for lora": ({"type": "lora", "options": {"r": 3}}, ("method.options", "lora")),
    "a rank for ia3": ({"type": "ia3", "rank": 3}, ("method.rank = 3", "ia3")),
    "auto, rank and layers": ({"rank": 3, "layers": 4}, ("method.rank", "method.layers")),
    "auto and options": ({"options": {"r": 3}}, ("method.options",)),
    "odd and orthogonal": ({"rank": 7, "init": "orthogonal"}, ("method.rank = 7", "orthogonal")),
    "odd pattern": (
        {"rank": 8, "init": "orthogonal", "rank_pattern": {"q": 3}},
        ("rank_pattern of q = 3", "orthogonal"),
    ),
}


@pytest.mark.parametrize(("method", "words"), CONFLICTS.values(), ids=CONFLICTS)
def test_keys_that_contradict_each_other(method: dict[str, Any], words: tuple[str, ...]) -> None:
    error = refuse(method)
    assert error.code == "E0220"
    for word in words:
        assert word in error.message


@pytest.mark.parametrize("key", LORA_KEYS)
def test_no_key_of_lora_is_left_unread(key: str) -> None:
    values = {"rank": 4, "alpha": 2.0, "dropout": 0.1, "init": "pissa", "plus_ratio": 4.0}
    values |= {"rslora": True, "dora": True, "rank_pattern": {"q": 2}, "alpha_pattern": {"q": 2.0}}
    assert values.keys() == set(LORA_KEYS)
    for other in ("full", "last_n", "vera"):
        assert f"method.{key}" in refuse({"type": other, key: values[key]}).message
    assert settled(load({key: values[key]})).method == "lora", "auto follows the key"


def test_unknown_methods() -> None:
    error = refuse({"type": "LoRA"})
    assert (error.code, error.message) == ("E0205", "method.type is 'LoRA'; did you mean lora")
    assert "last_n" in error.why
    assert "ia3" in refuse({"type": "IA3"}).message
    for name in REFUSED:
        error = refuse({"type": name})
        assert error.code == "E0221"
        assert name in error.message
        assert error.why == REFUSED[name]
    for name in ("auto", "full", "lora", "last_n", *PASSED_THROUGH):
        load({"type": name})


def test_auto_follows_what_is_given() -> None:
    assert settled(load()).method == "full"
    assert settled(load({"rank": 4})).method == "lora"
    assert settled(load({"target_modules": ["attention"]})).method == "lora"
    settings = settled(load({"layers": 1}))
    assert settings.method == "last_n"
    assert settings.settings["method.type"].reason == "method.layers is given"
    assert settled(load({"type": "full"})).method == "full"


def test_a_recipe_that_was_written_out_is_no_conflict() -> None:
    for method in ({"type": "full"}, {"type": "last_n", "layers": 3}, {"rank": 3}, {"type": "ia3"}):
        recipe = load(method)
        import_again = load_recipe(recipe.model_dump(by_alias=True))
        assert import_again == recipe
        assert "rank" in dump_recipe(recipe)


def test_more_epochs_than_the_budget() -> None:
    error = refuse(train={"epochs": 50, "max_steps": 10})
    assert error.code == "E0222"
    assert "train.epochs = 50" in error.message
    assert "train.max_steps = 10" in error.message
    # 24 rows in batches of 8: three steps an epoch.
    recipe = load(train={"epochs": 4, "max_steps": 10, "batch_size": 8})
    with pytest.raises(RecipeError) as caught:
        settled(recipe)
    assert caught.value.code == "E0222"
    assert "train.epochs = 4 takes 12 steps" in caught.value.message
    assert "train.max_steps = 10" in caught.value.message
    for epochs, max_steps, steps in ((3, 10, 9), (3, 9, 9), (None, 10, 10), (3, None, 9)):
        train = {"epochs": epochs, "max_steps": max_steps, "batch_size": 8}
        assert settled(load(train=train)).num_steps == steps, train


def test_an_override_replaces_the_other_length_in_the_file() -> None:
    written = {**DATA, "train": {"epochs": 50}}
    recipe = load_recipe(written, ["train.max_steps=10"])
    assert (recipe.train.epochs, recipe.train.max_steps) == (None, 10)
    recipe = load_recipe({**DATA, "train": {"max_steps": 10}}, ["train.epochs=50"])
    assert (recipe.train.epochs, recipe.train.max_steps) == (50, None)
    with pytest.raises(RecipeError) as caught:
        load_recipe(DATA, ["train.epochs=50", "train.max_steps=10"])
    assert caught.value.where == "--set train.epochs"


def test_a_batch_of_more_rows_than_there_are() -> None:
    with pytest.raises(RecipeError) as caught:
        settled(load(train={"batch_size": 25}), num_train=24)
    assert (caught.value.code, caught.value.exit_code) == ("E0223", 2)
    assert "train.batch_size = 25" in caught.value.message
    assert "24 training rows" in caught.value.message
    assert settled(load(train={"batch_size": 24}), num_train=24).batch_size == 24
    assert settled(load(), num_train=3).batch_size == 3, "auto fits"


def test_every_key_of_the_section_belongs_to_a_method() -> None:
    known = {"type", "layers", "target_modules", "options", *LORA_KEYS}
    assert known == set(MethodSection.model_fields)
