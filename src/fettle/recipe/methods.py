"""The training methods by name, and which keys of a recipe speak of which.

In: the method section. Out: what kind of method is meant, and the keys that do not fit it. Must not
know: peft, torch, bases. A test compares the names with peft's own table.
"""

from typing import Any, Literal

from fettle.recipe.recipe import MethodSection

Kind = Literal["full", "lora", "last_n", "peft"]

OWN: tuple[Literal["full", "lora", "last_n"], ...] = ("full", "lora", "last_n")

PASSED_THROUGH = (
    "adamss",
    "beft",
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hira",
    "hra",
    "ia3",
    "lily",
    "ln_tuning",
    "loha",
    "lokr",
    "miss",
    "oft",
    "osf",
    "peanut",
    "psoft",
    "randlora",
    "road",
    "shira",
    "supertuning",
    "tinylora",
    "trainable_tokens",
    "unilora",
    "vblora",
    "vera",
    "waveft",
)
"""Methods of peft that live inside single layers: they train as they are, under their own names."""

_VIRTUAL = "It puts virtual tokens into the sequence, which loss masks and packing do not know"
REFUSED = {
    "adalora": "It must be told of every step, to move ranks between layers",
    "adaption_prompt": _VIRTUAL,
    "cartridge": _VIRTUAL,
    "cpt": _VIRTUAL,
    "multitask_prompt_tuning": _VIRTUAL,
    "p_tuning": _VIRTUAL,
    "poly": "It wants a task number with every row",
    "prefix_tuning": _VIRTUAL,
    "prompt_tuning": _VIRTUAL,
    "pvera": "It draws noise from a generator of its own, which no checkpoint can go on from",
    "shadow": "It replaces the model's own forward pass",
    "xlora": "It mixes adapters that were trained before",
}
"""Methods of peft that fettle can't train, and why."""

LORA_KEYS = (
    "rank",
    "alpha",
    "dropout",
    "rslora",
    "dora",
    "init",
    "plus_ratio",
    "rank_pattern",
    "alpha_pattern",
)

_KEYS: dict[Kind, frozenset[str]] = {
    "full": frozenset(),
    "lora": frozenset({*LORA_KEYS, "target_modules"}),
    "last_n": frozenset({"layers"}),
    "peft": frozenset({"target_modules", "options"}),
}

TARGET_WORDS = ("attention", "mlp")
"""Stand in target_modules for all linear layers of one kind."""


def kind_of(name: str) -> Kind:
    """``peft`` for every method that is passed through."""
    for own in OWN:
        if name == own:
            return own
    return "peft"


def given_keys(section: MethodSection) -> dict[str, Any]:
    """Keys with another value than their default, but for ``type``.

    A recipe that was written out in full names every key, so it is values that count.
    """
    fields = type(section).model_fields
    return {
        name: getattr(section, name)
        for name, field in fields.items()
        if name != "type" and getattr(section, name) != field.get_default(call_default_factory=True)
    }


def foreign_keys(section: MethodSection, kind: Kind) -> list[str]:
    """Keys that were given and that this kind of method does not read."""
    return [name for name in given_keys(section) if name not in _KEYS[kind]]


def implied_kind(section: MethodSection) -> tuple[Kind, str] | None:
    """With ``type: auto``: the one method that the given keys speak of, and the first such key.

    None when no key was given, or none tells (target_modules alone is taken for lora's).
    """
    keys = given_keys(section)
    for kind in ("lora", "last_n"):
        if keys and set(keys) <= _KEYS[kind]:
            return kind, next(iter(keys))
    return None
