"""The verbs as Python functions: ``fettle.run(...)`` does what ``fettle run ...`` does.

In: plain arguments, named as on the command line. Out: objects with a useful repr. Must not know:
the command line. Each verb's module is imported when it is first used: ``check``, ``compare``,
``report`` and ``evaluate`` of a file never load torch.
"""

import importlib
from typing import Any

_HOMES = {
    "chat": "use",
    "check": "data",
    "check_required": "runs",
    "check_requirement": "runs",
    "compare": "judge",
    "doctor": "use",
    "evaluate": "judge",
    "judge_again": "runs",
    "make_recipe": "recipes",
    "plan": "runs",
    "predict": "use",
    "report": "judge",
    "restore": "data",
    "resume": "runs",
    "run": "runs",
    "selftest": "judge",
}
"""Function -> module of this package."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fettle.api' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fettle.api.{_HOMES[name]}"), name)
