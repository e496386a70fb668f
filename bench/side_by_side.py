"""fettle beside its peers on this machine's processor: `python -m bench.side_by_side`.

Every cell (model, method, data, peer, lane) is run in interleaved pairs, each run a fresh process
in the tool's own environment, on the same rows, masks and initial weights. A speed counts only when
the gates hold. The table goes to stdout, everything measured to bench/results/side_by_side.json,
and with --docs also into docs/concepts/performance.md, where the protocol is written down.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from bench.compare import machine, table
from bench.compare.cells import CELLS, DATA, MODELS, QUICK, UNFIT, Cell
from bench.compare.environments import NotInstalled, installed, python_of
from bench.compare.gates import Gate, check_pair, check_run, failed
from bench.compare.pairs import interleaved, middle, paired_ratio
from bench.compare.prepare import BENCH, REPOSITORY, Missing, Prepared, converted, prepare
from bench.compare.runs import Bench, clean_scratch, run_once, speeds
from bench.compare.tune import lane_settings, untuned_settings

SCHEMA = 1
RESULTS = BENCH / "results" / "side_by_side.json"
PAGE = REPOSITORY / "docs" / "concepts" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that were asked for; 1 when one of them failed a gate."""
    options = _options(arguments)
    if options.render:
        _write_page(json.loads(options.results.read_text(encoding="utf-8")))
        return 0
    cores = options.cores or machine.quietest_cores(options.threads)
    # Children inherit it: the calibration runs where the tools run.
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(options.threads)
    cap = int(options.memory_gb * 1e9) if options.memory_gb else None
    bench = Bench(threads=options.threads, memory_bytes=cap)
    record = _record(options, cores)
    end = time.monotonic() + 60 * options.minutes
    clean_scratch()
    for cell in _chosen(options):
        _say(f"== {cell.name}")
        found = _measure(cell, bench, options, end)
        record["cells"] = [old for old in record["cells"] if old["name"] != cell.name] + [found]
        _save(options.results, record)
        _say(table.plain([found]))
    if not (options.quick_look or options.cell or options.only):
        record["cells"] += [
            {"name": tool, "status": "unfit", "reason": reason} for tool, reason in UNFIT.items()
        ]
        _save(options.results, record)
    clean_scratch()
    print(table.plain(record["cells"]), end="")
    _say(f"everything measured: {options.results}")
    if options.docs:
        _write_page(record)
    return 1 if any(cell["status"] == "failed" for cell in record["cells"]) else 0


def _measure(cell: Cell, bench: Bench, options: argparse.Namespace, end: float) -> dict[str, Any]:
    """One cell, or the reason why there are no figures."""
    base = {"name": cell.name, "created": _now(), "commit": _commit()}
    if time.monotonic() > end:
        return {**base, "status": "skipped", "reason": "the time was used up before it"}
    try:
        prepared = prepare(cell, options.banking77)
        pythons = {"fettle": python_of("fettle"), cell.tool: python_of(cell.tool)}
        prepared = replace(prepared, converted=converted(cell, prepared, pythons[cell.tool]))
    except Missing as error:
        return {**base, "status": "missing", "reason": str(error)}
    except NotInstalled as error:
        return {**base, "status": "not_installed", "reason": str(error)}
    if options.quick_look and not options.tune:
        settings, trials = untuned_settings(cell), []
    else:
        try:
            settings, trials = lane_settings(cell, options.banking77, pythons, bench, options.tune)
        except RuntimeError as error:
            return {**base, "status": "failed", "reason": f"{cell.tool}: {error}"}
    configs = {"fettle": _ours(cell), cell.tool: settings}
    pairs, problem, gates = _pairs(cell, prepared, pythons, configs, bench, options, end)
    base |= {"gates": [_gate(gate) for gate in gates], "tuning": trials, "pairs": pairs}
    if problem:
        return {**base, "status": "failed", "reason": problem}
    if not pairs:
        return {**base, "status": "skipped", "reason": "the time was used up before a pair"}
    return {
        **base,
        **_summary(cell, pairs, configs),
        "status": "measured",
        "packages": installed(pythons[cell.tool]),
        "rows_sha": prepared.plan["digests"],
    }


