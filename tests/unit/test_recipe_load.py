"""Recipes: what is read, what is refused and with which words, and the way back to YAML."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fettle.errors import RecipeError
from fettle.recipe.keys import KEYS, SECTIONS
from fettle.recipe.load import MAX_BYTES, dump_recipe, load_recipe
from fettle.recipe.recipe import Recipe

MINIMAL = {"data": {"path": ["rows.csv"]}}


def refuse(source: Path | dict[str, object], *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)
    assert caught.value.exit_code == 2
    return caught.value


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_mapping_gives_the_defaults_and_auto_is_none() -> None:
    recipe = load_recipe({**MINIMAL, "task": "auto", "train": {"batch_size": "auto"}})
    assert recipe == Recipe.model_validate(MINIMAL)
    assert recipe.train.batch_size is None


def test_paths_of_a_file_are_taken_from_its_folder(tmp_path: Path) -> None:
    text = "data: {path: rows.csv, eval: [/abs/holdout.csv, more/x.jsonl]}\nbase: {id: org/name}\n"
    recipe = load_recipe(write(tmp_path, text), ["base.offline=true"])
    assert recipe.data.path == [str(tmp_path / "rows.csv")]
    assert recipe.data.eval == ["/abs/holdout.csv", str(tmp_path / "more/x.jsonl")]
    assert recipe.base.id == "org/name"
    assert load_recipe(write(tmp_path, text), ["base.id=./here"]).base.id == "./here"
    local = load_recipe(write(tmp_path, "data: {path: a.csv}\nbase: {id: ./model}\n"))
    assert local.base.id == str(tmp_path / "model")


def test_overrides_win_and_the_last_one_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "data: {path: [a.csv]}\ntrain: {epochs: 1, batch_size: 4}\n")
    recipe = load_recipe(
        path,
        ["train.epochs=2", "train.epochs=3", "data.path=[x.csv, y.csv]", "seed=7", "task=chat"],
    )
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.seed) == (3, 4, 7)
    assert recipe.data.path == ["x.csv", "y.csv"]
    assert recipe.task == "chat"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.learning_rate=1e-4", 1e-4),
        ("train.learning_rate=2E-5", 2e-5),
        ("train.learning_rate=.5", 0.5),
        ("train.learning_rate=auto", None),
        ("data.text=yes", "yes"),
        ("data.text=0", "0"),
        ("data.label=2024-01-01", "2024-01-01"),
        ("data.group=null", None),
        ("data.delimiter='\t'", "\t"),
        ("data.header=true", True),
        ("base.revision=007", "007"),
        ("evaluate.metric=bleu:tokenize=none", "bleu:tokenize=none"),
        ("train.epochs=1_000", 1000.0),
        ("data.text=012", "012"),
        ("data.text=off", "off"),
    ],
)
def test_scalars_are_read_as_yaml_1_2(override: str, value: object) -> None:
    section, name = override.partition("=")[0].split(".")
    assert getattr(getattr(load_recipe(MINIMAL, [override]), section), name) == value


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.learning_rat", "train.learning_rate"),
        ("trian.epochs", "train.epochs"),
        ("batch_size", "train.batch_size"),
        ("train.rank", "method.rank"),
        ("evaluate.metrics", "evaluate.metric"),
        ("sed", "seed"),
    ],
)
def test_unknown_key_names_the_nearest_known_one(tmp_path: Path, key: str, meant: str) -> None:
    error = refuse(MINIMAL, f"{key}=1")
    assert error.code == "E0204"
    assert f"unknown key {key}; did you mean {meant}" in str(error)
    section, _, name = key.rpartition(".")
    text = f"{section}:\n  {name}: 1\n" if section else f"{name}: 1\n"
    path = write(tmp_path, f"data:\n  path: a.csv\n{text}")
    error = refuse(path)
    assert error.code == "E0204"
    assert str(path) in error.where


def test_unknown_key_is_located(tmp_path: Path) -> None:
    error = refuse(write(tmp_path, "data:\n  path: a.csv\ntrain:\n  # rate\n  learning_rte: 1\n"))
    assert error.where.endswith("recipe.yaml:5:3")
    assert error.hint == "write train.learning_rate"


def test_unknown_key_far_from_all_lists_the_known_ones() -> None:
    error = refuse(MINIMAL, "train.qqqqqq=1")
    assert "did you mean" not in str(error)
    assert "train.epochs" in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {batch_size: many}", "train.batch_size is 'many'; allowed is a whole number, at"),
        ("train: {batch_size: 0}", "train.batch_size is 0; allowed is a whole number, at least 1"),
        ("train: {batch_size: true}", "train.batch_size is True; allowed is a whole number"),
        ("train: {learning_rate: .inf}", "train.learning_rate is inf; allowed is a number"),
        ("train: {schedule: auto}", "'auto'; allowed is one of linear, cosine, constant"),
        ("method: {target_modules: [1]}", "method.target_modules is 1; allowed is a list of texts"),
        ("task: sing", "task is 'sing'; allowed is one of classify, regress, chat, text or auto"),
        ("method: [lora]", "method is ['lora']; allowed is a section"),
        ("data.path: a.csv", "unknown key data.path at the top level; path belongs under data"),
        ("base: {revision: 12e456}", "Without quotes it is read as a number"),
    ],
)
def test_values_that_are_not_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, f"data:\n  path: [a.csv]\n{text}\n" if "path" not in text else text)
    error = refuse(path)
    assert message in str(error)
    assert error.code == ("E0204" if "unknown" in message else "E0205")


def test_a_wrong_value_is_located_and_the_others_are_named(tmp_path: Path) -> None:
    text = "data:\n  path: a.csv\ntrain:\n  epochs: -1\n  batch_size: x\n"
    error = refuse(write(tmp_path, text))
    assert error.where.endswith(("recipe.yaml:4:3", "recipe.yaml:5:3"))
    assert "Also not right: train." in error.why
    assert refuse(MINIMAL, "train.epochs=-1").where == "--set train.epochs"


def test_yaml_errors_have_line_and_column(tmp_path: Path) -> None:
    error = refuse(write(tmp_path, "data:\n  path: [a.csv\ntrain: {}\n"))
    assert error.code == "E0202"
    assert error.where.rpartition("recipe.yaml")[2] == ":3:6"
    tag = refuse(write(tmp_path, "data: !!python/object/apply:os.system [id]\n"))
    assert tag.code == "E0202"


def test_deep_nesting_and_alias_bombs_end_quickly(tmp_path: Path) -> None:
    assert refuse(write(tmp_path, "data: " + "[" * 5_000)).code == "E0202"
    levels = ["a0: &a0 [x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 25)
    ]
    bomb = "data:\n  path: *a24\n"
    assert refuse(write(tmp_path, "\n".join(levels) + "\n" + bomb)).code == "E0204"


def test_duplicate_keys(tmp_path: Path) -> None:
    error = refuse(write(tmp_path, "data: {path: a}\ntrain:\n  epochs: 1\n  epochs: 2\n"))
    assert error.code == "E0203"
    assert "train.epochs is given twice" in str(error)
    assert error.where.endswith(":4:3")
    assert "line 3" in error.why
    assert refuse(write(tmp_path, "data: {path: a}\ndata: {path: b}\n")).code == "E0203"


@pytest.mark.parametrize("text", ["", "task: chat\n", "data: {}\n", "data:\n"])
def test_missing_path(tmp_path: Path, text: str) -> None:
    error = refuse(write(tmp_path, text or "{}"))
    assert error.code == "E0206"
    assert "data.path is missing" in str(error)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n", "42\n"])
def test_a_document_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert refuse(write(tmp_path, text)).code == "E0205"


@pytest.mark.parametrize("override", ["train.epochs", "=3", "", "train=3", "train={epochs: 3}"])
def test_overrides_without_key_or_value(override: str) -> None:
    assert refuse(MINIMAL, override).code == "E0207"


def test_unreadable_files(tmp_path: Path) -> None:
    assert refuse(tmp_path / "absent.yaml").code == "E0201"
    assert refuse(tmp_path).code == "E0201"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert refuse(binary).code == "E0201"
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    assert refuse(big).code == "E0201"


@pytest.mark.parametrize("version", [2, "1", True, None])
def test_other_schema_versions(version: object) -> None:
    assert refuse({**MINIMAL, "schema": version}).code == "E0208"


def test_dump_names_every_key_and_loads_back_from_anywhere(tmp_path: Path) -> None:
    recipe = load_recipe(
        {"data": {"path": "rows.csv", "label": "0"}, "base": {"id": "./here"}},
        ["train.learning_rate=3e-5", "task=classify"],
    )
    text = dump_recipe(recipe)
    document = yaml.safe_load(text)
    written = {
        f"{name}.{key}" if isinstance(value, dict) else name
        for name, value in document.items()
        for key in (value if isinstance(value, dict) else [""])
    }
    assert written == set(KEYS)
    assert document["method"]["rank"] == "auto"
    assert document["train"]["max_steps"] is None
    assert document["data"]["path"] == [str(Path.cwd() / "rows.csv")]
    again = load_recipe(write(tmp_path, text))
    assert dump_recipe(again) == text
    assert again.train == recipe.train
    assert again.data.label == "0"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=8,
    ),
    st.sampled_from(sorted(KEYS) + sorted(SECTIONS)),
)
def test_any_value_anywhere_gives_a_recipe_or_a_recipe_error(value: object, path: str) -> None:
    section, _, name = path.rpartition(".")
    document: dict[str, object] = {"data": {"path": ["a"]}}
    if section:
        document[section] = {**({"path": ["a"]} if section == "data" else {}), name: value}
    else:
        document[name] = value
    code = ""
    try:
        text = dump_recipe(load_recipe(document))
        assert dump_recipe(load_recipe(yaml.safe_load(text))) == text
    except RecipeError as error:
        code = error.code
    assert code in {"", "E0204", "E0205", "E0206", "E0208", "E0220"}


def test_one_entry_of_a_table_can_be_set() -> None:
    given = {"data": {"path": ["a.csv"], "policies": {"secret": "error", "empty": "error"}}}
    entries = ("data.policies.personal_data=fix", "data.policies.secret=fix")
    found = load_recipe(given, [*entries, "train.class_weights.v1.2=3"])
    assert found.data.policies == {"secret": "fix", "empty": "error", "personal_data": "fix"}
    assert found.train.class_weights == {"v1.2": 3.0}
    assert given["data"]["policies"] == {"secret": "error", "empty": "error"}
    with pytest.raises(RecipeError) as caught:
        load_recipe(given, ["data.policies.personal_data=sometimes"])
    assert "--set data.policies" in str(caught.value)
    with pytest.raises(RecipeError) as caught:
        load_recipe(given, ["data.path.first=a"])
    assert caught.value.code == "E0204"
