"""What rows mean: layouts, columns, tasks, and the questions where two readings are plausible."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fettle.data.meaning.detect import Layout, detect
from fettle.data.reading.names import split_of
from fettle.errors import DataError, UsageError
from fettle.recipe.recipe import DataSection, Task
from fettle.records.rows import RawRow

WORDS = (
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "near", "some", "old",
    "river", "bank", "today",
)  # fmt: skip


def prose(seed: int, length: int = 9) -> str:
    return " ".join(WORDS[(seed * 7 + i * (seed % 5 + 1)) % len(WORDS)] for i in range(length)) + (
        f" {seed}"
    )


def rows_of(columns: Mapping[str, Any], number: int = 60) -> list[RawRow]:
    """Rows whose values are functions of the row number."""
    return [
        RawRow("data.csv", i + 1, i + 2, {name: value(i) for name, value in columns.items()})
        for i in range(number)
    ]


def found(columns: Mapping[str, Any], task: Task | None = None, **options: Any) -> Layout:
    return detect(rows_of(columns), DataSection(path=["data.csv"], **options), task)


def label(i: int) -> str:
    return ("refund", "delivery", "account")[i % 3]


def long(i: int) -> str:
    return prose(i + 100, 25)


def turns(first: str, second: str, key: str, content: str) -> Any:
    return lambda i: [{key: first, content: prose(i)}, {key: second, content: prose(i)}]


@pytest.mark.parametrize(
    ("columns", "name", "mapping"),
    [
        (["text", "label"], "text_label", {"text": "text", "label": "label"}),
        (["Review Text", "Sentiment"], "text_label",
         {"text": "Review Text", "label": "Sentiment"}),
        (["utterance", "intent"], "text_label", {"text": "utterance", "label": "intent"}),
        (["prompt", "completion"], "prompt_completion",
         {"prompt": "prompt", "completion": "completion"}),
        (["question", "answer"], "prompt_completion",
         {"prompt": "question", "completion": "answer"}),
        (["instruction", "response"], "prompt_completion",
         {"prompt": "instruction", "completion": "response"}),
        (["dialogue", "summary"], "prompt_completion",
         {"prompt": "dialogue", "completion": "summary"}),
        (["instruction", "input", "output"], "alpaca",
         {"prompt": "instruction", "context": "input", "completion": "output"}),
        (["context", "question", "answer"], "prompt_completion",
         {"prompt": "question", "completion": "answer", "context": "context"}),
        (["text"], "text", {"text": "text"}),
    ],
)  # fmt: skip
def test_layouts_by_name(columns: Sequence[str], name: str, mapping: Mapping[str, str]) -> None:
    makers = {"label": label, "Sentiment": label, "intent": label}
    layout = found({column: makers.get(column, prose) for column in columns})
    assert (layout.name, dict(layout.columns)) == (name, mapping)
    assert layout.ambiguities == ()
    assert all(f'"{column}"' in layout.reason for column in mapping.values())


@pytest.mark.parametrize(
    ("key", "content", "first", "second", "name"),
    [
        ("role", "content", "user", "assistant", "messages"),
        ("from", "value", "human", "gpt", "sharegpt"),
        ("speaker", "text", "customer", "agent", "sharegpt"),
    ],
)
def test_conversations_by_their_turns(
    key: str, content: str, first: str, second: str, name: str
) -> None:
    layout = found({"id": str, "stuff": turns(first, second, key, content), "note": prose})
    assert (layout.name, layout.columns["messages"]) == (name, "stuff")


def test_a_system_that_answers_is_the_assistant() -> None:
    layout = found({"turns": turns("USER", "SYSTEM", "speaker", "utterance")})
    assert layout.roles == {"system": "assistant"}
    usual = found({"turns": lambda i: [
        {"role": role, "content": prose(i)} for role in ("system", "user", "assistant")
    ]})  # fmt: skip
    assert usual.roles == {}


def test_columns_without_names_are_found_by_their_values() -> None:
    layout = found({"0": lambda i: str(10**12 + i), "1": label, "2": prose, "3": lambda i: ""})
    assert dict(layout.columns) == {"text": "2", "label": "1"}
    assert layout.ambiguities == ()
    reversed_columns = found({"0": prose, "1": lambda i: str(i % 4), "2": lambda i: f"x{i}y"})
    assert dict(reversed_columns.columns) == {"text": "0", "label": "1"}


@pytest.mark.parametrize(
    ("columns", "layout_name", "options"),
    [
        ({"instruction": prose, "response": long, "intent": label}, "prompt_completion",
         ["--task classify", "--label intent"]),
        ({"input": prose, "target": lambda i: str(i % 2)}, "prompt_completion",
         ["--task classify", "--label target"]),
        ({"text": prose, "label": label, "category": lambda i: "xy"[i % 2]}, "text_label",
         ["--label category"]),
        ({"id": str, "section": label, "text": prose, "dialogue": long}, "text_label",
         ["--task chat", "--prompt dialogue"]),
        ({"left": prose, "right": long}, "prompt_completion",
         ["--prompt", "--completion", "--task text"]),
        ({"text": prose, "label": label, "conversation_id": lambda i: str(i // 5)}, "text_label",
         ["--group conversation_id"]),
        ({"text": prose, "label": label, "Customer": lambda i: f"Smith {i // 4}"}, "text_label",
         ["--group Customer"]),
        ({"text": prose, "label": lambda i: "1,2" if i % 9 == 0 else str(i % 3)}, "text_label",
         ["several labels"]),
        ({"text": prose, "label": label, "split": lambda i: ("train", "test")[i % 4 == 0]},
         "text_label", ['"split"']),
    ],
)  # fmt: skip
def test_a_second_reading_is_a_question_that_names_the_option(
    columns: Mapping[str, Any], layout_name: str, options: Sequence[str]
) -> None:
    layout = found(columns)
    assert layout.name == layout_name
    said = "\n".join(layout.ambiguities)
    assert all(option in said for option in options), said


def test_following_the_question_leads_to_the_other_reading() -> None:
    columns = {"instruction": prose, "response": long, "intent": label}
    layout = found(columns, "classify", text="instruction", label="intent")
    assert dict(layout.columns) == {"text": "instruction", "label": "intent"}
    assert found(columns, "classify").columns["label"] == "intent"
    assert found(columns, "text", text="response").name == "text"


def test_what_the_user_names_wins() -> None:
    columns = {"a": prose, "b": long, "c": label, "text": prose, "label": label}
    assert dict(found(columns, text="a", label="c").columns) == {"text": "a", "label": "c"}
    assert found(columns, text="0", label="2").columns["text"] == "a"
    assert dict(found(columns, prompt="a", completion="b").columns) == {
        "prompt": "a", "completion": "b",
    }  # fmt: skip
    assert found(columns, layout="prompt_completion", prompt="a", completion="b").task == "chat"
    named = found(columns, group="c", time="b", text="a", label="label")
    assert (named.columns["group"], named.columns["time"]) == ("c", "b")


def test_a_missing_column_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no column 'lable'") as caught:
        found({"text": prose, "label": label}, label="lable")
    assert caught.value.code == "E0134"
    assert "--label label" in caught.value.hint
    assert "text, label" in caught.value.where
    with pytest.raises(UsageError):
        found({"text": prose, "label": label}, group="nowhere")


def test_layout_and_task_must_agree() -> None:
    with pytest.raises(UsageError, match="not classify"):
        found({"text": prose, "label": label}, "classify", layout="alpaca")


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ({"a": str, "b": lambda i: str(i * 3)}, None),
        ({"text": prose}, "classify"),
        ({"text": prose, "label": label}, "chat"),
        ({"chosen": prose, "rejected": long}, None),
        ({"number": str}, "text"),
    ],
)
def test_nothing_fits_is_an_error_with_the_columns(
    columns: Mapping[str, Any], task: Task | None
) -> None:
    with pytest.raises(DataError) as caught:
        found(columns, task)
    assert caught.value.code == "E0330"
    assert all(f'"{name}"' in caught.value.where for name in columns)
    assert "--" in caught.value.hint


def test_the_order_of_rows_plays_no_part() -> None:
    rows = rows_of({"0": str, "1": label, "2": prose, "3": lambda i: str(i % 7)})
    section = DataSection(path=["data.csv"])
    assert detect(rows, section, None) == detect(rows[::-1], section, None)


@pytest.mark.parametrize(
    ("value", "side"),
    [("train", "train"), ("Training", "train"), ("oos_train", "train"), ("dev", "validation"),
     ("VAL", "validation"), ("validation", "validation"), ("test", "holdout"),
     ("gold-test", "holdout"), ("eval", "holdout"), ("holdout", "holdout"), ("foo", None),
     ("trainer", None), ("", None)],
)  # fmt: skip
def test_names_of_splits(value: str, side: str | None) -> None:
    assert split_of(value) == side


def numbers(i: int) -> str:
    return f"{(i * 37) % 53 / 4}"


def test_many_different_numbers_are_predicted_as_numbers():
    layout = found({"text": prose, "label": numbers})
    assert (layout.name, layout.task, layout.columns["label"]) == ("text_label", "regress", "label")
    assert any("--task classify" in line for line in layout.ambiguities)
    layout = found({"text": prose, "label": numbers}, task="classify")
    assert layout.task == "classify"


def test_few_numbers_are_classes():
    layout = found({"text": prose, "label": lambda i: str(i % 5)})
    assert layout.task == "classify"
    halves = found({"text": prose, "label": lambda i: f"{i % 5 / 2}"})
    assert halves.task == "classify"
    assert any("--task regress" in line for line in halves.ambiguities)
    asked = found({"text": prose, "label": lambda i: str(i % 5)}, task="regress")
    assert asked.task == "regress"


def test_whole_numbers_without_repetition_are_numbers():
    layout = found({"text": prose, "label": lambda i: str((i * 7919) % 1009)})
    assert layout.task == "regress"


def test_the_column_of_numbers_is_found():
    columns = {"id": str, "text": prose, "price": numbers}
    assert found(columns, task="regress").columns["label"] == "price"
    layout = found({"text": prose, "x": numbers, "z": lambda i: str(i % 7)}, task="regress")
    assert layout.columns["label"] == "x"
    assert any("--label z" in line for line in layout.ambiguities)
    with pytest.raises(DataError, match="task regress"):
        found({"text": prose}, task="regress")


def test_lists_of_labels_are_several_labels_a_row():
    def several(i: int) -> list[str]:
        return [name for bit, name in enumerate(("late", "rude", "lost")) if i >> bit & 1]

    layout = found({"text": prose, "labels": several})
    assert (layout.task, layout.multi_label, layout.separator) == ("classify", True, None)
    assert "3 labels, any number a row" in layout.reason
    assert found({"text": prose, "flags": several}).columns["label"] == "flags"
    assert not found({"text": prose, "label": label}).multi_label


def test_a_separator_makes_several_labels_a_row():
    columns = {"text": prose, "label": lambda i: ("a|b", "b", "")[i % 3]}
    layout = found(columns, label_separator="|")
    assert (layout.task, layout.multi_label, layout.separator) == ("classify", True, "|")
    assert "2 labels, any number a row" in layout.reason
    plain = found({"text": prose, "label": lambda i: ("a,b", "b", "a")[i % 3]})
    assert not plain.multi_label
    assert any("data.label_separator" in line for line in plain.ambiguities)
    with pytest.raises(UsageError) as caught:
        found({"text": prose, "label": numbers}, task="regress", label_separator=",")
    assert caught.value.code == "E0135"