def _pairs(
    cell: Cell,
    prepared: Prepared,
    pythons: Mapping[str, Path],
    configs: Mapping[str, Mapping[str, Any]],
    bench: Bench,
    options: argparse.Namespace,
    end: float,
) -> tuple[list[dict[str, Any]], str | None, list[Gate]]:
    """Interleaved runs with a calibration before and after each pair.

    Returns:
        Whole pairs; the reason why the cell failed, if it did; the gates of the last pair.
    """
    pairs: list[dict[str, Any]] = []
    gates: list[Gate] = []
    for number, side in interleaved(options.pairs, "fettle", cell.tool):
        if side == "fettle":
            took = pairs[-1]["took"] if pairs else 0.0
            if pairs and time.monotonic() + took > end:
                _say(f"      the time is used up after {number} pairs")
                break
            started = time.monotonic()
            pair: dict[str, Any] = {"rates_before": _rates(cell)}
        result = run_once(side, pythons[side], cell, prepared, configs[side], bench)
        if result["error"]:
            _say(result.get("log", "")[-1500:])
            return pairs, f"{side}: {result['error']}", gates
        pair[side] = {"result": result, **speeds(result, cell, prepared, cell.warmup)}
        figures = pair[side]
        _say(
            f"      {number + 1}/{options.pairs} {side:<8}"
            f" {figures['trained_per_second']:9.1f} trained tokens/s"
            f" {figures['peak_bytes'] / 1e9:6.2f} GB {figures['job_seconds']:7.1f} s"
        )
        if side == "fettle":
            continue
        pair |= {"rates_after": _rates(cell), "took": time.monotonic() - started}
        ours, theirs = pair["fettle"]["result"], result
        gates = [
            *(_named("fettle", gate) for gate in check_run(ours, prepared.plan, cell.method)),
            *(_named(side, gate) for gate in check_run(theirs, prepared.plan, cell.method)),
            *check_pair(ours, theirs),
        ]
        broken = failed(gates)
        pairs.append(pair)
        if broken:
            return pairs, "; ".join(broken), gates
    return pairs, None, gates


