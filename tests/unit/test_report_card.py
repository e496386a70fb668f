"""The model card: valid front matter, literal text, honest limits, code that runs."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from report_fixture import write_chat_run, write_classify_run

from fettle.errors import UsageError
from fettle.report import write_card
from fettle.report.markdown import markdown

WORDS = ["[PAD]", "[UNK]", "<eos>", "a", "text", "to", "classify", "question", "begins", "is"]


def _front_matter(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = write_card(write_classify_run(tmp_path / "run", 3, 40)).read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert _front_matter(card) == {
        "license": "apache-2.0",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["fettle"],
    }


def test_a_base_that_is_no_hub_id_is_not_claimed_to_be_one(tmp_path: Path) -> None:
    run = write_chat_run(tmp_path / "run", 40, 20)
    (run / "model").mkdir()
    (run / "model" / "adapter_config.json").write_text("{}")
    fields = _front_matter(write_card(run).read_text(encoding="utf-8"))
    assert "base_model" not in fields
    assert fields["library_name"] == "peft"
    assert fields["pipeline_tag"] == "text-generation"


def test_the_card_tells_verdict_limits_and_data(tmp_path: Path) -> None:
    card = write_card(write_classify_run(tmp_path / "run", 3, 240)).read_text(encoding="utf-8")
    for part in (
        "## Verdict: Improved", "What this evaluation did not test", "Other abilities.",
        "| train | 8,031 |", "d0" * 32, "TF-IDF + logistic regression", "transformers 5.23.0",
    ):  # fmt: skip
        assert part in card
    assert "data/tickets.csv" not in card  # folders of the author stay private
    assert not re.search(r"\bproves?\b|significan", card)


def test_a_lone_verdict_is_enough(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 3, 40)
    for name in ("data", "evaluation"):
        shutil.rmtree(run / name)
    for name in ("recipe.yaml", "recipe.resolved.yaml", "environment.json", "events.jsonl"):
        (run / name).unlink()
    card = write_card(run).read_text(encoding="utf-8")
    assert "No resolved recipe is in the run directory." in card
    assert "license" not in _front_matter(card)
    assert "The licence of the base was not found" in card


def test_no_verdict_no_card(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="E0120"):
        write_card(tmp_path)


def test_markdown_shows_text_as_it_is() -> None:
    assert markdown("<script>\n| `x` *y* [z](u)\x00") == (
        "&lt;script&gt; \\| \\`x\\` \\*y\\* \\[z\\](u)\u2400"
    )


def test_hostile_values_do_not_leave_their_place(tmp_path: Path) -> None:
    run = write_classify_run(tmp_path / "run", 3, 40)
    verdict = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    verdict["reason"] = "```\n# heading <img src=x> \ud800"
    verdict["base"]["id"] = "x: [y\n---\nz"
    (run / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    card = write_card(run).read_text(encoding="utf-8")
    assert "<img" not in card
    assert "\n# heading" not in card
    assert card.count("```") == 2
    assert "base_model" not in _front_matter(card)


def _model(run: Path, task: str, is_adapter: bool) -> None:
    """A tiny model in the layout that a run has, made by stock transformers and peft."""
    import peft
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="<eos>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=0, eos_token_id=2, bos_token_id=None,
    )  # fmt: skip
    if task == "classify":
        config.id2label = {0: "cold", 1: "hot", 2: "<i>mild</i>"}
        config.label2id = {label: i for i, label in config.id2label.items()}
        model = transformers.LlamaForSequenceClassification(config)
    else:
        model = transformers.LlamaForCausalLM(config)
    if is_adapter:
        base = run.parent / "base"
        model.save_pretrained(base)
        kind = "SEQ_CLS" if task == "classify" else "CAUSAL_LM"
        lora = peft.LoraConfig(task_type=kind, r=2, target_modules=["q_proj"])
        model = peft.get_peft_model(model, lora)
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.base_model.model.config.save_pretrained(run / "model")
    model.save_pretrained(run / "model")
    tokenizer.save_pretrained(run / "model")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize("is_adapter", [False, True])
@pytest.mark.parametrize("task", ["classify", "chat"])
def test_the_code_of_the_card_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    is_adapter: bool,
) -> None:
    run = tmp_path / "run"
    if task == "classify":
        write_classify_run(run, 3, 40)
    else:
        write_chat_run(run, 40, 20)
    _model(run, task, is_adapter)
    card = write_card(run).read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(run)
    names: dict[str, object] = {}
    exec(code[1], names)
    printed = capsys.readouterr().out
    assert ("AutoPeft" in card or "PeftModel" in card) == is_adapter
    if task == "classify":
        label, probability = printed.rsplit(" ", 1)
        assert label in {"cold", "hot", "<i>mild</i>"}
        assert 1 / 3 <= float(probability) <= 1
    else:
        assert len(printed) > 1
