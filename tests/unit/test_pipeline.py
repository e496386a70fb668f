"""What a run writes down of its recipe, and whom it compares with."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.train_fixture import BASE

from fettle import api
from fettle.errors import RecipeError
from fettle.pipeline import _anchored
from fettle.recipe.recipe import Recipe
from fettle.stages.evaluation import _incumbent


def test_a_local_base_and_template_are_written_by_their_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("models/mine", "starter", "plain"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "chat.jinja").write_text("")

    def anchored(**base: str) -> Any:
        return _anchored(Recipe.model_validate({"data": {"path": ["x"]}, "base": base})).base

    assert anchored(id="models/mine").id == str((tmp_path / "models/mine").resolve())
    assert anchored(id="starter").id == "starter"
    assert anchored(id="owner/name").id == "owner/name"
    assert anchored().id is None
    assert anchored(chat_template="chat.jinja").chat_template == str(
        (tmp_path / "chat.jinja").resolve()
    )
    assert anchored(chat_template="plain").chat_template == "plain"


@pytest.mark.parametrize(
    ("task", "labels", "compared"),
    [
        ("classify", ["a", "b"], True),
        ("classify", ["c", "d"], False),
        ("text", [], False),
        ("chat", [], False),
    ],
)
def test_an_earlier_run_of_another_task_is_a_base_like_any_other(
    tmp_path: Path, task: str, labels: list[str], compared: bool
) -> None:
    (tmp_path / "model").mkdir()
    meta = {"task": task, "labels": labels}
    (tmp_path / "model" / "fettle.json").write_text(json.dumps(meta))
    prepared: Any = SimpleNamespace(task="classify", labels=("b", "c0"))
    base: Any = SimpleNamespace(incumbent_run=str(tmp_path))
    assert _incumbent(base, prepared) == (tmp_path / "model" if compared else None)
    assert _incumbent(BASE, prepared) is None


def test_predict_says_which_value_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.format"):
        api.predict(tmp_path, "rows.csv", format="cvs")
