"""Real pretrained decoders: what they write must be what their sources say (SOURCE.md)."""

from pathlib import Path

import pytest
import sentencepiece
import torch
from tests.llama2c import convert
from transformers import AutoTokenizer

from fettle.chat.tokenizer import Tokenizer
from fettle.inference.generate import generate
from fettle.models.forward import token_losses
from fettle.models.load import find_base, load_for_task
from fettle.recipe.recipe import BaseSection
from fettle.records.tokens import Batch, TokenizedExample

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "weights"
pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_dir(), reason="the shared checkpoints are not beside this repository"
)

LILY = "Once upon a time, there was a little girl named Lily."
LILY_GOES_ON = (
    " She loved to play outside in the park. One day, she saw a big, red ball."
    " She wanted to play with it, but it was too high."
)
TOM = "Tom went to the shop"
TOM_GOES_ON = (
    " with his mom. He saw a big box on the ground. The box was very happy."
    " Tom wanted to see what was inside."
)
CASES = {
    "stories260K": ("stories260K.bin", "tok512.bin", LILY, LILY_GOES_ON),
    "babyllama105": ("model5000.bin", "tok105.model", TOM, TOM_GOES_ON),
}


def silent(line: str) -> None:
    pass


def converted(name: str, directory: Path) -> Path:
    weights, tokenizer, _, _ = CASES[name]
    return convert(WEIGHTS / name / weights, WEIGHTS / name / tokenizer, directory)


@pytest.mark.parametrize("name", CASES)
def test_greedy_text(name: str, tmp_path: Path) -> None:
    *_, prompt, expected = CASES[name]
    facts = find_base(BaseSection(id=str(converted(name, tmp_path))), silent)
    assert (facts.kind, facts.architecture, facts.num_layers) == ("decoder", "llama", 5)
    model = load_for_task(facts, "chat", (), None)
    tokenizer = Tokenizer.load(facts.path)
    ids = [1, *tokenizer.encode(prompt, add_special_tokens=False)]
    new = generate(model, [ids], 140, {1, 2}, 0)[0]
    text = tokenizer.decode([*ids, *new])
    assert text.startswith(prompt + expected), text


def test_loss_of_the_known_prompt(tmp_path: Path) -> None:
    facts = find_base(BaseSection(id=str(converted("stories260K", tmp_path))), silent)
    model = load_for_task(facts, "chat", (), None)
    ids = (1, *Tokenizer.load(facts.path).encode(LILY, add_special_tokens=False))
    row = TokenizedExample("lily", ids, (0, *[1] * (len(ids) - 1)))
    with torch.inference_mode():
        sums, counts = token_losses(model, Batch((row,)), 0)
    assert float(sums[0] / counts[0]) == pytest.approx(0.100, abs=0.0005)


def test_tokenizer_equals_sentencepiece(tmp_path: Path) -> None:
    directory = converted("babyllama105", tmp_path)
    oracle = sentencepiece.SentencePieceProcessor(
        model_file=str(WEIGHTS / "babyllama105" / "tok105.model")
    )
    tokenizer, stock = Tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)
    for text in (TOM + TOM_GOES_ON, "Ünïcode\n5 × 3"):
        expected = oracle.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False) == expected
        assert stock(text, add_special_tokens=False)["input_ids"] == expected
