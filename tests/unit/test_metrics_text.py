"""Graders of answers: known right and wrong ones, with the reason, and rows without a value."""

import gzip
import json
from decimal import Decimal

import pytest

from fettle.errors import UsageError
from fettle.evaluate.grade import grade
from fettle.metrics import METRICS, find_metric, match
from fettle.metrics.match import all_numbers, final_number, normalized
from fettle.records.outcomes import Prediction


def row(prediction, reference="", **more):
    return Prediction("r1", prediction, reference, **more)


def judged(name, one):
    """Value and reason; or None and what the row lacks."""
    metric = find_metric(name)
    lack = metric.lack(one)
    return (None, lack) if lack is not None else (metric.per_row(one), metric.reason(one))


MATCHES = [
    ("normalized_match", row("The  Eiffel-Tower!", "eiffeltower"), 1.0),
    ("normalized_match", row("an apple", ("pear", "Apple.")), 1.0),
    ("normalized_match:articles=yes", row("an apple", "apple"), 0.0),
    ("normalized_match", row("apples", "apple"), 0.0),
    ("numeric_answer", row("so 3 + 4 = 7 eggs", "#### 7"), 1.0),
    ("numeric_answer", row("#### 1,234\nnot 5", "1234.0"), 1.0),
    ("numeric_answer", row("it is 5, not 7", "7.00"), 1.0),
    ("numeric_answer", row("7 apples and 5", "7"), 0.0),
    ("numeric_answer", row("none", "7"), 0.0),
    ("numeric_answer:tolerance=0.01", row("3.14", "3.15"), 1.0),
    ("numeric_answer:tolerance=0.009", row("3.14", "3.15"), 0.0),
    ("contains", row("It is in PARIS, France", "paris"), 1.0),
    ("contains:case=yes", row("It is in PARIS", "paris"), 0.0),
    ("contains", row("a category", "cat"), 1.0),
    ("contains:words=yes", row("a category", "cat"), 0.0),
    ("contains:words=yes", row("my cat's toy", "cat"), 1.0),
    ("contains", row("new\n york", "New York"), 1.0),
    (r"regex:pattern=^\d{2,3}$", row("123"), 1.0),
    (r"regex:pattern=^\d{2,3}$", row("1234"), 0.0),
    ("regex:full=yes,pattern=a,b", row(" a,b\n"), 1.0),
    ("regex:full=yes,pattern=a,b", row("a,b,c"), 0.0),
    ("regex", row("order 7 shipped", r"order \d+"), 1.0),
    ("valid_json", row(' {"a": [1, null]} '), 1.0),
    ("valid_json", row("{'a': 1}"), 0.0),
    ("valid_json", row("NaN"), 0.0),
    ("valid_json", row('{"a": 1, "a": 2}'), 0.0),
    ("valid_json", row("[" * 500 + "]" * 500), 0.0),
    ("valid_json", row("[" * 100_000), 0.0),
    ("valid_json", row(""), 0.0),
    ("valid_json", row('```json\n{"a": 1}\n```'), 0.0),
    ("valid_json:fences=yes", row('```json\n{"a": 1}\n```'), 1.0),
]


@pytest.mark.parametrize(("name", "one", "expected"), MATCHES)
def test_known_answers(name, one, expected):
    value, reason = judged(name, one)
    assert value == expected
    assert bool(reason) is (value == 0.0), "a wrong answer says why"
    assert find_metric(name).binary


def test_reasons_say_what_was_wrong():
    assert judged("numeric_answer", row("about 5", "#### 7"))[1] == "5 is not 7"
    assert judged("numeric_answer", row("five", "7"))[1] == "no number in the answer, expected 7"
    assert "Expecting property name" in judged("valid_json", row("{'a': 1}"))[1]
    assert judged("valid_json", row('{"a": 1, "a": 2}'))[1].endswith("the key 'a' occurs twice")
    assert judged("contains", row("x", ("one", "two")))[1] == "'one' or 'two' is not in it"


