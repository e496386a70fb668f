"""The packaged alternatives on trials without a difference, in their own environment.

In: a number of trials. Out: how often each tool rejects at 5 %. The tools' code runs as it is
installed by ``bench/environments/calibration.txt``, with its defaults but for 1,000 resamples.
Must not know: fettle's policy.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench._calibration_cells import Cell, cells
from bench.compare.environments import NotInstalled, installed, python_of

PEERS = ("deltagate", "evalci", "evalsig", "sacrebleu")
SCENARIOS = (
    ("accuracy 0.5", "rows", 30),
    ("accuracy 0.5", "rows", 300),
    ("score, normal", "rows", 30),
    ("accuracy 0.5", "5", 0),
    ("accuracy 0.5", "10", 0),
    ("accuracy 0.5", "20", 0),
    ("accuracy 0.5", "50", 0),
    ("accuracy 0.5", "giant", 0),
    ("BLEU", "rows", 100),
)
_RUNNER = Path(__file__).resolve().parent / "runners" / "run_calibration_peers.py"


def compare_peers(trials: int, seed: int) -> dict[str, Any]:
    """Rejection rates of each tool.

    Args:
        trials: per scenario.
        seed: of the trials.

    Returns:
        ``rates`` by scenario and tool, ``versions``; or ``skipped`` with the reason.
    """
    try:
        python = python_of("calibration")
    except NotInstalled as error:
        return {"skipped": f"the environment could not be made: {error}"}
    grid = {(cell.name, cell.layout, cell.num_rows): cell for cell in cells()}
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, key in enumerate(SCENARIOS):
            names.append(f"{key[0]}, {f'{key[2]} rows' if key[1] == 'rows' else key[1]}")
            _save(Path(folder) / f"{number}.npz", grid[key], trials, seed + number)
        # Nothing of a benchmark leaves this machine.
        quiet = {"DO_NOT_TRACK": "1", "EVALSIG_TELEMETRY": "0"}
        done = subprocess.run(
            [str(python), str(_RUNNER), folder, str(len(names))],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **quiet},
        )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {"skipped": f"the peers ended with an error: {done.stderr.strip()[-300:]}"}
    versions = installed(python)
    return {
        "trials": trials,
        "rates": dict(zip(names, json.loads(done.stdout), strict=True)),
        "versions": {name: versions[name] for name in PEERS},
    }


def _save(path: Path, cell: Cell, trials: int, seed: int) -> None:
    """Every trial's statistics, and its clusters."""
    arrays = {}
    for trial in range(trials):
        generator = np.random.default_rng([seed, trial, 9])
        groups = cell.groups(generator)
        n = cell.num_rows if groups is None else len(groups)
        arrays[f"base{trial}"], arrays[f"tuned{trial}"] = cell.draw(generator, groups, n)
        if groups is not None:
            arrays[f"groups{trial}"] = groups
    np.savez(path, **arrays)
