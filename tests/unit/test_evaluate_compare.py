"""Prediction files: what is read, what is refused, and the verdict on two of them."""

import json
import subprocess
import sys

import pytest

from fettle.errors import DataError, UsageError
from fettle.evaluate.compare import compare_files, default_metric, load_prediction_file
from fettle.records.outcomes import Prediction


def write(path, records):
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows(right, **more):
    return [
        {"row_id": f"r{i}", "prediction": "yes" if flag else "no", "reference": "yes"} | more
        for i, flag in enumerate(right)
    ]


def test_a_file_is_read_line_by_line(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        [
            {"row_id": "a", "prediction": "x", "reference": ["x", "y"], "group": "g", "score": 1},
            "",
            {"row_id": 7, "prediction": "", "reference": 3, "note": "other keys are ignored"},
            {
                "row_id": "c",
                "prediction": None,
                "reference": "z",
                "loss_sum": 2.5,
                "num_targets": 5,
            },
        ],
    )
    assert load_prediction_file(path) == [
        Prediction("a", "x", ("x", "y"), group="g", score=1.0),
        Prediction("7", "", "3"),
        Prediction("c", None, "z", loss_sum=2.5, num_targets=5),
    ]


def test_what_fettle_writes_is_read_back(tmp_path):
    given = [
        Prediction("a", "x", ("x", "y"), group="g", score=0.5),
        Prediction("b", None, "z", loss_sum=2.5, num_targets=5),
    ]
    path = write(tmp_path / "a.jsonl", [row.to_json() for row in given])
    assert load_prediction_file(path) == given
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    path.rename(folder / "predictions.tuned.jsonl")
    assert load_prediction_file(tmp_path / "run") == given


