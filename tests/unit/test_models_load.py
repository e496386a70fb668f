"""What is refused as a base, and how the message tells the way out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub
from safetensors.torch import load_file, save_file
from tests.tiny_models import tiny_model, tiny_tokenizer

from fettle.errors import BaseModelError, FettleError, MachineError, NetworkError, RecipeError
from fettle.models import hub as hub_module
from fettle.models import load as load_module
from fettle.models.adapters import apply_lora
from fettle.models.load import find_base, load_for_task
from fettle.recipe.recipe import BaseSection


def silent(line: str) -> None:
    pass


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "base", "decoder", tiny_tokenizer(tmp_path / "tokenizer"))


def find(id: Path | str, **options: Any) -> Any:
    return find_base(BaseSection(id=str(id), **options), silent)


def change_config(base: Path, **changes: Any) -> None:
    path = base / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")


def change_weights(base: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(base / "model.safetensors")
    change(tensors)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def test_facts(base: Path) -> None:
    (base / "README.md").write_text("---\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    facts = find(base)
    tensors = load_file(base / "model.safetensors")
    assert facts.num_parameters == sum(tensor.numel() for tensor in tensors.values())
    assert facts.weight_bytes == (base / "model.safetensors").stat().st_size
    assert (facts.licence, facts.has_chat_template, facts.revision) == ("mit", False, None)
    assert facts.incumbent_run is None
    (base / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert find(base).has_chat_template
    assert find(base).sha256 == facts.sha256
    change_weights(base, lambda tensors: tensors["model.norm.weight"].add_(1))
    assert find(base).sha256 != facts.sha256


def test_sharded_weights_are_read_and_their_names_checked(base: Path) -> None:
    whole = find(base)
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, base / file, metadata={"format": "pt"})
    index = base / "model.safetensors.index.json"
    weight_map = {name: file for file, part in parts.items() for name in part}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    facts = find(base)
    assert facts.num_parameters == whole.num_parameters
    assert torch.equal(
        load_for_task(facts, "chat", (), 0).state_dict()[names[7]], tensors[names[7]]
    )
    for bad in ("../outside.safetensors", "model-3.safetensors"):
        index.write_text(json.dumps({"weight_map": {names[0]: bad}}), encoding="utf-8")
        with pytest.raises(BaseModelError, match=r"names the weight file") as caught:
            find(base)
        assert caught.value.code == "E0506"


def remove_config(base: Path) -> None:
    (base / "config.json").unlink()


def remove_weights(base: Path) -> None:
    (base / "model.safetensors").unlink()


def leave_pickle_only(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def cut_weights(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def bury_config(base: Path) -> None:
    (base / "config.json").write_text("[" * 100_000, encoding="utf-8")


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda base: change_config(base, **changes)


REFUSED = {
    "no config": (remove_config, "E0502", "starter"),
    "no weights": (remove_weights, "E0506", "safetensors"),
    "pickle only": (leave_pickle_only, "E0507", "save_pretrained"),
    "no tokenizer": (lambda base: (base / "tokenizer.json").unlink(), "E0560", "save_pretrained"),
    "cut weights": (cut_weights, "E0509", "again"),
    "deep JSON": (bury_config, "E0505", "published"),
    "list as config": (
        lambda base: (base / "config.json").write_text("[]", encoding="utf-8"),
        "E0505",
        "published",
    ),
    "auto_map": (config(auto_map={"AutoModel": "evil--x.Y"}), "E0503", "custom code"),
    "trust_remote_code": (config(trust_remote_code=True), "E0503", "custom code"),
    # transformers CVE-2026-4372
    "hub kernel": (config(_attn_implementation_internal="a/b"), "E0503", "custom code"),
    "kernel by its public name": (config(attn_implementation="a/b:c"), "E0503", "custom code"),
    "nested private key": (config(text_config={"_x": 1}), "E0503", "custom code"),
    "quantized": (config(quantization_config={"bits": 4}), "E0503", "quantization"),
    "unknown architecture": (config(model_type="evil"), "E0504", "llama"),
    "no architecture": (config(model_type=None), "E0504", "llama"),
    "architecture as a list": (config(model_type=["llama"]), "E0504", "llama"),
    "a billion layers": (config(num_hidden_layers=10**9), "E0505", "published"),
    "negative size": (config(hidden_size=-1), "E0505", "published"),
    "size as text": (config(hidden_size="32"), "E0505", "published"),
    "size as truth": (config(num_attention_heads=True), "E0505", "published"),
    "rate as text": (config(attention_dropout="much"), "E0505", "published"),
    "encoder-decoder": (config(is_encoder_decoder=True), "E0505", "published"),
}


@pytest.mark.parametrize(("spoil", "code", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(base: Path, spoil: Callable[[Path], None], code: str, hint: str) -> None:
    spoil(base)
    with pytest.raises(BaseModelError) as caught:
        find(base)
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_harmless_and_unknown_keys_are_dropped(base: Path) -> None:
    change_config(
        base, _name_or_path="x/y", made_by_some_tool={"a": 1}, auto_map={}, use_cache="no"
    )
    assert "made_by_some_tool" not in load_for_task(find(base), "chat", (), 0).config.to_dict()


MISFITS = {
    "a lost weight": lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"),
    "a lost head": lambda tensors: tensors.pop("lm_head.weight"),
    "another shape": lambda tensors: tensors.update({"model.norm.weight": torch.zeros(31)}),
    "a further layer": lambda tensors: tensors.update(
        {"model.layers.2.mlp.up_proj.weight": torch.zeros(64, 32)}
    ),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS.keys())
def test_weights_that_do_not_fit_are_never_filled_up(
    base: Path, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    change_weights(base, change)
    with pytest.raises(BaseModelError) as caught:
        load_for_task(find(base), "chat", (), 0)
    assert caught.value.code == "E0514"


def test_a_config_that_lies_about_its_size(base: Path) -> None:
    for key, value in (("num_hidden_layers", 1), ("num_hidden_layers", 3), ("vocab_size", 7)):
        before = (base / "config.json").read_bytes()
        change_config(base, **{key: value})
        with pytest.raises(BaseModelError) as caught:
            load_for_task(find(base), "chat", (), 0)
        assert caught.value.code == "E0514", key
        (base / "config.json").write_bytes(before)


def test_a_new_head_follows_the_seed_and_names_the_labels(base: Path) -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = load_for_task(find(base), "classify", ("no", "yes"), 0)
        heads.append(model.score.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert model.config.label2id == {"no": 0, "yes": 1}
    assert model.config.pad_token_id == 0
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_half_precision_weights_are_loaded_as_float32(base: Path) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    change_weights(base, halve)
    change_config(base, dtype="bfloat16", torch_dtype="bfloat16")
    model = load_for_task(find(base), "chat", (), 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_an_encoder_can_not_chat(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base", "encoder", tiny_tokenizer(tmp_path / "tokenizer"))
    with pytest.raises(BaseModelError, match="encoder") as caught:
        load_for_task(find(base), "chat", (), 0)
    assert caught.value.code == "E0513"


def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for id in (str(tmp_path / "file"), str(tmp_path / "gone"), "./gone", "a/b/c"):
        with pytest.raises(BaseModelError) as caught:
            find(id)
        assert caught.value.code == "E0512"


def test_starter(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "STARTER_DIRECTORY", base)
    for id in (None, "starter"):
        facts = find_base(BaseSection(id=id), silent)
        assert (facts.id, facts.path) == ("starter", str(base))
    monkeypatch.setattr(load_module, "STARTER_DIRECTORY", tmp_path / "nothing")
    with pytest.raises(BaseModelError) as caught:
        find_base(BaseSection(), silent)
    assert caught.value.code == "E0501"


def response_error(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    error.args = ("said the hub",)
    return error


HUB = {
    "gated": (response_error(hub.GatedRepoError), BaseModelError, "E0510", "accept"),
    "unknown": (response_error(hub.RepositoryNotFoundError), BaseModelError, "E0511", "spelling"),
    "revision": (response_error(hub.RevisionNotFoundError), BaseModelError, "E0511", "spelling"),
    "bad id": (hub.HFValidationError("bad"), BaseModelError, "E0511", "spelling"),
    "server": (response_error(hub.HfHubHTTPError), NetworkError, "E0801", "--base starter"),
    "no network": (hub.LocalEntryNotFoundError("none"), NetworkError, "E0801", "--base starter"),
    "connection": (ConnectionError("reset"), NetworkError, "E0801", "--base starter"),
    "disk full": (OSError(28, "No space left on device"), MachineError, "E0401", "HF_HUB_CACHE"),
}


@pytest.mark.parametrize(("error", "kind", "code", "hint"), HUB.values(), ids=HUB.keys())
def test_hub_errors(
    error: Exception,
    kind: type[FettleError],
    code: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(hub_module, "snapshot_download", refuse)
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(kind) as caught:
        find("owner/name")
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_hub_download_asks_for_safe_files_at_a_revision(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def answer(id: str, **options: Any) -> str:
        asked.update(options, id=id)
        return str(base)

    monkeypatch.setattr(hub_module, "snapshot_download", answer)
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", False)
    said: list[str] = []
    facts = find_base(BaseSection(id="owner/name", revision="v1"), said.append)
    assert (facts.id, facts.revision, facts.path) == ("owner/name", base.name, str(base))
    assert (asked["id"], asked["revision"], asked["local_files_only"]) == (
        "owner/name",
        "v1",
        False,
    )
    assert not any(pattern in asked["allow_patterns"] for pattern in ("*.bin", "*.pt", "*"))
    assert said == ["base owner/name: asking the hub"]


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_and_not_in_the_cache(
    by_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", by_environment)
    with pytest.raises(NetworkError) as caught:
        find("owner/not-there-at-all", offline=not by_environment)
    assert caught.value.code == "E0802"
    assert caught.value.exit_code == 8


def test_target_modules_that_do_not_exist(base: Path) -> None:
    facts = find(base)
    model = load_for_task(facts, "chat", (), 0)
    with pytest.raises(RecipeError, match="nothing_like_it") as caught:
        apply_lora(model, "chat", 4, 8.0, 0.0, ["nothing_like_it"], facts)
    assert caught.value.code == "E0516"
    assert "self_attn.q_proj" in caught.value.hint


def test_a_hub_base_is_named_by_id_and_commit_in_the_adapter(base: Path) -> None:
    facts = find(base)
    for revision, name in ((None, str(base)), ("0123abcd", "owner/name")):
        told = type(facts)(
            **{
                **{key: getattr(facts, key) for key in facts.__slots__},
                "id": "owner/name",
                "revision": revision,
            }
        )
        model = apply_lora(load_for_task(facts, "chat", (), 0), "chat", 4, 8.0, 0.0, None, told)
        written = model.peft_config["default"]
        assert (written.base_model_name_or_path, written.revision) == (name, revision)
