"""Keys of a recipe that are each allowed but can't hold together, found before anything is read.

In: a ``Recipe``. Out: the first such conflict, or None. Must not know: files, data, bases.
"""

import difflib
import re
from dataclasses import dataclass

from fettle.recipe.methods import (
    OWN,
    PASSED_THROUGH,
    REFUSED,
    foreign_keys,
    given_keys,
    implied_kind,
    kind_of,
)
from fettle.recipe.policies import POLICIES
from fettle.recipe.recipe import DataSection, MethodSection, Recipe, TrainSection


@dataclass(frozen=True, slots=True)
class Conflict:
    """What ``load_recipe`` makes an error of."""

    code: str
    path: str
    """The key that the message points to."""
    message: str
    why: str
    hint: str


def find_conflict(recipe: Recipe) -> Conflict | None:
    """The first pair of values that can't both be meant; both stand in the message."""
    return (
        _policies(recipe.data)
        or _waivers(recipe.data)
        or _method(recipe.method)
        or _rank(recipe.method)
        or _budget(recipe.train)
        or _task(recipe)
    )


def _unknown_kind(kind: str) -> str:
    close = difflib.get_close_matches(kind, POLICIES, n=1, cutoff=0.6)
    return f"there is no kind of finding {kind!r}" + (f"; did you mean {close[0]}" if close else "")


def _policies(section: DataSection) -> Conflict | None:
    """What can't be done about a kind of finding is refused here, not passed over later."""
    for kind, chosen in section.policies.items():
        known = POLICIES.get(kind)
        if known is None:
            return Conflict(
                "E0230",
                "data.policies",
                _unknown_kind(kind),
                "",
                "known are " + ", ".join(POLICIES),
            )
        if chosen not in known.allowed:
            return Conflict(
                "E0230",
                "data.policies",
                f"data.policies: {kind} can't be {chosen}",
                known.refused.get(chosen, ""),
                f"choose {' or '.join(known.allowed)}; the default is {known.default}",
            )
    return None


def _waivers(section: DataSection) -> Conflict | None:
    for number, waiver in enumerate(section.waivers, start=1):
        if waiver.kind not in POLICIES:
            return Conflict(
                "E0231",
                "data.waivers",
                f"waiver {number}: {_unknown_kind(waiver.kind)}",
                "",
                "known are " + ", ".join(POLICIES),
            )
        if waiver.pattern is None:
            continue
        try:
            re.compile(waiver.pattern)
        except re.error as error:
            return Conflict(
                "E0231",
                "data.waivers",
                f"waiver {number}: {waiver.pattern!r} is no regular expression: {error}",
                "",
                "correct it; a plain text with signs such as ( or ? needs a \\ before each of them",
            )
    return None


def _task(recipe: Recipe) -> Conflict | None:
    """Keys of another task; where the task is auto, the data stage says the same later."""
    task, train = recipe.task, recipe.train
    if train.class_weights != "none" and task not in (None, "classify"):
        return Conflict(
            "E0365",
            "train.class_weights",
            f"train.class_weights is for the task classify, not for {task}",
            "Only labels have a weight of their own",
            "leave train.class_weights out",
        )
    if train.overlong == "split" and task in ("classify", "regress"):
        return Conflict(
            "E0366",
            "train.overlong",
            f"train.overlong=split can't be used with the task {task}",
            "The parts of a text that has one label, or one number, have none of their own",
            "choose train.overlong=cut (the beginning decides), quarantine or error",
        )
    return None


def _method(section: MethodSection) -> Conflict | None:
    name = section.type
    if name is None:
        given = [f"method.{key}" for key in given_keys(section)]
        if not given or implied_kind(section) is not None:
            return None
        return Conflict(
            "E0220",
            given[-1],
            f"no one method reads {' and '.join(given)}",
            "method.type is auto, and these keys belong to different methods or need it named",
            f"name it with method.type ({', '.join(OWN)} or a method of peft), and drop the others",
        )
    if name in REFUSED:
        return Conflict(
            "E0221",
            "method.type",
            f"method.type is {name}, a method of peft that fettle can't train",
            REFUSED[name],
            "choose lora, or one of: " + ", ".join(PASSED_THROUGH),
        )
    known = [*OWN, *PASSED_THROUGH]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        return Conflict(
            "E0205",
            "method.type",
            f"method.type is {name!r}" + (f"; did you mean {close[0]}" if close else ""),
            "Allowed is auto, "
            + ", ".join(OWN)
            + ", or a method of peft: "
            + ", ".join(PASSED_THROUGH),
            "see docs/concepts/methods.md",
        )
    kind = kind_of(name)
    foreign = foreign_keys(section, kind)
    if not foreign:
        return None
    key = foreign[0]
    value = getattr(section, key)
    hint = f"drop method.{key}, or choose the method that it belongs to"
    if kind == "full":
        hint = f"drop method.{key}, or --set method.type={'last_n' if key == 'layers' else 'lora'}"
    elif kind == "peft" and key != "layers":
        hint = f"give {name}'s own settings under method.options, for example {{r: 8}}"
    elif key == "options":
        hint = f"{name} has keys of its own under method; see docs/reference/recipe.md"
    return Conflict(
        "E0220",
        f"method.{key}",
        f"method.{key} = {value} has no meaning with method.type = {name}",
        "It would be left unread",
        hint,
    )


def _rank(section: MethodSection) -> Conflict | None:
    """Orthogonal factors come in pairs (peft builds A from the odd rows, B from the even)."""
    if section.init != "orthogonal":
        return None
    ranks = {"method.rank": section.rank or 2} | {
        f"method.rank_pattern of {name}": rank for name, rank in section.rank_pattern.items()
    }
    for where, rank in ranks.items():
        if rank % 2:
            return Conflict(
                "E0220",
                "method.init",
                f"{where} = {rank} does not go with method.init = orthogonal",
                "Orthogonal factors need an even rank",
                f"choose {rank - 1 or 2} or {rank + 1}, or another method.init",
            )
    return None


def _budget(section: TrainSection) -> Conflict | None:
    """An epoch is one step at least; the exact sum is made when the rows are counted."""
    if section.max_steps is None or section.epochs is None or section.epochs <= section.max_steps:
        return None
    return Conflict(
        "E0222",
        "train.epochs",
        f"train.epochs = {section.epochs:g} needs at least as many steps, and"
        f" train.max_steps = {section.max_steps} allows fewer",
        "",
        "give one of the two, or raise train.max_steps",
    )
