"""The model card of the starter, with every figure read from what the training left behind.

    python card.py WORK OUT [--install DIR]

Writes OUT/README.md: architecture, data, compute, curve, measured limits and ten continuations as
the model writes them. ``--install`` copies OUT's files into DIR (``src/fettle/starter``).
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stretch import HISTORY, TOKENIZER, WEIGHTS, read_history

from fettle.chat.tokenizer import Tokenizer
from fettle.inference.generate import generate
from fettle.models.load import find_base, load_for_task
from fettle.recipe.recipe import BaseSection

TEMPERATURE, TOP_P = 0.7, 0.9
SHIPPED = (WEIGHTS, "config.json", "generation_config.json", *TOKENIZER, "README.md")
ASK = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = {
    "novel": "It was a cold evening in November when the stranger",
    "law": "A person who violates this section shall",
    "textbook": "The cell membrane is",
    "documentation": "The following example shows how to",
    "government": "If you have questions about your application,",
    "speech": "Mr. Speaker, the state of our economy",
    "question": ASK.format("What are the symptoms of asthma?"),
    "instruction": ASK.format("Write the plural of the noun.\n\nchild"),
    "sum": ASK.format("Tom has 3 apples and buys 4 more. How many apples does he have?"),
    "service": ASK.format("Hi, my order has not arrived yet. What can I do?"),
}
LICENCES = {
    "aesop": ("The Aesop for Children (Library of Congress)", "public domain"),
    "dc_law": ("District of Columbia Code", "government edict, no copyright"),
    "eltec": ("ELTeC English novels", "public domain; markup CC BY 4.0"),
    "factbook": ("World Factbook", "CC0 1.0"),
    "gov_web": ("US government web pages", "public domain, CC0 1.0"),
    "novels100": ("100 English novels", "public domain (US)"),
    "open_docs": ("technical documentation", "CC BY 4.0, CC0 1.0, Apache-2.0, MIT"),
    "openstax": ("OpenStax textbooks", "CC BY 4.0"),
    "speeches": ("US presidents' speeches", "public domain"),
    "standardebooks": ("Standard Ebooks", "CC0 1.0"),
    "abcd_sample": ("ABCD, the published sample", "MIT"),
    "gsm8k": ("GSM8K, training split", "MIT"),
    "instruction_induction": ("Instruction Induction, `induce` split", "Apache-2.0"),
    "medquad": ("MedQuAD", "CC BY 4.0"),
    "multidogo": ("MultiDoGO, customers' turns, training split", "CDLA-Permissive-1.0"),
    "p3": ("P3 prompts over sets under MIT, CC BY 4.0 or PAWS' own free terms", "Apache-2.0"),
    "pubmedqa": ("PubMedQA, without its test split", "MIT"),
    "self_instruct_seeds": ("Self-Instruct seed tasks", "Apache-2.0"),
    "taskmaster4": ("Taskmaster-4", "CC BY 4.0"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=60, help="of each continuation")
    parser.add_argument("--install", type=Path, help="copy the finished model there")
    options = parser.parse_args(arguments)
    data = json.loads((options.work / "data.json").read_text())
    text = card(options.out, data, continuations(options.out, options.tokens))
    (options.out / "README.md").write_text(text)
    if options.install is not None:
        options.install.mkdir(parents=True, exist_ok=True)
        for name in SHIPPED:
            shutil.copyfile(options.out / name, options.install / name)


def continuations(out: Path, num_tokens: int) -> dict[str, str]:
    """What the model writes after each prompt, drawn with a fixed seed."""
    model = load_for_task(find_base(BaseSection(id=str(out)), print), "text", (), 1)
    tokenizer = Tokenizer.load(out)
    ids = [
        tokenizer.encode(f"<|endoftext|>{prompt}", add_special_tokens=False)
        for prompt in PROMPTS.values()
    ]
    stop = {model.config.eos_token_id, model.config.bos_token_id}
    written = generate(
        model,
        ids,
        num_tokens,
        stop,
        model.config.pad_token_id,
        temperature=TEMPERATURE,
        top_p=TOP_P,
    )
    return {name: tokenizer.decode(found) for name, found in zip(PROMPTS, written, strict=True)}


def card(out: Path, data: dict[str, Any], written: dict[str, str]) -> str:
    """The card's text.

    Args:
        out: holds the weights, config.json, stretch.json and, after the last stretch, final.json.
        data: data.json of the mixture.
        written: a continuation for each of PROMPTS.
    """
    history = read_history(out)
    if history is None:
        raise SystemExit(f"{out} has no {HISTORY}: run pretrain.py first")
    config = json.loads((out / "config.json").read_text())
    parameters = json.loads((out / HISTORY).read_text())["parameters"]
    final_file = out / "final.json"
    if final_file.is_file():
        final = json.loads(final_file.read_text())
        measured = (
            f"{final['bits_per_byte']:.2f} bits per byte on all held-out documents of the same"
            f" corpus, {final['dialogue_bits_per_byte']:.2f} on held-out dialogues (rows of 1,024"
            " tokens, none of which the model has seen)"
        )
    else:
        measured = "not finished: the rate has not come down to zero yet"
    hours = sum(item.processor_seconds for item in history.stretches) / 3600
    flops = 6 * parameters * history.tokens
    parts = [
        _HEAD.format(
            parameters=f"{parameters / 1e6:.1f}",
            megabytes=f"{(out / WEIGHTS).stat().st_size / 1e6:.1f}",
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            vocabulary=f"{config['vocab_size']:,}",
            context=f"{config['max_position_embeddings']:,}",
            tokens=f"{history.tokens / 1e6:.1f}",
            steps=f"{history.steps:,}",
            hours=f"{hours:.1f}",
            flops=f"{flops:.1e}",
            measured=measured,
        ),
        "## Stretches\n",
        *_stretches(history.stretches),
        "\n## Curve\n\nOn a fixed part of the held-out text, in rows of 1,024 tokens, while it was"
        " trained: a stretch with a shorter context is measured beyond what it had seen.\n",
        "| M tokens | bits per byte | dialogues |\n|---|---|---|",
        *(
            f"| {look.tokens / 1e6:.2f} | {look.bits_per_byte:.3f} |"
            f" {look.dialogue_bits_per_byte:.3f} |"
            for item in history.stretches
            for look in item.curve
        ),
        "\n## Data\n\nNo set on which fettle is evaluated is among them, and no test split.\n",
        "| source | documents | M characters | licence |\n|---|---|---|---|",
        *_sources(data["sources"]),
        "\n## What it writes\n\n"
        f"Drawn at temperature {TEMPERATURE:g} from the likeliest {TOP_P:.0%}, seed 0, unedited."
        " Always taking the likeliest token soon ends in repetition.\n",
        *(_quoted(name, text) for name, text in written.items()),
        _LIMITS,
    ]
    return "\n".join(parts)


_HEAD = """---
license: cc-by-4.0
language: en
pipeline_tag: text-generation
tags:
- fettle
---
# fettle starter

