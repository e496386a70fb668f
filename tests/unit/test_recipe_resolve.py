"""Resolving: every auto has a value and a reason, the user's word counts, and it reads back."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.train_fixture import BASE, MACHINE, data_facts

from fettle.errors import IntegrityError
from fettle.recipe import defaults
from fettle.recipe.keys import KEYS as RECIPE_KEYS
from fettle.recipe.recipe import Recipe
from fettle.recipe.resolve import KEYS, Settings, load_facts, load_settings, resolve
from fettle.records.facts import BaseFacts, DataFacts, MachineFacts

FACTS = {"base": {"id": "x"}, "data": {"task": "chat"}, "machine": {"device": "cpu"}}


def resolved(
    data: DataFacts | None = None,
    facts: BaseFacts = BASE,
    machine: MachineFacts = MACHINE,
    **sections: Any,
) -> Settings:
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, **sections})
    return resolve(recipe, data or data_facts(), facts, machine, "loss")


@pytest.mark.parametrize("task", ["classify", "chat", "text"])
def test_every_auto_has_a_value_and_a_reason(task: str) -> None:
    settings = resolved(data_facts(task))
    assert set(settings.settings) == set(KEYS.values())
    for key, setting in settings.settings.items():
        assert setting.source != "user", key
        assert setting.value is not None, key
        if RECIPE_KEYS[key].auto:
            assert setting.reason, f"{key} has no reason"


def test_a_verdict_by_answers_needs_all_of_them() -> None:
    data = data_facts("chat")
    data = replace(data, num_rows={**data.num_rows, "holdout": 5_000})
    assert resolved(data).generate_rows < 5_000
    assert resolved(data, evaluate={"metric": "chrf"}).generate_rows == 5_000


USER: dict[str, dict[str, Any]] = {
    "method": {
        "type": "lora",
        "layers": 3,
        "rank": 4,
        "alpha": 5.0,
        "dropout": 0.0,  # any would rule out the shared prefix below
        "target_modules": ["q"],
        "rslora": True,
        "dora": True,
        "init": "gaussian",
        "plus_ratio": 8.0,
        "rank_pattern": {"q": 2},
        "alpha_pattern": {"q": 3.0},
        "options": {"x": 1},
    },
    "train": {
        "learning_rate": 1e-3,
        "batch_size": 3,
        "epochs": 2.125,  # 17 steps: 24 rows in batches of 3
        "max_steps": 17,
        "schedule": "cosine",
        "optimizer": "muon",
        "warmup_fraction": 0.3,
        "weight_decay": 0.0,
        "max_gradient_norm": 2.0,
        "max_length": 64,
        "overlong": "cut",
        "answers": "last",
        "class_weights": "balanced",
        "padding_free": True,
        "shared_prefix": True,
        "compile": True,
        "micro_batch_tokens": 100,
        "evaluate_every": 5,
        "checkpoint_every": 6,
        "patience": 2,
        "threads": 3,
    },
    "base": {"dtype": "bfloat16"},
    "evaluate": {
        "metric": "perplexity",
        "alpha": 0.01,
        "minimum_difference": 0.5,
        "resamples": 500,
        "generate_rows": 7,
        "max_new_tokens": 9,
    },
}


def test_the_users_values_win() -> None:
    settings = resolved(facts=replace(BASE, packs=True), **USER, task="chat", seed=5)
    assert {setting.source for setting in settings.settings.values()} == {"user"}
    for section, values in USER.items():
        for name, value in values.items():
            assert settings.settings[f"{section}.{name}"].value == value
    assert (settings.rank, settings.alpha, settings.target_modules) == (4, 5.0, ("q",))
    assert (settings.num_steps, settings.warmup_steps) == (17, 6)
    assert (settings.alpha_level, settings.alpha, settings.seed) == (0.01, 5.0, 5)


def test_without_padding_wherever_the_base_can_be() -> None:
    can, can_not = replace(BASE, packs=True), replace(BASE, packs=False)
    assert resolved(facts=can).padding_free
    assert not resolved(facts=can, train={"padding_free": False}).padding_free
    assert not resolved(facts=can_not).padding_free
    asked = resolved(facts=can_not, train={"padding_free": True})
    assert not asked.padding_free
    setting = asked.settings["train.padding_free"]
    assert (setting.source, setting.value) == ("detected", False)
    assert setting.reason.startswith("asked for, but the attention of llama")


@given(st.integers(32, 8192))
def test_the_lora_rate_is_ten_times_the_full_one(width: int) -> None:
    base = replace(BASE, hidden_size=width)
    full = resolved(facts=base, method={"type": "full"}).learning_rate
    lora = resolved(facts=base, method={"type": "lora"}).learning_rate
    # Both are rounded to two digits.
    assert lora == pytest.approx(10 * full, rel=0.06)


@pytest.mark.parametrize("task", ["classify", "chat", "text"])
@pytest.mark.parametrize("sections", [{}, USER, {"train": {"max_length": 4096}}])
def test_settings_read_back_equal(task: str, sections: dict[str, Any]) -> None:
    settings = resolved(data_facts(task), **sections)
    text = settings.dumps(FACTS)
    assert load_settings(text) == settings
    assert load_facts(text) == FACTS
    assert yaml.safe_load(text)["schema"] == 1


@given(
    st.floats(1e-7, 1.0, allow_nan=False),
    st.floats(0.0, 0.99),
    st.integers(1, 10**6),
)
def test_any_number_reads_back_equal(rate: float, warmup: float, steps: int) -> None:
    train = {"learning_rate": rate, "warmup_fraction": warmup, "max_steps": steps}
    settings = resolved(train=train)
    assert load_settings(settings.dumps(FACTS)) == settings


def test_a_length_beyond_the_base_is_brought_down_and_said() -> None:
    settings = resolved(train={"max_length": 4096})
    assert settings.max_length == BASE.context_length == 128
    setting = settings.settings["train.max_length"]
    assert setting.value == 128
    assert "4096 was asked for" in setting.reason


def test_rows_longer_than_the_base_reads() -> None:
    setting = resolved(data_facts(max_tokens=1000)).settings["train.max_length"]
    assert setting.value == 128
    assert "the longest row has 1000" in setting.reason


@pytest.mark.parametrize(
    "text", ["", "[]", "schema: 1", "values: []", "values: {task: 3}", ": :", "{", "values: {}"]
)
def test_a_damaged_file_is_an_integrity_error(text: str) -> None:
    for load in (load_settings, load_facts):
        with pytest.raises(IntegrityError) as caught:
            load(text)
        assert (caught.value.code, caught.value.exit_code) == ("E0904", 9)


def test_steps_follow_from_epochs_and_batch_size() -> None:
    settings = resolved(data_facts(num_train=100), train={"epochs": 2.5, "batch_size": 8})
    assert settings.num_steps == 33  # 2.5 * 13, rounded up
    assert settings.evaluate_every == 7
    assert settings.settings["train.max_steps"].reason == "2.5 epochs of 13 steps"


def test_a_big_base_gets_an_adapter() -> None:
    small, big = replace(BASE, num_parameters=5_000_000), replace(BASE, num_parameters=10**9)
    assert resolved(facts=small).method == "full"
    assert resolved(facts=big).method == "lora"
    tight = replace(MACHINE, memory_bytes=10**8)
    assert resolved(facts=small, machine=tight).method == "lora"


@pytest.mark.parametrize(
    ("speeds", "device", "expected"),
    [
        ({"float32": 50.0, "bfloat16": 20.0}, "cpu", "float32"),
        ({"float32": 50.0, "bfloat16": 90.0}, "cpu", "float32"),
        ({"float32": 50.0, "bfloat16": 400.0}, "cpu", "bfloat16"),
        ({"float32": 5000.0, "bfloat16": 6000.0}, "cuda", "bfloat16"),
        ({}, "cpu", "float32"),
    ],
)
def test_the_dtype_follows_the_probe(speeds: dict[str, float], device: str, expected: str) -> None:
    machine = replace(MACHINE, gflops=speeds, device=device)
    assert resolved(machine=machine).dtype == expected


@given(st.sampled_from(["classify", "chat", "text"]), st.integers(1, 10**6))
def test_sizes_are_sane_for_any_number_of_rows(task: str, rows: int) -> None:
    size, _ = defaults.batch_size(rows)
    passes, _ = defaults.epochs(task, rows)
    assert min(8, rows) <= size <= 256
    assert size & (size - 1) == 0 or size == rows, "a power of two, or all there are"
    assert 1.0 <= passes <= 20.0
    steps = max(1, round(passes * rows / size))
    every, reason = defaults.evaluate_every(steps, -(-rows // size))
    assert 1 <= every <= max(1, min(500, steps))
    assert str(-(-steps // every)) in reason


def test_a_prefix_is_shared_only_where_the_engine_does_it() -> None:
    """The resolved recipe says what happens, and why."""
    data = replace(data_facts(), shared_tokens=16, train_tokens=600)
    plain = replace(BASE, packs=True)
    drops = replace(plain, dropout="resid_pdrop 0.1")
    assert resolved(data, plain).shared_prefix
    cases = {
        "base's own dropout (resid_pdrop 0.1)": resolved(data, drops),
        "method.dropout": resolved(data, plain, method={"dropout": 0.1}),
        "only decoders": resolved(data, BASE),
    }
    asked = {"shared_prefix": True}
    cases |= {
        "asked for, but the base's own dropout": resolved(data, drops, train=asked),
        "asked for, but method.dropout": resolved(
            data, plain, method={"dropout": 0.1}, train=asked
        ),
        "asked for, but only decoders": resolved(data, BASE, train=asked),
    }
    for reason, settings in cases.items():
        assert not settings.shared_prefix
        assert reason in settings.settings["train.shared_prefix"].reason


def test_a_plan_with_compiling_says_what_its_estimates_leave_out() -> None:
    found = resolved(train={"compile": True}).settings["train.compile"]
    assert (found.value, found.source) == (True, "user")
    assert "estimates of time and memory are those without it" in found.reason
