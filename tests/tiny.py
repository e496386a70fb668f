"""Small things that many tests share: a tokenizer, rows, a model; all made here, from nothing."""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from fettle.records.rows import Example, Message

# --- tokenizer ---------------------------------------------------------------------------------

SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>")

CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message.content + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_MERGES = (
    "t h", "Ġ t", "Ġt h", "i n", "e r", "o n", "Ġ a", "r e", "a t", "Ġ s", "o u", "h e", "u s",
    "e s", "Ċ Ċ", "Ġ Ġ", "Ġ c", "Ġ w", "a n", "in g", "us er", "Ġ o", "i s", "e n", "o r",
)  # fmt: skip


def tiny_tokenizer(directory: Path, chat_template: str | None = CHATML) -> Path:
    """Write a byte-level BPE tokenizer of 286 tokens; it spells any text, with no unknown token.

    Returns:
        The directory, which stock transformers' AutoTokenizer loads too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in _MERGES]
    pieces += ["".join(merge) for merge in merges]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    backend.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "extra_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2), "utf-8")
    return directory


# --- rows --------------------------------------------------------------------------------------

_THINGS = ("kettle", "lamp", "bicycle", "ladder", "radio", "clock", "chair", "garden hose")
_FAULTS = ("makes a noise", "does not start", "is too hot", "has a crack", "came without a manual")
_ADVICE = {
    "makes a noise": "Tighten the screws and put a drop of oil on it.",
    "does not start": "Check the plug first, then the fuse.",
    "is too hot": "Switch it off and let it cool for an hour.",
    "has a crack": "Stop using it; we send you a new one.",
    "came without a manual": "You find it on our site, under downloads.",
}


def tiny_rows() -> tuple[list[Example], list[Example]]:
    """40 rows for chat and 40 for classify (5 labels, 8 rows each), the same in every process."""
    chat: list[Example] = []
    classify: list[Example] = []
    cases = [(thing, fault) for thing in _THINGS for fault in _FAULTS]
    random.Random(0).shuffle(cases)
    for number, (thing, fault) in enumerate(cases, start=1):
        question = f"My {thing} {fault}. What can I do?"
        chat.append(
            Example(
                row_id=f"{number:016x}",
                source="chat.jsonl",
                record=number,
                line=number,
                messages=(Message("user", question), Message("assistant", _ADVICE[fault])),
                target=_ADVICE[fault],
            )
        )
        classify.append(
            Example(
                row_id=f"{number + 1000:016x}",
                source="classify.csv",
                record=number,
                line=number + 1,
                text=question,
                target=fault,
            )
        )
    return chat, classify


# --- model -------------------------------------------------------------------------------------
