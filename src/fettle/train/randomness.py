"""States of the random generators, as tensors: what dropout will draw next.

In: nothing. Out: tensors by name, and back. Must not know: files, checkpoints.
"""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def torch_states() -> dict[str, Tensor]:
    """States of torch's generators: the CPU's, and the accelerator's where there is one."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_torch_states(states: Mapping[str, Tensor]) -> None:
    """Put torch's generators back; those that this machine lacks are left out."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])


def all_states() -> dict[str, Tensor]:
    """States of torch's, Python's and numpy's generators."""
    _, words, gauss = random.getstate()
    _, keys, place, has_normal, normal = np.random.get_state(legacy=True)
    return torch_states() | {
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), place, has_normal], dtype=torch.int64),
        "numpy_normal": torch.tensor([normal], dtype=torch.float64),
    }


def set_all_states(states: Mapping[str, Tensor]) -> None:
    """Put back what ``all_states`` gave."""
    set_torch_states(states)
    gauss = states["python_gauss"].tolist()
    random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
    *keys, place, has_normal = states["numpy"].tolist()
    normal = float(states["numpy_normal"][0])
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, has_normal, normal))
