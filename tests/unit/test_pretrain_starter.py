"""The example that pretrains the starter: its data, its order, and how it goes on after a stop."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer as OwnTokenizer
from fettle.records.rows import Message

NAMES = ("sources", "prepare", "stream", "stretch", "pretrain", "card", "trials")
TEXTS = [
    f"Paragraph {i}. The mill stood by the river, and the miller's {i % 7} children" * (i % 5 + 1)
    for i in range(120)
]
CONFIG = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "vocab_size": 320,
    "bos_token_id": 0,
    "eos_token_id": 3,
    "pad_token_id": 1,
}


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    folder = str(Path(__file__).parents[2] / "examples/pretrain-starter")
    sys.path.insert(0, folder)
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(folder)
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture
def work(example: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What prepare.py writes, of next to nothing."""
    prepare = example["prepare"]
    monkeypatch.setattr(prepare, "SHARD_TOKENS", 20_000)
    monkeypatch.setattr("fettle.models.random_base.cache_directory", lambda: tmp_path / "hub/x")
    folder = tmp_path / "work"
    folder.mkdir()
    tokenizer = prepare.train_tokenizer(TEXTS, 320)
    prepare.save_tokenizer(tokenizer, folder)
    for name in ("valid", "dialogues"):
        ids = np.concatenate(list(prepare.encoded(tokenizer, TEXTS[::-1])))
        np.save(folder / f"{name}.npy", ids[:5000])
    data: dict[str, Any] = {"shards": [], "complete": False, "sources": {"gsm8k": [2, 300]}}
    prepare.write_shards(tokenizer, TEXTS * 6, folder, data, None)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.json").write_text(json.dumps(CONFIG))
    return folder


def run(example: dict[str, ModuleType], work: Path, out: str, *more: str) -> None:
    torch.manual_seed(0)
    example["pretrain"].main(
        [
            *(str(work), str(work.parent / out), "--minutes=60", "--no-compile"),
            *("--batch-tokens=1024", "--length=128", "--dtype=float32"),
            *(f"--config={work.parent / 'config'}", *more),
        ]
    )


def weights(work: Path) -> dict[str, torch.Tensor]:
    """Of the newest checkpoint, in float32."""
    found = max((work / "run/checkpoints").iterdir(), key=lambda path: path.name)
    tensors: dict[str, torch.Tensor] = load_file(found / "weights.safetensors")
    return tensors


def test_turns_are_written_as_the_chat_template_writes_them(
    example: dict[str, ModuleType], work: Path
) -> None:
    pairs = [("system", "Be brief."), ("user", "How\nmany?"), ("assistant", "12, I think.")]
    tokenizer = OwnTokenizer.load(work)
    assert tokenizer.chat_template is not None
    template = ChatTemplate(tokenizer.chat_template, tokenizer)
    assert not template.verify()
    rendered = template.render_prompt([Message(*pair) for pair in pairs])
    plain = Tokenizer.from_file(str(work / "tokenizer.json"))
    text = example["sources"].turns(*pairs) + "<|im_start|>assistant\n"
    assert rendered == plain.encode(text).ids


def test_the_tokenizer_spells_everything(example: dict[str, ModuleType], work: Path) -> None:
    stock = AutoTokenizer.from_pretrained(work)
    text = "Año 2026: 17 % \t\n\n  ∑ 🦊 don't"
    ids = stock.encode(text)
    assert stock.decode(ids) == text
    assert stock.unk_token is None
    assert [stock.decode([i]) for i in stock.encode("90210")] == list("90210")
    assert stock.convert_tokens_to_ids(["<|endoftext|>", "<|pad|>"]) == [0, 1]
    assert stock.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [2, 3]
    sizes = example["stream"].token_bytes(work / "tokenizer.json")
    assert int(sizes[ids].sum()) == len(text.encode())
    assert sizes[:4].tolist() == [0, 0, 0, 0]


