"""Find good settings for a peer on this machine, in good faith, before it is compared.

In: a cell. Out: the settings that were fastest in short runs among those that passed the gates, and
every trial with its speed. Must not know: fettle's own speed.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.compare import machine
from bench.compare.cells import DATA, TOOLS, Cell, Tool
from bench.compare.gates import FIRST_LOSS, check_run, failed
from bench.compare.prepare import CACHE, Prepared, converted, prepare
from bench.compare.runs import Bench, run_once, speeds

FOUND = CACHE / "tuned.json"
STEPS_OF_SMALL = 25
"""Steps of a classifier take a fraction of a second."""


def tuning_cell(cell: Cell) -> Cell:
    """The cell on which the settings for this one are searched.

    What suits rows of mixed or of one length is searched once for each, with LoRA; full training,
    other masks and longer rows take the same.
    """
    if cell.task == "classify":
        return cell
    data = "natural" if DATA[cell.data].length is None else "uniform"
    return replace(cell, method="lora", data=data, steps=3, warmup=1, batch_size=4)


def lane_settings(
    cell: Cell, banking77: Path, pythons: Mapping[str, Path], bench: Bench, retune: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings of a peer in the lane of a cell.

    Args:
        pythons: of fettle's and the peer's environment.
        banking77: folder of the classification data.
        retune: search again even if this machine has been searched on.

    Returns:
        The settings and the trials behind them (none in the lane of defaults).

    Raises:
        RuntimeError: no setting worked; the text has the last error.
    """
    tool = TOOLS[cell.tool]
    if cell.lane == "defaults":
        return dict(tool.defaults), []
    on = tuning_cell(cell)
    key = f"{on.name} {on.rows_in_step} rows, {bench.threads} threads, {machine.processor()}"
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    if key in known and not retune:
        return known[key]["settings"], known[key]["trials"]
    prepared = prepare(on, banking77)
    prepared = replace(prepared, converted=converted(on, prepared, pythons[on.tool]))
    settings, trials = _search(tool, on, prepared, pythons, bench)
    known[key] = {"settings": settings, "trials": trials}
    FOUND.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return settings, trials


def untuned_settings(cell: Cell) -> dict[str, Any]:
    """Settings to start from, without a search: in float32, rows one by one, but short ones of a
    classifier all together."""
    tried = list(candidates(TOOLS[cell.tool], cell.rows_in_step, cell.task))
    return tried[-1 if cell.task == "classify" else 0]


def candidates(tool: Tool, rows_in_step: int, task: str) -> Iterator[dict[str, Any]]:
    """Settings to try in float32; sizes that do not divide a step are left out, and classifiers
    can't be flattened."""
    for choice in tool.choices:
        if task == "classify" and choice.get("padding_free"):
            continue
        sizes = [value for value in choice.values() if isinstance(value, int) and value > 1]
        if all(rows_in_step % size == 0 for size in sizes):
            yield {**tool.tuned, **tool.full_precision, **choice}


def _search(
    tool: Tool, cell: Cell, prepared: Prepared, pythons: Mapping[str, Path], bench: Bench
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    trials: list[dict[str, Any]] = []
    # Settings under which a tool computes another loss would fail the gates later: leave them out.
    exact = run_once("fettle", pythons["fettle"], cell, prepared, {"dtype": "float32"}, bench, 1)
    if exact["error"]:
        raise RuntimeError(f"fettle: {exact['error']}")
    first_loss = exact["losses"][0]

    def attempt(settings: dict[str, Any]) -> None:
        trial = _trial(cell, prepared, pythons[cell.tool], bench, settings, first_loss)
        trials.append(trial)
        outcome = trial["error"] or f"{trial['trained_per_second']:.1f} trained tokens/s"
        print(f"      tuning {cell.tool} {settings}: {outcome}", file=sys.stderr, flush=True)

    for settings in candidates(tool, cell.rows_in_step, cell.task):
        attempt(settings)
    if cell.dtype == "auto":
        for trial in _best(trials)[:2]:
            attempt({**trial["settings"], **tool.half})
    working = _best(trials)
    if not working:
        raise RuntimeError(trials[-1]["error"] if trials else "nothing to try")
    return working[0]["settings"], trials


def _best(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    working = [trial for trial in trials if not trial["error"]]
    return sorted(working, key=lambda trial: -trial["trained_per_second"])


def _trial(
    cell: Cell,
    prepared: Prepared,
    python: Path,
    bench: Bench,
    settings: dict[str, Any],
    first_loss: float,
) -> dict[str, Any]:
    steps = min(STEPS_OF_SMALL, cell.steps)
    result = run_once(cell.tool, python, cell, prepared, settings, bench, steps)
    trial: dict[str, Any] = {"settings": settings, "error": result["error"]}
    if result["error"]:
        return trial
    part: Mapping[str, Any] = {name: values[:steps] for name, values in prepared.plan.items()}
    problems = failed(check_run(result, part, cell.method))
    loss = result["losses"][0] if result["losses"] else float("nan")
    if not abs(loss - first_loss) <= FIRST_LOSS * abs(first_loss):
        problems.append(f"first loss {loss:.4f}, not {first_loss:.4f}")
    measured = speeds(result, cell, prepared, cell.warmup)
    return {
        "settings": settings,
        "error": "; ".join(problems) or None,
        "first_loss": loss,
        "trained_per_second": measured["trained_per_second"],
        "peak_bytes": measured["peak_bytes"],
    }
