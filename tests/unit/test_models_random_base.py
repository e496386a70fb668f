"""``--base random:DIR``: seeded, drawn once, and from then on a base like any other."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import tiny_model, tiny_tokenizer

from fettle.api import tokens
from fettle.errors import BaseModelError
from fettle.models import random_base as random_module
from fettle.models.load import find_base, load_for_task
from fettle.models.random_id import anchored_random, split_random
from fettle.pipeline import _anchored
from fettle.recipe.recipe import BaseSection, Recipe


def find(id: str, said: list[str] | None = None) -> Any:
    return find_base(BaseSection(id=id), (said if said is not None else []).append)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(random_module, "cache_directory", lambda: tmp_path / "cache" / "hub")
    return tmp_path / "cache" / "fettle-random"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A directory with config and tokenizer, and no weights."""
    base = tiny_model(tmp_path / "base", "decoder", tiny_tokenizer(tmp_path / "tokenizer"))
    (base / "model.safetensors").unlink()
    return base


def tensors(facts: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(Path(facts.path) / "model.safetensors")
    return found


def test_the_seed_decides_the_weights_and_stands_in_the_id(config: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    said: list[str] = []
    first = find(f"random:{config}", said)
    assert len(said) == 1
    assert torch.equal(torch.get_rng_state(), before), "the global generator is as it was"
    assert first.id == f"random:{config}#0"
    assert (first.revision, first.incumbent_run, first.architecture) == (None, None, "llama")
    torch.manual_seed(4)
    again = find(f"random:{config}#0", said)
    assert len(said) == 1, "drawn once"
    assert again == first
    other = find(f"random:{config}#1")
    assert other.id == f"random:{config}#1"
    assert other.sha256 != first.sha256
    assert other.num_parameters == first.num_parameters


def test_drawn_again_they_are_the_same(config: Path, cache: Path) -> None:
    first = find(f"random:{config}")
    drawn = tensors(first)
    for file in Path(first.path).iterdir():
        file.unlink()
    torch.manual_seed(99)
    again = find(f"random:{config}")
    assert again.sha256 == first.sha256
    assert all(torch.equal(drawn[name], value) for name, value in tensors(again).items())
    (config / "tokenizer_config.json").write_text("{}")
    assert find(f"random:{config}").path != first.path, "another tokenizer is another base"
    assert len(list(cache.iterdir())) == 2


def test_it_is_loaded_as_it_was_drawn(config: Path) -> None:
    facts = find(f"random:{config}")
    model = load_for_task(facts, "text", (), 0)
    drawn = tensors(facts)
    assert drawn
    for name, value in model.state_dict().items():
        if name in drawn:
            assert torch.equal(value, drawn[name]), name
    spread = float(drawn["model.layers.0.mlp.up_proj.weight"].std())
    assert spread == pytest.approx(model.config.initializer_range, rel=0.2)
    assert (Path(facts.path) / "tokenizer.json").read_bytes() == (
        config / "tokenizer.json"
    ).read_bytes()


def test_an_encoder_too(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "encoder", "encoder", tiny_tokenizer(tmp_path / "tokenizer"))
    (base / "model.safetensors").unlink()
    facts = find(f"random:{base}#7")
    assert facts.kind == "encoder"
    assert load_for_task(facts, "classify", ("a", "b"), 0).config.num_labels == 2


@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("random:", "E0512"),
        ("random:gone", "E0512"),
        ("random:#3", "E0512"),
        ("random:{base}#x", "E0562"),
        ("random:{base}#-1", "E0562"),
        ("random:{base}#", "E0562"),
    ],
)
def test_what_is_refused(config: Path, id: str, code: str) -> None:
    with pytest.raises(BaseModelError) as caught:
        find(id.format(base=config))
    assert caught.value.code == code


def test_config_and_tokenizer_are_checked_before_anything_is_drawn(
    config: Path, cache: Path
) -> None:
    path = config / "config.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(BaseModelError) as caught:
        find(f"random:{config}")
    assert caught.value.code == "E0503"
    path.write_text(json.dumps(good))
    (config / "tokenizer.json").unlink()
    with pytest.raises(BaseModelError) as caught:
        find(f"random:{config}")
    assert caught.value.code == "E0560"
    assert not cache.exists()


def test_a_relative_name_is_made_absolute(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.parent)
    assert split_random("random:base#2") == (config, 2)
    assert anchored_random("random:base") == f"random:{config}#0"
    recipe = Recipe.model_validate({"data": {"path": ["x"]}, "base": {"id": "random:base#5"}})
    assert _anchored(recipe).base.id == f"random:{config}#5"
    assert os.path.isabs(find("random:base").path)


def test_check_counts_tokens_with_the_tokenizer_of_a_random_base(config: Path) -> None:
    """``fettle check --base random:DIR`` reads tokenizer and context, and draws no weights."""
    assert tokens._find(f"random:{config}#3", None) == config.resolve()
    with pytest.raises(BaseModelError) as caught:
        tokens._find(f"random:{config}/nothing", None)
    assert caught.value.code == "E0512"
