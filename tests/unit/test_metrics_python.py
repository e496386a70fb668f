"""The user's own graders: what they return is checked, what they break is missing, never 0."""

import json

import pytest

from fettle.errors import UsageError
from fettle.evaluate.compare import compare, load_prediction_file
from fettle.evaluate.grade import grade
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction

GRADER = """
import sys
from dataclasses import dataclass

import numpy as np


@dataclass
class Note:
    text: "str"


print("loaded")


def polite(row):
    print("looking at", row["row_id"])
    return "please" in row["prediction"], Note("no please").text


def length(row):
    return len(row["prediction"])


def kinds(row):
    return {
        "true": True, "numpy": np.float32(0.5), "flag": np.bool_(True), "pair": (0.25, None),
        "nan": float("nan"), "none": None, "text": "1", "triple": (1, 2, 3), "big": 2.0,
    }[row["prediction"]]


def fields(row):
    return float(sorted(row) == ["group", "input", "prediction", "reference", "row_id"])


def broken(row):
    if row["row_id"] == "r2":
        raise KeyError("price")
    return 1


def leaving(row):
    sys.exit(3)


NUMBER = 7
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my grader.py"
    path.write_text(GRADER)
    return path


def row(prediction, row_id="r1", **more):
    return Prediction(row_id, prediction, "", **more)


def test_value_and_reason(file, capsys):
    metric = find_metric(f"python:{file}:polite")
    assert metric.per_row(row("yes please")) == 1.0
    assert capsys.readouterr().out == "", "what a grader prints must not get among the results"
    (found,) = grade([row("no")], "tuned", [metric])
    assert (found.value, found.reason) == (0.0, "no please")
    assert metric.name == f"python:{file}:polite"
    assert find_metric(f"python:{file}:length").per_row(row("abc")) == 3.0


def test_a_row_is_what_the_file_has(file):
    one = row("x", group="g", input="q")
    assert find_metric(f"python:{file}:fields").per_row(one) == 1.0


@pytest.mark.parametrize(
    ("said", "value"), [("true", 1.0), ("numpy", 0.5), ("flag", 1.0), ("pair", 0.25), ("big", 2.0)]
)
def test_what_counts_as_a_value(file, said, value):
    assert find_metric(f"python:{file}:kinds").per_row(row(said)) == value


@pytest.mark.parametrize("said", ["nan", "none", "text", "triple"])
def test_what_is_none_leaves_the_row_without(file, said):
    metric = find_metric(f"python:{file}:kinds")
    assert not metric.covers(row(said))
    assert metric.lack(row(said)).startswith("no value (the grader returned")


def test_a_share_lies_between_0_and_1(file):
    metric = find_metric(f"python:{file}:kinds,unit=share")
    assert (metric.unit, metric.span) == ("share", 1.0)
    assert metric.per_row(row("true")) == 1.0
    assert metric.lack(row("big")) == "no value (the grader returned 2.0, which is no share)"


def test_a_row_that_fails_is_missing_and_the_verdict_says_so(file):
    name = f"python:{file}:broken"
    rows = [row("x", f"r{i}") for i in range(20)]
    assert find_metric(name).lack(rows[2]) == "no value (broken raised KeyError: 'price')"
    verdict = compare(rows, rows, name)
    assert verdict.verdict == "invalid"
    assert "r2" in verdict.reason
    fine = [one for one in rows if one.row_id != "r2"]
    assert compare(fine, fine, name).primary.n == 19


def test_a_grader_that_leaves_does_not_end_fettle(file):
    assert find_metric(f"python:{file}:leaving").lack(row("x")) == (
        "no value (leaving raised SystemExit: 3)"
    )


@pytest.mark.parametrize("function", ["absent", "NUMBER"])
def test_no_such_function(file, function):
    found = find_metric(f"python:{file}:{function}").lack(row("x"))
    assert found == f"no grader ({file} has no function {function})"


@pytest.mark.parametrize("content", ["def f(:", "import nowhere_at_all", "1 / 0"])
def test_a_file_that_does_not_run(tmp_path, content):
    path = tmp_path / "bad.py"
    path.write_text(content)
    metric = find_metric(f"python:{path}:f")
    assert metric.lack(row("x")).startswith(f"no grader ({path} raised ")


def test_the_file_runs_only_when_a_row_is_graded_and_once_a_row(tmp_path):
    path, seen = tmp_path / "g.py", tmp_path / "seen"
    path.write_text(
        "def note(text):\n"
        f"    with open({str(seen)!r}, 'a') as file:\n        file.write(text + ' ')\n"
        "note('loaded')\n"
        "def f(row):\n    note(row['row_id'])\n    return 1\n"
    )
    metric = find_metric(f"python:{path}:f")
    metric.signature()
    assert not seen.exists()
    one = row("x")
    for _ in range(3):
        assert metric.covers(one)
        assert metric.is_finite(one)
        metric.per_row(one)
        metric.reason(one)
        metric.sums([[one]])
    assert seen.read_text() == "loaded r1 "


def test_signature_and_direction(file):
    metric = find_metric(f"python:{file}:length,higher_is_better=no")
    assert not metric.higher_is_better
    assert "user|sha256:" in metric.signature()
    before = metric.signature()
    file.write_text(GRADER + "\n# other\n")
    assert find_metric(f"python:{file}:length,higher_is_better=no").signature() != before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python:", "names no grader"),
        ("python:grader.py", "names no grader"),
        ("python:grader.py:a b", "names no grader"),
        ("python:/nowhere/grader.py:f", "can't be read"),
        ("python:grader.py:f,lower=yes", "no parameter 'lower'"),
        ("python:grader.py:f,name=x", "no parameter 'name'"),
        ("python:grader.py:f,unit=kg", "names no grader"),
    ],
)
def test_names_that_are_refused(name, said):
    with pytest.raises(UsageError) as caught:
        find_metric(name)
    assert caught.value.code == "E1002"
    assert said in str(caught.value)


def test_prediction_files_carry_what_graders_look_at(tmp_path, file):
    path = tmp_path / "p.jsonl"
    full = Prediction(
        "r1",
        "a",
        ("a", "b"),
        group="g",
        score=0.5,
        probabilities={"a": 0.75, "b": 0.25},
        loss_sum=1.5,
        num_targets=3,
        confidence=0.7,
        input="question",
        constraints=("x", {"max_words": 3}),
        tags={"channel": "mail"},
        scores={"judge": 1.0},
    )
    path.write_text(json.dumps(full.to_json()) + "\n" + json.dumps(row("x", "r2").to_json()))
    assert load_prediction_file(path) == [full, row("x", "r2")]