ROWS_WITHOUT_A_VALUE = [
    ("numeric_answer", row("7", "no number"), "no number in its reference"),
    ("contains", row("x", " "), "an empty reference"),
    ("contains", row("x", ("", "")), "an empty reference"),
    ("regex", row("x", ""), "an empty pattern"),
    ("regex", row("x", "(x"), "no valid pattern"),
    ("regex", row("a" * 40 + "b", "(a|aa)+$"), "no end of a search"),
    ("json_schema", row("1", "no schema"), "no JSON schema in its reference"),
    ("json_schema", row("1", '{"type": "nonsense"}'), "no JSON schema in its reference"),
    ("json_schema", row("1", '{"$ref": "https://example.org/x"}'), "no usable schema"),
    ("constraints", row("x"), "no list of constraints"),
    ("constraints", row("x", constraints=()), "an empty list of constraints"),
    ("constraints", row("x", constraints=({"max_word": 3},)), "no valid constraint"),
    ("constraints", row("x", constraints=({"max_words": "3"},)), "no valid constraint"),
    ("constraints", row("x", constraints=({"max_words": -1},)), "no valid constraint"),
    ("constraints", row("x", constraints=({"json": 1},)), "no valid constraint"),
    ("constraints", row("x", constraints=("",)), "no valid constraint"),
    ("constraints", row("x", constraints=({"regex": "("},)), "no valid constraint"),
    ("slot_coverage", row("x"), "no input"),
    ("slot_coverage", row("x", input="Tell me of it."), "no slot with a value"),
    ("faithfulness", row("x"), "no input"),
    ("valid_json", row(None), "no prediction"),
    ("judge", row("x"), "no grade"),
    ("log_loss", row("x", "x"), "no probabilities"),
    ("calibration_error", row("x", "x"), "no confidence"),
]


@pytest.mark.parametrize(("name", "one", "lack"), ROWS_WITHOUT_A_VALUE)
def test_rows_without_a_value_are_missing_and_say_why(name, one, lack, monkeypatch):
    monkeypatch.setattr(match, "PATTERN_SECONDS", 0.05)
    metric = find_metric(name)
    assert not metric.covers(one)
    assert metric.lack(one).startswith(lack)
    assert list(grade([one], "base", [metric])) == []
    if metric.fault is not None and one.prediction is not None and not metric.also:
        with pytest.raises(ValueError, match="r1"):
            metric.per_row(one)


def test_numbers_in_texts():
    found = all_numbers("−4 °C, $1,234.50; 5-3 = 2; v1.2 .5 1e3 1,2,3 10'000")
    assert found == [
        *map(Decimal, ("-4", "1234.50", "5", "3", "2", ".5", "1e3", "1", "2", "3", "10000"))
    ]
    assert all_numbers("1e999999 " + "9" * 500) == []
    assert final_number("1 #### 2 3") == 2
    assert final_number("4 ####") == 4
    assert final_number("") is None


def test_the_normal_form_is_squads():
    assert normalized("  The U.S.A.'s  a-b, an\tAnt ") == "usas ab ant"


SCHEMA = {
    "type": "object",
    "required": ["city", "nights"],
    "properties": {"city": {"type": "string"}, "nights": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}


def test_a_schema_from_a_file(tmp_path):
    file = tmp_path / "booking.schema.json"
    file.write_text(json.dumps(SCHEMA))
    name = f"json_schema:file={file}"
    assert judged(name, row('{"city": "Rome", "nights": 2}')) == (1.0, "")
    value, reason = judged(name, row('{"city": "Rome", "nights": 0}'))
    assert value == 0.0
    assert reason == "$.nights: 0 is less than the minimum of 1"
    assert judged(name, row('{"city": "Rome"}'))[1] == "$: 'nights' is a required property"
    assert judged(name, row("Rome, 2"))[1].startswith("not JSON")
    before = find_metric(name).signature()
    file.write_text(json.dumps({"type": "object"}))
    assert find_metric(name).signature() != before, "the signature holds the schema's hash"


@pytest.mark.parametrize("content", ["{", "[]", '{"type": 5}', None])
def test_files_that_are_no_schema(tmp_path, content):
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError) as caught:
        find_metric(f"json_schema:file={file}")
    assert caught.value.code == "E1002"


