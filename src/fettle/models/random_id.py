"""The name of a base with random weights: ``random:DIR`` or ``random:DIR#SEED``.

In: the name. Out: directory and seed. Must not know: what is built from them, torch.
"""

from pathlib import Path

from fettle.errors import BaseModelError
from fettle.models.catalog import RANDOM


def split_random(id: str) -> tuple[Path, int]:
    """``random:DIR#SEED`` -> the absolute directory and the seed (0 where none is named).

    Raises:
        BaseModelError: E0512, there is no such directory; E0562, the seed is no number.
    """
    name, mark, seed = id.removeprefix(RANDOM).rpartition("#")
    if not mark:
        name, seed = seed, "0"
    if not (seed.isascii() and seed.isdecimal() and int(seed) < 2**63):
        raise BaseModelError(
            "E0562",
            f"the seed of {id} is {seed!r}, but must be a whole number from 0 on",
            hint=f"--base {RANDOM}{name or 'DIR'}#1, or leave #... out for the seed 0",
        )
    path = Path(name).expanduser()
    if not (name and path.is_dir()):
        raise BaseModelError(
            "E0512",
            f"the base {id} is not a directory",
            why=f"Behind {RANDOM} stands a directory with config.json and tokenizer files",
            hint=f"--base {RANDOM}DIR",
        )
    return path.resolve(), int(seed)


def anchored_random(id: str) -> str:
    """The same base, named so that it is found from any working directory.

    Raises:
        BaseModelError: as ``split_random``.
    """
    directory, seed = split_random(id)
    return f"{RANDOM}{directory}#{seed}"
