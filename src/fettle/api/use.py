"""``fettle.predict``, ``chat`` and ``doctor``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.api.recipes import Paths, as_paths
from fettle.errors import UsageError
from fettle.recipe.load import load_recipe
from fettle.records.rows import Message
from fettle.stages.diagnose import Diagnosis, diagnose
from fettle.stages.use import (
    Speaker,
    load_base_speaker,
    load_speaker,
    opening,
    predict_file,
)

PREDICT_KEYS = ("text", "label", "prompt", "completion", "messages", "format")


def predict(run: str | Path, source: Paths, **options: Any) -> list[dict[str, Any]]:
    """One record for each row of the files, in their order.

    Args:
        run: a finished run of classify, regress or chat.
        source: files or folders.
        options: text, label, prompt, completion, messages, format; where the columns have other
            names than in training.

    Returns:
        ``{"row_id", "prediction", "reference"?, "probabilities"?}``, a prediction of several labels
        being a JSON list as text, one of a number its text; for a row that can't be used
        ``{"row_id", "prediction": None, "error"}``.
    """
    unknown = options.keys() - set(PREDICT_KEYS)
    if unknown:
        raise UsageError(
            "E0115",
            f"there is no option {sorted(unknown)[0]!r}",
            hint=f"known: {', '.join(PREDICT_KEYS)}",
        )
    paths = as_paths(source)
    load_recipe({"data": {"path": paths, **options}})  # says what is wrong with a value
    return list(predict_file(Path(run), paths, options))


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation with a run's model, and with its base where they are compared."""

    tuned: Speaker
    base: Speaker | None
    system: tuple[Message, ...]

    def say(self, text: str) -> str:
        """The tuned model's answer to one message."""
        return "".join(self.tuned.answer([*self.system, Message("user", text)]))


def chat(run: str | Path, *, compare: bool = False, max_new_tokens: int | None = None) -> Chat:
    """Load a chat run to converse with.

    Args:
        run: a finished chat run.
        compare: load the base as well.
        max_new_tokens: most tokens of an answer; None = as in the evaluation.
    """
    tuned = load_speaker(Path(run), max_new_tokens)
    base = load_base_speaker(Path(run), tuned) if compare else None
    return Chat(tuned, base, tuple(opening(Path(run))))


def doctor() -> Diagnosis:
    """What this machine has, and what is missing."""
    return diagnose()