def test_a_schema_of_each_row():
    schema = json.dumps({"enum": ["yes", "no"]})
    assert judged("json_schema", row('"yes"', schema))[0] == 1.0
    assert judged("json_schema", row('"maybe"', schema))[0] == 0.0


CONSTRAINTS = [
    ("contains", "Parking", "free parking here", "no cars"),
    ("contains", ["a b", "c"], "c and a  b", "a b"),
    ("contains_any", ["x", "y"], "only y", "z"),
    ("not_contains", ["guarantee", "best"], "a good one", "The BEST"),
    ("regex", r"\d{4}", "in 2024", "in 24"),
    ("starts_with", "Dear", "Dear all", "Hi"),
    ("ends_with", "regards", "kind regards\n", "regards, Ann"),
    ("min_words", 3, "one two three", "one two"),
    ("max_words", 2, "one two", "one two three"),
    ("min_characters", 3, "abc", " ab "),
    ("max_characters", 3, " abc ", "abcd"),
    ("sentences", 2, "One. Two! ", "One. Two! Three?"),
    ("lines", 2, "a\n\nb", "a"),
    ("bullets", 2, "- a\n* b\ntext", "- a"),
    ("bullets", 2, "1. a\n2) b", "1.a\n2) b"),
    ("json", True, "[1]", "[1"),
    ("json", False, "[1", "[1]"),
    ("lowercase", True, "abc 1", "Abc"),
    ("uppercase", True, "ABC 1", "ABc"),
]


@pytest.mark.parametrize(("kind", "value", "kept", "broken"), CONSTRAINTS)
def test_constraints_are_kept_or_broken(kind, value, kept, broken):
    asked = ({kind: value},)
    assert judged("constraints", row(kept, constraints=asked)) == (1.0, "")
    found, reason = judged("constraints", row(broken, constraints=asked))
    assert found == 0.0
    assert reason.startswith(f"not kept: {kind}")


def test_constraints_are_counted():
    asked = ("parking", {"max_words": 3, "not_contains": "best"}, {"regex": "wifi"})
    one = row("the best parking", constraints=asked)
    assert judged("constraints", one)[0] == 0.5
    assert judged("constraints:all_or_nothing=yes", one)[0] == 0.0
    assert judged("constraints", one)[1] == "not kept: not_contains 'best', regex 'wifi'"


def test_grades_hold_the_reason():
    rows = [row("5", "7"), Prediction("r2", "7", "7")]
    (wrong, right) = grade(rows, "tuned", [METRICS["numeric_answer"]])
    assert (wrong.value, wrong.reason) == (0.0, "5 is not 7")
    assert (right.value, right.reason) == (1.0, "")


@pytest.mark.parametrize(
    "name",
    [
        "regex:pattern=(x",
        "numeric_answer:tolerance=-1",
        "numeric_answer:tolerance=nan",
        "numeric_answer:tolerance=much",
        "novelty:n=0",
        "faithfulness:of=verbs",
        "kept:of=verbs",
        "calibration_error:bins=0",
        "calibration_error:bins=100",
        "slot_coverage:synonyms=/nowhere.json",
    ],
)
def test_settings_that_are_refused(name):
    with pytest.raises(UsageError) as caught:
        find_metric(name)
    assert caught.value.code == "E1002"


def test_published_solutions_of_gsm8k_are_graded_as_published(shared):
    """Four models' solutions to 1,319 problems, each with a flag."""
    metric = METRICS["numeric_answer"]
    with gzip.open(shared / "data/gsm8k/example_model_solutions.jsonl.gz", "rt") as file:
        records = [json.loads(line) for line in file]
    others = 0
    rates = {}
    for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
        rows = [
            Prediction(str(i), record[model]["solution"], record["ground_truth"])
            for i, record in enumerate(records)
        ]
        said = [metric.per_row(one) for one in rows]
        flags = [float(record[model]["is_correct"]) for record in records]
        others += sum(a != b for a, b in zip(said, flags, strict=True))
        rates[model] = round(100 * sum(said) / len(said), 1)
    assert others == 0
    assert rates == {
        "6b_finetuning": 21.7,
        "6b_verification": 39.0,
        "175b_finetuning": 34.7,
        "175b_verification": 56.3,
    }
