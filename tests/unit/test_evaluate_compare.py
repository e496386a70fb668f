"""Prediction files: what is read, what is refused, and the verdict on two of them."""

import gc
import json
import random
import subprocess
import sys

import pytest

from fettle.errors import DataError, UsageError
from fettle.evaluate.compare import (
    _object,
    _plain_prediction,
    _prediction,
    compare_files,
    default_metric,
    load_prediction_file,
)
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


GOOD_LINE = '{"row_id": "first", "prediction": "x", "reference": "x"}'
TEXTS = ["x", "", " y ", "é\u2028", "long " * 30]
NUMBERS = [0.5, -0.0, 1, 0, 2**2000, float("nan"), float("-inf")]
ODD = [None, True, False, [], ["x"], ["x", "y"], ["x", None], {}, {"a": 0.5}, {"a": None}]
FIELDS = {
    "row_id": [*TEXTS, 7, None, True, 1.5],
    "prediction": [*TEXTS, 3, *ODD],
    "reference": [*TEXTS, 3, *ODD],
    "group": [*TEXTS, 3, *ODD],
    "score": [*NUMBERS, "high", *ODD],
    "loss_sum": [*NUMBERS, "high", *ODD],
    "num_targets": [4, -1, 1.5, "4", *ODD],
    "confidence": [*NUMBERS, "high", *ODD],
    "probabilities": [{"x": 0.5, "y": 0.5}, *ODD],
    "input": [*TEXTS, *ODD],
    "constraints": [["short"], [{"kind": "words"}], *ODD],
    "tags": [{"a": "b"}, {"a": 3}, *ODD],
    "scores": [{"a": 0.25}, {"a": "b"}, *ODD],
    "note": [*TEXTS, *ODD],
}
RARE = ("loss_sum", "num_targets", "confidence", "probabilities", "input", "constraints", "tags")


def random_record(rng):
    """Half of them as most files have them, half with anything in any field."""
    if rng.random() < 0.5:
        record = {name: rng.choice(TEXTS) for name in ("row_id", "prediction", "reference")}
        record |= {"group": rng.choice(TEXTS)} if rng.random() < 0.3 else {}
        return record | ({"score": rng.choice(NUMBERS)} if rng.random() < 0.5 else {})
    chances = {name: 0.2 if name in (*RARE, "scores") else 0.8 for name in FIELDS}
    return {
        name: rng.choice(values) for name, values in FIELDS.items() if rng.random() < chances[name]
    }


def random_line(rng):
    """A record as JSON, at times cut, with a wrong character or with blanks around it."""
    line = json.dumps(random_record(rng), ensure_ascii=rng.random() < 0.5)
    kind = rng.randrange(8)
    place = rng.randrange(len(line))
    if kind == 0:
        return line[:place]
    if kind == 1:
        return line[:place] + rng.choice('{}[],:"\\x0\t\x1f\ufeff') + line[place + 1 :]
    if kind == 2:
        return rng.choice([" ", "\t", "\ufeff", "\x0b", ""]) + line + rng.choice(" \tx}\x0b")
    return line


def carefully(line, where):
    """Row or error of one line by the plain way: ``json.loads``, then a look at each field."""
    try:
        return repr(_prediction(_object(line, where), where))
    except DataError as error:
        return error.code, error.where, str(error)


def test_the_short_way_gives_what_the_careful_one_gives(tmp_path):
    rng = random.Random(3)
    path = tmp_path / "a.jsonl"
    seen = {"row": 0, "error": 0, "blank": 0}
    for number in range(3000):
        line = random_line(rng)
        # Other line ends, and a last line without one, change nothing.
        end = "\r\n" if number % 3 == 0 else "\n"
        last = end if number % 2 else ""
        path.write_bytes(f"{GOOD_LINE}{end}{line}{last}".encode())
        try:
            found = [repr(row) for row in load_prediction_file(path)[1:]]
        except DataError as error:
            found = [(error.code, error.where, str(error))]
        wanted = [carefully(line, f"{path}:2")] if line.strip() else []
        assert found == wanted, line
        seen["blank" if not wanted else "row" if isinstance(wanted[0], str) else "error"] += 1
    assert min(seen["row"], seen["error"]) > 500, seen


def test_the_short_way_is_taken_by_usual_rows_only():
    usual = {"row_id": "a", "prediction": "x", "reference": "y"}
    for record in (usual, usual | {"group": "g", "score": 0.5}, {"row_id": "a", "score": 0.5}):
        row = _plain_prediction(record, {})
        assert type(row) is Prediction
        assert row == _prediction(record, "here")
        assert row.to_json() == _prediction(record, "here").to_json()
    for field in (*RARE, "scores"):
        assert _plain_prediction(usual | {field: None}, {}) is None, field
    for field in ("row_id", "prediction", "reference", "group", "score"):
        for value in (1, True, [], {}, ["x"]):
            assert _plain_prediction(usual | {field: value}, {}) is None, (field, value)


def test_equal_labels_are_kept_once(tmp_path):
    path = write(tmp_path / "a.jsonl", [row | {"group": "one"} for row in rows([1, 1])])
    first, second = load_prediction_file(path)
    assert first.prediction is second.prediction
    assert first.reference is second.reference
    assert first.group is second.group


def test_a_file_that_is_no_text_is_told_before_its_bad_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"no json\n" + b"x" * 20_000 + b"\n\xff\n")
    for content in (path.read_bytes(), (GOOD_LINE + "\n").encode() + path.read_bytes()[8:]):
        path.write_bytes(content)
        with pytest.raises(UnicodeDecodeError) as plain:
            path.read_text(encoding="utf-8-sig")
        with pytest.raises(DataError) as caught:
            load_prediction_file(path)
        assert caught.value.code == "E1003"
        assert str(plain.value) in str(caught.value)


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_left_as_it_was(on, tmp_path):
    good = write(tmp_path / "a.jsonl", [GOOD_LINE])
    bad = write(tmp_path / "b.jsonl", [GOOD_LINE, "{"])
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        load_prediction_file(good)
        after_good = gc.isenabled()
        with pytest.raises(DataError):
            load_prediction_file(bad)
        after_bad = gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
    assert (after_good, after_bad) == (on, on)


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