def test_shards_hold_every_document_in_order(example: dict[str, ModuleType], work: Path) -> None:
    data = json.loads((work / "data.json").read_text())
    assert data["complete"]
    shards = [np.load(path) for path in sorted(work.glob("tokens-*.npy"))]
    assert [len(shard) for shard in shards] == [shard["tokens"] for shard in data["shards"]]
    assert {len(shard) for shard in shards[:-1]} == {20_000}
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    text = tokenizer.decode(np.concatenate(shards).tolist(), skip_special_tokens=False)
    assert text == "".join("<|endoftext|>" + part for part in TEXTS * 6)


def test_every_block_is_taken_once_a_pass_at_any_length(
    example: dict[str, ModuleType], work: Path
) -> None:
    stream = example["stream"]
    data = json.loads((work / "data.json").read_text())
    blocks = sum(shard["tokens"] // stream.BLOCK for shard in data["shards"])

    def passed(length: int, first: int, number: int) -> list[int]:
        steps = stream.Stream(work, first).steps(1, length, 512)
        found = [next(steps) for _ in range(number)]
        return [
            token for step in found for part in step for row in part.rows for token in row.input_ids
        ]

    once = passed(256, 0, blocks)
    assert once == passed(1024, 0, blocks)
    assert once[5 * 1024 :] == passed(128, 5, blocks - 5)
    again = passed(1024, blocks, blocks)
    assert once != again
    cut = lambda ids: sorted(tuple(ids[i : i + 1024]) for i in range(0, len(ids), 1024))  # noqa: E731
    assert cut(once) == cut(again)
    (work / "data.json").write_text(json.dumps({**data, "complete": False}))
    with pytest.raises(SystemExit, match="wait for prepare"):
        passed(1024, blocks, 1)


def test_a_stopped_stretch_goes_on_bit_for_bit(
    example: dict[str, ModuleType], work: Path, tmp_path: Path
) -> None:
    run(example, work, "whole", "--steps=6")
    whole = weights(work)
    history = json.loads((tmp_path / "whole/stretch.json").read_text())
    (work / "run").rename(work / "run-whole")
    run(example, work, "parts", "--steps=3")
    with (work / "run/steps.jsonl").open("a") as log:
        # What a kill leaves behind: a step that was not saved, and half a line.
        log.write('{"step": 4, "tokens": 4096, "loss": 0.0}\n{"step": 5, "tok')
    run(example, work, "parts", "--steps=6")
    lines = [json.loads(line) for line in (work / "run/steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] > 1 for line in lines)
    parts = weights(work)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    found = json.loads((tmp_path / "parts/stretch.json").read_text())
    assert found["sha256"] == history["sha256"]
    assert (found["steps"], found["tokens"], found["position"]) == (6, 6 * 1024, 6)
    assert len(found["stretches"]) == 1


def test_another_machine_goes_on_from_what_was_exported(
    example: dict[str, ModuleType], work: Path, tmp_path: Path
) -> None:
    run(example, work, "out", "--steps=3")
    (work / "run").rename(work / "gone")
    run(example, work, "out", "--steps=5")
    found = json.loads((tmp_path / "out/stretch.json").read_text())
    assert (found["tokens"], found["position"]) == (5 * 1024, 5)
    lines = [json.loads(line) for line in (work / "run/steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 5]
    assert found["stretches"][0]["warmup_from"] == 3, "the moments are new: the rate rises again"
    (tmp_path / "out/model.safetensors").write_bytes(b"another")
    (work / "run").rename(work / "gone too")
    with pytest.raises(SystemExit, match="not the file"):
        run(example, work, "out", "--steps=6")


def test_the_export_is_a_base_for_stock_transformers(
    example: dict[str, ModuleType], work: Path, tmp_path: Path
) -> None:
    run(example, work, "out", "--steps=1")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    exact = weights(work)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, exact[name].to(torch.bfloat16)), name
    text = (tmp_path / "out/config.json").read_text()
    assert str(tmp_path) not in text
    assert model.generation_config.eos_token_id == 3


def test_the_rate_follows_the_clock(example: dict[str, ModuleType]) -> None:
    factor = example["pretrain"].rate_factor
    new = example["stretch"].Stretch(
        minutes=10, decay=True, rate=1, length=128, batch_tokens=1024, threads=1,
        optimizer="muon", dtype="float32", first_token=0, warmup_from=100,
    )  # fmt: skip
    assert factor(new, 101) == pytest.approx(1 / 60)
    assert factor(new, 160) == 1
    new.seconds = 300
    assert factor(new, 1000) == pytest.approx(0.5)
    new.seconds = 601
    assert factor(new, 1001) == 0
    new.decay = False
    assert factor(new, 1001) == 1


def test_a_decayed_stretch_ends_with_a_card(
    example: dict[str, ModuleType], work: Path, tmp_path: Path
) -> None:
    run(example, work, "out", "--minutes=0.0001", "--decay")
    final = json.loads((tmp_path / "out/final.json").read_text())
    assert 0 < final["bits_per_byte"] < 20
    found = json.loads((tmp_path / "out/stretch.json").read_text())
    assert found["stretches"][-1]["finished"]
    example["card"].main([str(work), str(tmp_path / "out"), "--tokens=4"])
    card = (tmp_path / "out/README.md").read_text()
    assert f"{final['bits_per_byte']:.2f} bits per byte" in card
    assert card.count("\n> ") >= 10


def test_dialogues_that_are_held_out_stay_out(
    example: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, sources = example["prepare"], example["sources"]
    talk = [sources.Document("x", f"x/{i}", sources.turns(("user", f"{i}?"))) for i in range(600)]
    kept_out = next(item.text for item in talk if sources.is_validation(item.group))
    twin = sources.Document("y", "y/0", kept_out)
    prose = [sources.Document("b", str(i), f"Text {i} <|im_end|>here") for i in range(5)]

    def corpus(folder: Path, validation: bool = False) -> list[Any]:
        return prose[:1] if validation else [*prose, prose[1]]

    monkeypatch.setattr(prepare, "corpus_documents", corpus)
    monkeypatch.setattr(prepare, "dialogue_documents", lambda folder: [twin, *talk])
    training, held_out, counts = prepare.mixture(tmp_path)
    assert held_out
    assert not set(held_out) & set(training)
    assert len(held_out) + len(training) == 600 + 4, "each text once, and not the validation one"
    assert counts["b"][0] == 4
    assert not [text for text in training if "Text" in text and "<|" in text]
    assert training == prepare.mixture(tmp_path)[0]


def test_trials_are_compared_at_equal_time_too(example: dict[str, ModuleType]) -> None:
    steps = np.arange(1, 21)

    def curve(seconds_a_step: float) -> dict[str, Any]:
        # The first step compiles.
        seconds = 100 + seconds_a_step * (steps - 1)
        loss = 10 - steps / 10
        return {"tokens": steps * 1000, "seconds": seconds, "loss": loss, "bits": 2.0, "talk": 1.0}

    lines = example["trials"].table({"fast": curve(1.0), "slow": curve(2.0)}).splitlines()
    fast, slow = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert "after 19 processor seconds" in lines[0]
    assert fast == ["fast", "0.02", "2.000", "1.000", "8.050", "1,000", "8.050"]
    # Ten of its twenty steps fit into the time of the quick one; the last tenth of them is one.
    assert slow == ["slow", "0.02", "2.000", "1.000", "8.050", "500", "9.000"]


def test_a_trial_is_trained_from_its_own_config(
    example: dict[str, ModuleType], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        example["trials"].subprocess, "run", lambda command, **_: seen.append(command)
    )
    folder = work / "trials" / "x"
    changes = {"hidden_size": 384, "num_attention_heads": 6}
    example["trials"].train(work, folder, 8192, ["--batch-tokens=4096"], changes)
    config = json.loads((folder / "config/config.json").read_text())
    assert (config["hidden_size"], config["num_key_value_heads"]) == (384, 6)
    assert "--steps=2" in seen[0]
    assert np.array_equal(np.load(folder / "valid.npy"), np.load(work / "valid.npy"))