BAD_LINES = {
    "broken": ('{"row_id": "b"', "E0302"),
    "list": ("[1, 2]", "E0302"),
    "deep": ("[" * 100_000, "E0302"),
    "no row id": ({"prediction": "x", "reference": "x"}, "E0302"),
    "row id null": ({"row_id": None, "prediction": "x", "reference": "x"}, "E0302"),
    "no prediction": ({"row_id": "b", "reference": "x"}, "E0302"),
    "no reference": ({"row_id": "b", "prediction": "x"}, "E0302"),
    "prediction a list": ({"row_id": "b", "prediction": ["x"], "reference": "x"}, "E0302"),
    "reference empty": ({"row_id": "b", "prediction": "x", "reference": []}, "E0302"),
    "reference with null": ({"row_id": "b", "prediction": "x", "reference": ["x", None]}, "E0302"),
    "score a word": (
        {"row_id": "b", "prediction": "x", "reference": "x", "score": "high"},
        "E0302",
    ),
    "score true": ({"row_id": "b", "prediction": "x", "reference": "x", "score": True}, "E0302"),
    "targets negative": (
        {"row_id": "b", "prediction": None, "reference": "x", "loss_sum": 1, "num_targets": -1},
        "E0302",
    ),
    "row id twice": ({"row_id": "a", "prediction": "x", "reference": "x"}, "E1004"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_are_named(case, tmp_path):
    line, code = BAD_LINES[case]
    good = {"row_id": "a", "prediction": "x", "reference": "x"}
    path = write(tmp_path / "a.jsonl", [good, line])
    with pytest.raises(DataError) as caught:
        load_prediction_file(path)
    assert caught.value.code == code
    assert caught.value.where == f"{path}:2"


def test_files_that_cannot_be_read(tmp_path):
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    empty = write(tmp_path / "empty.jsonl", [""])
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent.jsonl", binary, empty, tmp_path / "folder"):
        with pytest.raises(DataError) as caught:
            load_prediction_file(path)
        assert caught.value.code == "E1003", path


def test_compare_gives_a_verdict_without_plan_guards_and_holdout(tmp_path):
    a = write(tmp_path / "a.jsonl", rows([1] * 50 + [0] * 50))
    b = write(tmp_path / "b.jsonl", reversed(rows([1] * 90 + [0] * 10)))
    found = compare_files(a, b)
    assert found.verdict == "improved"
    assert found.primary.metric == "exact_match"
    assert found.primary.test == "exact McNemar"
    record = json.loads(found.dumps())
    assert [record[key] for key in ("plan", "guards", "holdout")] == [None, None, None]
    assert compare_files(b, a).verdict == "worse"
    assert compare_files(a, a).verdict == "no_clear_difference"
    assert compare_files(a, a, "accuracy", minimum_difference=0.1).verdict == "equivalent"


def test_groups_in_files_are_clusters(tmp_path):
    def grouped(right):
        return [row | {"group": i % 4} for i, row in enumerate(rows(right))]

    a = write(tmp_path / "a.jsonl", grouped([0] * 40))
    b = write(tmp_path / "b.jsonl", grouped([1] * 40))
    found = compare_files(a, b)
    assert found.verdict == "too_few_rows"
    assert "4 groups" in found.reason


def test_other_rows_are_invalid_with_counts(tmp_path):
    a = write(tmp_path / "a.jsonl", rows([1] * 20))
    b = write(tmp_path / "b.jsonl", rows([1] * 22)[5:])
    found = compare_files(a, b)
    assert found.verdict == "invalid"
    assert "15 in both" in found.reason
    assert "5 rows only in A (r0, r1, r2, …)" in found.reason
    assert "2 rows only in B (r20, r21)" in found.reason


def test_not_a_number_is_invalid(tmp_path):
    a = write(tmp_path / "a.jsonl", rows([1] * 20, score=0.5))
    b = write(
        tmp_path / "b.jsonl", [*rows([1] * 19, score=0.5), rows([1] * 20, score=float("nan"))[19]]
    )
    found = compare_files(a, b)
    assert found.verdict == "invalid"
    assert "B's score is not a finite number in 1 row (r19)" in found.reason


def test_scores_and_their_direction(tmp_path):
    scores = [(i * 37 % 11) / 10 for i in range(60)]
    a = write(
        tmp_path / "a.jsonl",
        [r | {"score": s} for r, s in zip(rows([1] * 60), scores, strict=True)],
    )
    b = write(
        tmp_path / "b.jsonl",
        [
            r | {"score": s + 0.2 + 0.01 * (i % 7)}
            for i, (r, s) in enumerate(zip(rows([1] * 60), scores, strict=True))
        ],
    )
    found = compare_files(a, b)
    assert (found.verdict, found.primary.metric) == ("improved", "score")
    assert found.primary.test == "paired sign-flip"
    assert compare_files(a, b, "score:higher_is_better=no").verdict == "worse"


def test_scores_of_zero_and_one_are_counted_exactly(tmp_path):
    a = write(tmp_path / "a.jsonl", [row | {"score": 0} for row in rows([1] * 12)])
    b = write(tmp_path / "b.jsonl", [row | {"score": 1} for row in rows([1] * 12)])
    found = compare_files(a, b, "score").primary
    assert (found.test, found.p_value) == ("exact McNemar", 2 / 2**12)


def test_default_metric():
    answered = Prediction("a", "x", "x")
    scored = Prediction("a", "x", "x", score=1.0)
    lost = Prediction("a", None, "x", loss_sum=1.0, num_targets=2)
    assert default_metric([scored, scored]) == "score"
    assert default_metric([scored, answered]) == "exact_match"
    assert default_metric([lost, lost]) == "loss"
    assert default_metric([lost, answered]) == "exact_match"


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 0.0},
        {"alpha": 0.7},
        {"minimum_difference": -0.1},
        {"minimum_difference": float("nan")},
        {"num_resamples": 10},
    ],
)
def test_settings_that_are_refused(settings, tmp_path):
    a = write(tmp_path / "a.jsonl", rows([1] * 10))
    with pytest.raises(UsageError) as caught:
        compare_files(a, a, **settings)
    assert caught.value.code == "E1005"


def test_unknown_metric(tmp_path):
    a = write(tmp_path / "a.jsonl", rows([1] * 10))
    with pytest.raises(UsageError, match="acuracy"):
        compare_files(a, a, "acuracy")


@pytest.mark.slow
def test_no_torch_is_loaded():
    code = (
        "import sys, fettle.evaluate.compare, fettle.evaluate.baselines, fettle.evaluate.grade;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
