"""The evidence on the page: rows, parts, guards, confidences, design, wording; and its twins."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from report_fixture import add_evidence, write_chat_run, write_classify_run

from fettle.evaluate.abstain import coverage_curve
from fettle.metrics import METRICS
from fettle.records.outcomes import VerdictWord
from fettle.report import sentences, words, write_card, write_report
from fettle.report.confidences import bins
from fettle.report.contents import Answer, Contents, read_contents
from fettle.report.design_sections import design, guards
from fettle.report.evidence import paired_rows, slices, twins
from fettle.report.markdown import markdown
from fettle.report.page_values import page_values
from fettle.report.report import as_json, as_page, as_text
from fettle.report.tables import Figure, Table

FORBIDDEN = re.compile(
    r"\bproves?\b|\bproven\b|\bproof\b|significan|probability that|no difference\b", re.IGNORECASE
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_evidence(write_classify_run(tmp_path_factory.mktemp("run") / "three", 3, 240))


@pytest.fixture
def contents(run: Path) -> Contents:
    return read_contents(run)


def _with(contents: Contents, **changes: Any) -> Contents:
    contents.verdict = {**contents.verdict, **changes}
    return contents


def test_the_first_sentence_names_rows_groups_size_and_interval(contents: Contents) -> None:
    primary = contents.verdict["primary"] | {
        "n": 412, "clusters": 96, "difference": 0.061, "ci_low": 0.023, "ci_high": 0.099,
    }  # fmt: skip
    contents.manifest = {"layout": {"columns": {"group": "customer"}}}
    contents.recipe = {"task": "chat"}
    contents.resolved = {}
    assert sentences.main_sentence(_with(contents, primary=primary)) == (
        "On this holdout, 412 conversations in 96 independent groups (by customer), the tuned "
        "model is right 6.1 points more often than the base (95 % CI 2.3 to 9.9)."
    )


@pytest.mark.parametrize(
    ("metric", "ends", "shown"),
    [
        (
            "accuracy", (0.02, -0.009, 0.051),
            "2.0 points more often than the base (95 % CI from 0.9 less to 5.1 more)",
        ),
        (
            "accuracy", (-0.06, -0.099, -0.023),
            "6.0 points less often than the base (95 % CI 2.3 to 9.9)",
        ),
        (
            "loss", (-0.5, -0.6, -0.4),
            "loss is 0.500 nats lower than the base's (95 % CI 0.400 to 0.600)",
        ),
        (
            "chrf", (1.0, None, None),
            "chrF is 1.0 points higher than the base's (these rows give no interval)",
        ),
        (
            "accuracy", (0.0, -0.03, 0.03),
            "the two models score the same (95 % CI from 3.0 less to 3.0 more)",
        ),
    ],
)  # fmt: skip
def test_the_interval_runs_the_way_the_sentence_does(
    contents: Contents, metric: str, ends: tuple[Any, Any, Any], shown: str
) -> None:
    values = dict(zip(("difference", "ci_low", "ci_high"), ends, strict=True))
    primary = contents.verdict["primary"] | values | {"metric": metric}
    assert shown in sentences.main_sentence(_with(contents, primary=primary))


@pytest.mark.parametrize("word", get_args(VerdictWord))
def test_no_verdict_word_claims_more_than_the_evidence(run: Path, word: str) -> None:
    contents = read_contents(run)
    p = 1e-9 if word in ("improved", "worse") else 0.31
    primary = contents.verdict["primary"] | {"p_value": p}
    values = page_values(_with(contents, verdict=word, primary=primary))
    page = re.sub(r"<style>.*?</style>|<[^>]*>", " ", as_page(values), flags=re.DOTALL)
    for text in (page, as_text(values), as_json(values, word)):
        # The word "no_clear_difference" itself is not the absence of one.
        assert FORBIDDEN.findall(text.replace("\u00a0", " ")) == []
        assert words.VERDICTS[word].word in text
    sentence = values["sentence"]
    assert re.search(r"CI|no interval", sentence)


def test_every_metric_is_explained() -> None:
    assert set(METRICS) - {"score"} <= set(words.MEANINGS)


def test_discordant_rows_are_those_of_the_verdict(contents: Contents) -> None:
    figure = paired_rows(contents)
    assert figure is not None
    assert figure.table is not None
    counts = {name: int(rows.replace(",", "")) for name, rows in figure.table.rows}
    discordant = contents.verdict["extra"]["discordant"]
    assert counts["only base right"] == discordant["base_only"]
    assert counts["only tuned right"] == discordant["tuned_only"]
    assert sum(counts.values()) == 240
    assert figure.source == "evaluation/grades.jsonl › accuracy"


def test_a_loss_shows_how_its_differences_are_spread(tmp_path: Path) -> None:
    figure = paired_rows(read_contents(write_chat_run(tmp_path / "run", 40, 20)))
    assert figure is not None
    assert "Difference of every row" in figure.spoken
    assert "of 40 rows" in figure.spoken


def test_slices_that_got_worse_are_named(contents: Contents) -> None:
    item = {
        "kind": "label", "value": "neutral", "n": 80, "base": 0.7, "tuned": 0.4,
        "difference": -0.3, "ci_low": -0.4, "ci_high": -0.2, "p_value": 0.001, "p_adjusted": 0.003,
        "worse": True, "better": False,
    }  # fmt: skip
    open_part = item | {"value": "positive", "difference": 0.1, "worse": False, "p_adjusted": 0.5}
    found = slices(_with(contents, extra={"slices": [item, open_part]}))
    assert found is not None
    assert found.worse.startswith(
        "Worse on 1 of 2 parts of the holdout: label neutral (−30.0 points, −40.0 to −20.0, "
        "80 rows)"
    )
    assert "Exploratory" in found.worse
    assert "Exploratory" in found.figure.caption
    assert found.table.rows[0][-1] == "▼ worse"
    page = as_page(page_values(contents))
    assert page.index("Worse on 1 of 2 parts") < page.index('id="pairs"')


def test_many_slices_are_drawn_in_part_and_listed_in_full(contents: Contents) -> None:
    part = dict(contents.verdict["extra"]["slices"][0])
    many = [part | {"value": f"v{place}", "better": False} for place in range(80)]
    many[40] = many[40] | {"better": True, "value": "the named one"}
    found = slices(_with(contents, extra={"slices": many}))
    assert found is not None
    assert len(found.table.rows) == 80
    assert "Drawn are 24 of 80" in found.figure.caption
    assert "the named one" in found.figure.svg


def test_guards_stand_in_units_of_their_margin(contents: Contents) -> None:
    table, figure = guards(contents)
    assert table is not None
    assert figure is not None
    assert [row[-1] for row in table.rows] == ["held", "unproven", "lost"]
    # loss +0.019 of 0.1 is a loss: left of zero
    assert "general text at -0.19 times" in figure.spoken
    assert "refund policy questions at -3.20 times" in figure.spoken
    said = sentences.guard_sentence(contents.verdict)
    assert "got worse on refund policy questions" in said
    assert "could not be shown to have kept last year's tickets" in said


def test_without_guards_the_page_says_that_nothing_else_was_tested(contents: Contents) -> None:
    assert "not tested" in sentences.guard_sentence(_with(contents, guards=[]).verdict)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"difference": -0.01}, "its sign"),
        ({"p_value": 0.3}, "on which side of alpha p lies (< 0.001 → 0.30)"),
        ({}, ""),
    ],
)
def test_twins_are_prominent_when_they_decide(
    contents: Contents, changes: dict[str, Any], said: str
) -> None:
    primary = contents.verdict["primary"] | {"p_value": 1e-6, "difference": 0.1}
    extra = {"without_train_twins": primary | {"n": 200} | changes}
    found = twins(_with(contents, primary=primary, extra=extra))
    assert found is not None
    assert said in found.change
    assert bool(found.change) == bool(said)
    page = as_page(page_values(contents))
    assert ("The result depends on near copies" in page) == bool(said)


def test_the_design_shows_planned_and_seen(contents: Contents) -> None:
    table = design(contents)
    assert table is not None
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["rows where one model is right"][0] == "10 %"
    assert rows["smallest difference to be found"] == ("2.9 points", "–")
    assert rows["alpha spent over all looks, one-sided"][1] == "0.05"
    said = sentences.power_sentences(contents.verdict)
    assert "1.8 times the true size (type M error)" in " ".join(said)
    look = contents.verdict["holdout"] | {"looks": 3, "alpha_spent": 0.0417}
    said_of_looks = sentences.look_sentence(_with(contents, holdout=look).verdict)
    assert "look 3 at this holdout" in said_of_looks
    assert "at most 4.2 %" in said_of_looks


def test_bins_hold_each_row_once() -> None:
    dice = np.random.default_rng(0)
    sure = [*dice.uniform(0, 1, 500), 0.0, 1.0, 0.1, 0.3]
    right = dice.random(len(sure)) < sure
    answers = [
        Answer("a" if good else "b", ("a",), None, value, None)
        for value, good in zip(sure, right, strict=True)
    ]
    outside = [Answer("a", ("a",), None, value, None) for value in (None, 1.5, float("nan"))]
    found = bins([*answers, *outside])
    assert sum(item.n for item in found) == len(sure)
    assert sum(item.right for item in found) == int(right.sum())
    assert all(item.low <= item.confidence <= item.high for item in found)
    # Another implementation: numpy's histogram (0.1 and 0.3 lie on edges, where floats differ).
    expected, _ = np.histogram(sure, np.linspace(0, 1, 11))
    assert np.abs(np.array([item.n for item in found]) - expected).sum() <= 2


def test_the_threshold_is_marked_on_the_curve_of_the_verdict(contents: Contents) -> None:
    found = page_values(contents)["abstaining"]
    said = contents.verdict["extra"]["abstain"]
    assert f"at least {said['threshold']:.3f}" in found.sentence
    assert "95 % CI" in found.sentence
    assert "chosen threshold" in found.figure.spoken
    answers = contents.answers["tuned"].values()
    sure = np.array([answer.confidence for answer in answers])
    right = np.array([answer.prediction in answer.references for answer in answers])
    curve = coverage_curve(sure, right)
    assert [point["accuracy"] for point in said["curve"]] == [point.accuracy for point in curve]


def test_every_table_and_figure_names_its_file(run: Path) -> None:
    values = page_values(read_contents(run))
    found: list[Figure | Table] = []

    def collect(value: Any) -> None:
        if isinstance(value, Figure | Table):
            found.append(value)
        elif isinstance(value, dict):
            [collect(item) for item in value.values()]
        elif isinstance(value, list | tuple):
            [collect(item) for item in value]
        elif hasattr(value, "__dataclass_fields__"):
            [collect(getattr(value, name)) for name in value.__dataclass_fields__]

    collect(values)
    assert len(found) > 20
    assert [item.caption for item in found if not item.source] == ["Files behind this page"]


def test_the_twins_of_the_page_say_the_same(run: Path) -> None:
    page = write_report(run)
    text = (run / "report.md").read_text(encoding="utf-8")
    data = json.loads((run / "report.json").read_text(encoding="utf-8"))
    card = write_card(run).read_text(encoding="utf-8")
    plain_page = re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")).replace("\u00a0", " ")
    sentence = data["sentence"]
    assert sentence in plain_page
    assert sentence in text
    assert sentence in card
    assert data["verdict"] == "improved"
    for row in data["metrics"]["rows"]:
        line = f"| {' | '.join(map(markdown, row))} |"
        assert line in text
        assert line in card
    assert {item["row_id"] for item in data["rows"]["worsened"]} <= set(
        re.findall(r"[0-9a-f]{16}", text)
    )
    assert data["files"]["rows"][0][0] == "verdict.json"


def test_a_lone_verdict_gives_all_three_files(run: Path, tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_bytes((run / "verdict.json").read_bytes())
    write_report(tmp_path)
    assert "Parts that could not be shown" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["paired"] is None
