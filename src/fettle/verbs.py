"""Lets a package be called like the verb it is named after.

``fettle.train`` is a package and ``fettle.train(...)`` is the verb's Python twin (a contract). A
package that carries a verb's name calls ``callable_as_verb(__name__)`` in its ``__init__``.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class VerbPackage(ModuleType):
    """A package that passes a call on to the function of the same name in ``fettle.api``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call ``fettle.api.<name>``."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module("fettle.api"), verb)(*args, **kwargs)


def callable_as_verb(name: str) -> None:
    """Make the package ``name`` callable."""
    sys.modules[name].__class__ = VerbPackage
