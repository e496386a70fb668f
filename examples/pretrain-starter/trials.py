"""Short runs of different settings from the same random start, compared by tokens and by time.

    python trials.py WORK [--tokens 1000000] [--only NAME ...]

Each setting trains in WORK/trials/NAME at a constant rate. The table gives the loss (mean over the
last tenth of the steps) and bits per byte at equal tokens, and the loss at equal processor time:
that of the quickest setting.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stretch import TOKENIZER, read_history

HERE = Path(__file__).resolve().parent
# Options of pretrain.py, and what is changed in config.json.
SETTINGS: dict[str, tuple[list[str], dict[str, int]]] = {
    "muon": ([], {}),
    "adamw": (["--optimizer=adamw", "--rate=3e-3"], {}),
    "adamw, 8k a step": (["--optimizer=adamw", "--rate=3e-3", "--batch-tokens=8192"], {}),
    "muon, 8k a step": (["--batch-tokens=8192"], {}),
    "muon, 16k a step": (["--batch-tokens=16384"], {}),
    "muon, rate 2e-3": (["--rate=2e-3"], {}),
    "muon, rate 8e-3": (["--rate=8e-3"], {}),
    "muon, 512 context": (["--length=512"], {}),
    "muon, 384x4": ([], {"hidden_size": 384, "intermediate_size": 1024, "num_attention_heads": 6}),
    "muon, 320x6": ([], {"num_hidden_layers": 6}),
    "muon, 256x8": (
        [],
        {
            **{"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4},
            "num_hidden_layers": 8,
        },
    ),
    "muon, 256x5": (
        [],
        {
            **{"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4},
            "num_hidden_layers": 5,
        },
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS))
    parser.add_argument("--options", nargs="*", default=[], help="for all, such as length=128")
    options = parser.parse_args(arguments)
    found = {}
    for name in options.only:
        more, changes = SETTINGS[name]
        folder = options.work / "trials" / name.replace(" ", "-").replace(",", "")
        more = [*more, *(f"--{option}" for option in options.options)]
        train(options.work, folder, options.tokens, more, changes)
        found[name] = folder
        print(table({name: curve(folder) for name, folder in found.items()}), flush=True)


def train(
    work: Path, folder: Path, tokens: int, more: Sequence[str], changes: dict[str, int]
) -> None:
    """One setting; goes on where an earlier call was stopped."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    config = json.loads((HERE / "config" / "config.json").read_text()) | changes
    if "num_attention_heads" in changes:
        config["num_key_value_heads"] = changes["num_attention_heads"]
    (folder / "config" / "config.json").write_text(json.dumps(config))
    shared = [*TOKENIZER, "data.json", *(path.name for path in work.glob("*.npy"))]
    for name in shared:
        if not (folder / name).exists():
            (folder / name).symlink_to((work / name).resolve())
    batch = next((int(o.split("=")[1]) for o in reversed(more) if "batch-tokens" in o), 4096)
    command = [
        *(sys.executable, str(HERE / "pretrain.py"), str(folder), str(folder / "out")),
        *("--minutes=100000", "--look-every=100000", f"--config={folder / 'config'}"),
        *("--length=256", f"--steps={tokens // batch}", *more),
    ]
    with (folder / "log.txt").open("a") as log:
        subprocess.run(
            command, check=True, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ)
        )


def curve(folder: Path) -> dict[str, Any]:
    """What one setting came to."""
    lines = [json.loads(line) for line in (folder / "run" / "steps.jsonl").open()]
    history = read_history(folder / "out")
    assert history is not None
    looked = history.now.curve[-1]
    return {
        "tokens": np.array([line["tokens"] for line in lines]),
        "seconds": np.array([line["processor_seconds"] for line in lines]),
        "loss": np.array([line["loss"] for line in lines]),
        "bits": looked.bits_per_byte,
        "talk": looked.dialogue_bits_per_byte,
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown; the first step, with the compilation in it, does not count as time."""
    fewest = min(float(item["seconds"][-1] - item["seconds"][0]) for item in found.values())
    rows = [
        "| setting | M tokens | bits per byte | dialogues | loss | tokens per processor second |"
        f" loss after {fewest:.0f} processor seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, item in found.items():
        seconds = item["seconds"] - item["seconds"][0]
        speed = (item["tokens"][-1] - item["tokens"][0]) / max(float(seconds[-1]), 1e-9)
        last = max(1, int(np.searchsorted(seconds, fewest, side="right")))
        rows.append(
            f"| {name} | {item['tokens'][-1] / 1e6:.2f} | {item['bits']:.3f} | {item['talk']:.3f} |"
            f" {smooth(item['loss']):.3f} | {speed:,.0f} | {smooth(item['loss'][:last]):.3f} |"
        )
    return "\n".join(rows)


def smooth(losses: np.ndarray) -> float:
    """Mean of the last tenth."""
    return float(losses[-max(1, len(losses) // 10) :].mean())


if __name__ == "__main__":
    main()
