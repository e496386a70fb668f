"""Predictions get the input of their rows where a metric looks at it, and only there."""

from fettle.evaluate.inputs import with_inputs
from fettle.metrics import find_metric
from fettle.records.outcomes import Prediction
from fettle.records.rows import Example, Message

EXAMPLES = {
    "t": Example("t", "f", 1, 1, text="a text", target="x"),
    "c": Example(
        "c",
        "f",
        2,
        2,
        messages=(Message("system", "Be kind."), Message("user", "Hi?"), Message("assistant", "x")),
        target="x",
    ),
}
ROWS = [Prediction("t", "x", "x"), Prediction("c", "x", "x"), Prediction("elsewhere", "x", "x")]


def test_inputs_for_metrics_that_look_at_them():
    metrics = [find_metric("accuracy"), find_metric("faithfulness")]
    found = with_inputs(ROWS, EXAMPLES, metrics)
    assert [row.input for row in found] == ["a text", "Be kind.\nHi?", None]
    assert found[2] is ROWS[2]


def test_no_inputs_where_none_are_needed():
    found = with_inputs(ROWS, EXAMPLES, [find_metric("accuracy"), find_metric("chrf")])
    assert all(one is other for one, other in zip(found, ROWS, strict=True))


def test_a_users_grader_sees_the_input(tmp_path):
    file = tmp_path / "g.py"
    file.write_text("def f(row):\n    return row['input'] == 'a text'\n")
    metric = find_metric(f"python:{file}:f")
    found = with_inputs(ROWS[:2], EXAMPLES, [metric])
    assert [metric.per_row(row) for row in found] == [1.0, 0.0]
