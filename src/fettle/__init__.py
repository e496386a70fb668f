"""fettle: fine-tune with proof.

The verbs of the command line are functions here, with the same names and arguments. Nothing heavy
is imported before one of them is used.
"""

import importlib
from typing import Any

from fettle.version import __version__

_PACKAGES = ("chat", "evaluate", "report")
"""Packages that are named like a verb; they can be called (see fettle.verbs)."""
_VERBS = ("check", "compare", "doctor", "plan", "predict", "restore", "resume", "run", "selftest")
__all__ = ["__version__", "chat", "evaluate", "report", *_VERBS]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"fettle.{name}")
    if name in _VERBS:
        return getattr(importlib.import_module("fettle.api"), name)
    raise AttributeError(f"module 'fettle' has no attribute {name!r}")
