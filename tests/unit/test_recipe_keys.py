"""The table of keys: complete, described, and without two keys that mean the same."""

from pydantic_core import PydanticUndefined

from fettle.recipe.keys import KEYS, SECTIONS, nearest, recipe_reference
from fettle.recipe.recipe import Recipe


def test_every_key_has_a_meaning_and_says_what_is_allowed() -> None:
    for key in KEYS.values():
        assert key.meaning.endswith("."), key.path
        assert key.allowed, key.path


def test_the_contract_names_exist() -> None:
    contract = {
        "train.max_steps",
        "train.checkpoint_every",
        "train.learning_rate",
        "train.batch_size",
        "train.epochs",
        "method.type",
        "method.rank",
        "evaluate.metric",
    }
    assert contract <= set(KEYS)


def test_keys_are_those_of_the_recipe() -> None:
    dumped = Recipe.model_validate({"data": {"path": "a"}}).model_dump(by_alias=True)
    paths = [
        f"{name}.{key}" if name in SECTIONS else name
        for name, value in dumped.items()
        for key in (value if name in SECTIONS else [""])
    ]
    assert sorted(paths) == sorted(KEYS)
    assert [key.path for key in KEYS.values() if key.default is PydanticUndefined] == ["data.path"]


def test_auto_is_named_only_where_it_is_accepted() -> None:
    assert KEYS["train.epochs"].auto
    assert KEYS["train.epochs"].allowed == "a number, above 0 or `auto`"
    assert not KEYS["train.max_steps"].auto
    assert KEYS["train.max_steps"].allowed == "a whole number, at least 1 or `null`"
    assert KEYS["data.path"].allowed == "text or a list of texts"


def test_nearest() -> None:
    assert nearest("evaluate.seed") == "seed"
    assert nearest("method.typ") == "method.type"
    assert nearest("traim") == "train"
    assert nearest("zzzzzzzz") is None


def test_reference_has_one_row_for_each_key() -> None:
    lines = recipe_reference().splitlines()
    for path in KEYS:
        assert sum(line.startswith(f"| `{path}` |") for line in lines) == 1
    assert all(line.count(" | ") == 3 for line in lines if line.startswith("| `"))