A decoder of {parameters} million parameters that comes with fettle, so that everything works
without a network. It is really pretrained, and really small: it knows what English, a question and
an answer look like, and little else. Use a larger base for anything that people will read.

- **Architecture**: stock Llama ({layers} layers, width {width}, {heads} heads, tied embeddings),
  context {context}, a byte-level BPE of {vocabulary} tokens (no unknown tokens, digits one by one),
  weights in bfloat16 ({megabytes} MB).
- **Training**: fettle's own loop (`examples/pretrain-starter/`), {tokens} M tokens in {steps}
  steps, {hours} hours of processor time on CPU cores, about {flops} FLOP.
- **Measured**: {measured}.
"""
_LIMITS = """
## Limits

English only; much of the text is from before 1930 and shows its time. Facts, sums and advice in its
answers are not to be trusted. No safety training.
"""


def _stretches(stretches: Iterable[Any]) -> list[str]:
    head = (
        "| from M tokens | M tokens | minutes | threads | rate | context | tokens a step |"
        " optimizer |\n|---|---|---|---|---|---|---|---|"
    )
    rows = [
        f"| {item.first_token / 1e6:.2f} | {item.tokens / 1e6:.2f} | {item.seconds / 60:.0f} |"
        f" {item.threads} | {item.rate:g}{' to 0' if item.decay else ''} | {item.length} |"
        f" {item.batch_tokens:,} | {item.optimizer} |"
        for item in stretches
    ]
    return [head, *rows]


def _sources(counts: dict[str, Sequence[int]]) -> list[str]:
    rows = []
    for source, (number, size) in sorted(counts.items(), key=lambda item: -item[1][1]):
        name, licence = LICENCES[source]
        rows.append(f"| {name} | {number:,} | {size / 1e6:.1f} | {licence} |")
    return rows


def _quoted(name: str, text: str) -> str:
    asked = PROMPTS[name].replace("<|im_start|>", "").replace("<|im_end|>", "").strip()
    lines = [f"*{name}*: {' / '.join(asked.splitlines())}", ""]
    return "\n".join([*lines, *(f"> {line}" for line in text.splitlines() or [""]), ""])


if __name__ == "__main__":
    main()