def _summary(
    cell: Cell, pairs: Sequence[Mapping[str, Any]], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Medians over pairs, ratios within pairs, and how quiet the machine was."""
    sides = {"fettle": "fettle", "peer": cell.tool}

    def all_of(side: str, name: str) -> list[float]:
        return [pair[sides[side]][name] for pair in pairs]

    def ratio(name: str) -> dict[str, Any]:
        found = paired_ratio(all_of("fettle", name), all_of("peer", name))
        return {
            "median": found.median,
            "low": found.low,
            "high": found.high,
            "num_pairs": found.num_pairs,
        }

    summary: dict[str, Any] = {}
    for side, tool in sides.items():
        last = pairs[-1][tool]["result"]
        names = (
            *("seconds", "cpu_seconds", "trained_per_second", "real_per_second"),
            *("trained_per_cpu_second", "rows_per_second", "model_gflops", "peak_bytes"),
            "job_seconds",
        )
        summary[side] = {
            "tool": tool,
            "settings": last.get("chosen", dict(configs[tool])),
            "versions": last["versions"],
            **{name: middle(all_of(side, name)) for name in names},
            **{f"of_{dtype}": _share(pairs, tool, dtype) for dtype in ("float32", "bfloat16")},
        }
    rates = [
        rate["float32"] for pair in pairs for rate in (pair["rates_before"], pair["rates_after"])
    ]
    steal = [pair[tool]["steal_share"] for pair in pairs for tool in sides.values()]
    return {
        **summary,
        "ratio": ratio("trained_per_second"),
        "ratio_by_cpu_time": ratio("trained_per_cpu_second"),
        "ratio_job_seconds": ratio("job_seconds"),
        "ratio_peak_bytes": ratio("peak_bytes"),
        "noise": {
            "drift": max(rates) / min(rates) - 1,
            "steal_share": max(steal),
            "load_average": max(
                pair[tool]["load_average"] for pair in pairs for tool in sides.values()
            ),
        },
    }


def _share(pairs: Sequence[Mapping[str, Any]], tool: str, dtype: str) -> float:
    """Model operations a second over the rate of matrix products around the same pair."""
    return middle(
        [
            2
            * pair[tool]["model_gflops"]
            / (pair["rates_before"][dtype] + pair["rates_after"][dtype])
            for pair in pairs
        ]
    )


def _rates(cell: Cell) -> dict[str, float]:
    """Speed of the model's own matrix products, just now."""
    shape = MODELS[cell.model].shape
    shapes = shape.linears * shape.layers
    if shape.vocab:
        shapes = [*shapes, (shape.hidden, shape.vocab)]
    return {dtype: machine.matmul_rate(shapes, dtype) for dtype in ("float32", "bfloat16")}


def _ours(cell: Cell) -> dict[str, Any]:
    """fettle's settings: what it derives by itself; only the exact lane names the dtype."""
    return {"dtype": "float32"} if cell.dtype == "float32" else {}


def _named(side: str, gate: Gate) -> Gate:
    return replace(gate, name=f"{side}: {gate.name}")


def _gate(gate: Gate) -> dict[str, Any]:
    return {"name": gate.name, "held": gate.held, "detail": gate.detail}


def _chosen(options: argparse.Namespace) -> list[Cell]:
    if options.quick:
        cells = [QUICK]
    elif options.cell:
        cells = [CELLS[name] for name in options.cell]
    else:
        cells = [cell for cell in CELLS.values() if options.only in cell.name]
    if options.missing:
        measured = {old["name"] for old in _kept(options) if old["status"] == "measured"}
        cells = [cell for cell in cells if cell.name not in measured]
    smaller = {"steps": options.steps, "batch_size": options.rows}
    smaller = {name: value for name, value in smaller.items() if value}
    if options.steps:
        smaller["warmup"] = min(1, options.steps - 1)
    return [replace(cell, **smaller) for cell in cells]


def _record(options: argparse.Namespace, cores: Sequence[int]) -> dict[str, Any]:
    """A new record; cells measured before are kept when only some are measured now."""
    return {
        "schema": SCHEMA,
        "created": _now(),
        "commit": _commit(),
        "machine": machine.facts(),
        "settings": {
            "threads": options.threads,
            "cores": list(cores),
            "pairs": options.pairs,
            "minutes": options.minutes,
            "memory_gb": options.memory_gb,
        },
        "data": {name: data.about for name, data in DATA.items()},
        "cells": _kept(options),
    }


def _kept(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Cells on disk, when only some are measured now; each says when and on which commit."""
    if not (options.cell or options.only or options.missing) or not options.results.is_file():
        return []
    cells = json.loads(options.results.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["status"] != "unfit"]


def _save(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1), encoding="utf-8")
    part.replace(path)


def _write_page(record: Mapping[str, Any]) -> None:
    table.write_into(PAGE, table.markdown(record))
    _say(f"table written into {PAGE.relative_to(REPOSITORY)}")


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.side_by_side", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--quick", action="store_true", help="one small cell, no tuning")
    parser.add_argument(
        "--cell", action="append", choices=sorted(CELLS), metavar="NAME", help="only this cell"
    )
    parser.add_argument("--only", default="", metavar="PART", help="cells whose name holds PART")
    parser.add_argument("--missing", action="store_true", help="cells that have no figures yet")
    parser.add_argument("--list", action="store_true", help="names of the cells")
    parser.add_argument("--pairs", type=int, help="runs of each side (5; quick: 2)")
    parser.add_argument("--steps", type=int, help="fewer steps than a cell has, to try things out")
    parser.add_argument("--rows", type=int, help="rows of a step, to try things out")
    parser.add_argument("--threads", type=int, default=1, help="pinned threads (1)")
    parser.add_argument("--cores", type=int, nargs="+", help="cores to pin to (the quietest)")
    parser.add_argument("--minutes", type=float, default=100, help="no new pair after that (100)")
    parser.add_argument("--memory-gb", type=float, help="cap on the memory of every tool")
    parser.add_argument("--tune", action="store_true", help="search the peers' settings anew")
    parser.add_argument(
        "--banking77", type=Path, default=REPOSITORY.parent / "shared" / "data" / "banking77"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs")
    parser.add_argument("--render", action="store_true", help="only that, from results on disk")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(CELLS))
        parser.exit(0)
    if options.pairs is None:
        options.pairs = 2 if options.quick else 5
    options.quick_look = bool(options.quick or options.steps or options.rows)
    if options.quick_look and options.results == RESULTS:
        # It must not replace a real measurement.
        options.results = RESULTS.with_name("side_by_side_quick.json")
    return options


if __name__ == "__main__":
    sys.exit(main())
