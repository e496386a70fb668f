"""Figures: what they say aloud, where they draw, and that nothing global is touched."""

import re
import subprocess
import sys

import matplotlib as mpl
import pytest

from fettle.report import drawing, plots, row_plots
from fettle.report.forest_plot import ForestRow, forest_plot


def _inside(svg: str) -> bool:
    """Whether every coordinate of every text is inside the picture."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    places = re.findall(r'<text[^>]* x="([-\d.]+)" y="([-\d.]+)"', svg)
    assert places
    return all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in places)


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize(
    ("difference", "low", "high"),
    [
        (30.5, 27.6, 33.4),
        (-30.5, -33.4, -27.6),
        (0.4, -5.0, 6.0),
        (0.0, 0.0, 0.0),
        (1e-9, -1e-9, 3e-9),
        (1e6, -1e6, 3e6),
    ],
)
def test_effect_plot_fits_any_interval(
    difference: float, low: float, high: float, higher_is_better: bool
) -> None:
    svg = plots.effect_plot(
        difference, low, high, unit="points", text="the text", higher_is_better=higher_is_better
    )
    assert svg.startswith('<svg class="plot" role="img" aria-label="')
    assert svg.endswith("</svg>")
    assert "the text" in svg
    assert _inside(svg)


def test_effect_plot_puts_zero_between_the_signs() -> None:
    svg = plots.effect_plot(1.0, -4.0, 6.0, unit="points", text="t", higher_is_better=True)
    assert "← base better" in svg
    assert "tuned better →" in svg
    svg = plots.effect_plot(1.0, -4.0, 6.0, unit="nats", text="t", higher_is_better=False)
    assert "← tuned better" in svg
    assert "base better →" in svg


def test_names_that_no_font_has_do_not_warn() -> None:
    svg = plots.baseline_plot({"base": 1.0, "漢字 $x^2$ <b>": 2.0, "tuned": 3.0}, label="accuracy")
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_curves_of_one_point_and_of_many() -> None:
    assert "kept: step 1" in plots.loss_plot([1], [2.0], [(1, 2.5)], 1)
    many = list(range(1, 100_001))
    svg = plots.loss_plot(many, [1 / step for step in many], [], None)
    assert len(svg) < 60_000
    x, y = drawing.thinned(many, many)
    assert len(x) == drawing.MAX_POINTS
    assert x == y
    assert sum(x) / len(x) == pytest.approx(50_000.5)


def test_loss_distribution_of_equal_losses() -> None:
    svg = row_plots.loss_distribution_plot([1.0, 1.0], [1.0, 1.0])
    assert "median 1.000 for the base, 1.000 for the tuned model" in svg


def test_confusion_plot_draws_only_cells_with_rows() -> None:
    size = 200
    diagonal = [[5.0 * (row == column) for column in range(size)] for row in range(size)]
    svg = row_plots.confusion_plot(diagonal)
    assert len(svg) < 40_000
    assert "Confusion of 200 classes: 1,000 of 1,000 rows are on the diagonal" in svg


def test_split_plot_says_every_split() -> None:
    svg = plots.split_plot({"train": 80, "quarantine": 20})
    assert "Input rows by split: train 80, quarantine 20" in svg
    assert "train 80.0 %" in svg


def test_figures_do_not_share_ids_or_styles() -> None:
    svg = plots.loss_plot([1, 2], [2.0, 1.0], [(1, 2.5)], 1)
    assert "<style" not in svg
    assert re.findall(r"<g id=", svg) == []


def test_plots_leave_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)
    plots.learning_rate_plot([1, 2], [1e-3, 0.0])
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_the_report_needs_no_torch_and_no_pyplot() -> None:
    code = (
        "import sys, fettle.report; "
        "print([m for m in ('torch', 'transformers', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_figures_on_one_page_share_no_ids() -> None:
    outcomes = {"both right": 3, "only tuned right": 2, "only base right": 1, "both wrong": 0}
    figures = [row_plots.outcome_plot(outcomes | {"both wrong": place}) for place in (0, 5)]
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in figures]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip(figures, ids, strict=True):
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
        assert used <= own
        assert "var(--warn)" in svg
        assert not re.search(r"var\(--\w+\)-", svg)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0], [-2.0, 0.0, 5.0], [1e-9, -1e-9, 1e6]])
def test_paired_differences_of_any_kind_are_drawn(values: list[float]) -> None:
    svg = row_plots.difference_plot(values, label="loss", higher_is_better=False)
    better = sum(value < 0 for value in values)
    assert f"better on {better}" in svg
    assert f"{values.count(0.0)} are equal" in svg
    assert _inside(svg)


def test_a_forest_plot_draws_what_has_no_interval() -> None:
    rows = [ForestRow("one", 1.0, None, None), ForestRow("two", -2.0, -3.0, -1.0, "worse")]
    svg = forest_plot(rows, label="points", sides=("worse", "better"), spoken="two parts of all")
    assert "one" in svg
    assert _inside(svg)
