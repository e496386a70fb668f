"""Text -> tokenizer and token ids for the starter.

Reads the licensed corpus and the question-and-answer sets named in README.md, trains a byte-level
BPE on a sample of both, and writes ``tokens.npy`` (uint16, documents one after the other),
``valid.npy`` and the tokenizer files.

    python prepare.py SHARED WORK --megabytes 24
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END, PAD, START, STOP = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' %}
{%- generation %}
{{- message.content + '<|im_end|>' }}
{%- endgeneration %}
{%- else %}
{{- message.content + '<|im_end|>' }}
{%- endif %}
{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
# Digits one by one, words with their leading blank, punctuation apart.
SPLIT = Regex(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def turns(*pairs: tuple[str, str]) -> str:
    return "".join(f"{START}{role}\n{text.strip()}{STOP}\n" for role, text in pairs)


def lines(path: Path) -> Iterator[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def dialogues(data: Path) -> Iterator[str]:
    """Question-and-answer text in the chat template's shape; training splits only."""
    for row in lines(data / "medquad/medquad.jsonl.gz"):
        answer = re.sub(r"\s+", " ", row["answer"] or "")
        if 20 < len(answer) < 900:
            yield turns(("user", row["question"]), ("assistant", answer))
    for row in lines(data / "gsm8k/train.jsonl"):
        answer = re.sub(r"<<.*?>>", "", row["answer"])
        yield turns(("user", row["question"]), ("assistant", answer))
    for row in lines(data / "self_instruct_seeds/seed_tasks.jsonl"):
        for item in row["instances"]:
            question = f"{row['instruction']}\n\n{item['input']}"
            yield turns(("user", question), ("assistant", item["output"]))
    for path in sorted((data / "p3_permissive").glob("*.jsonl.gz")):
        for number, row in enumerate(lines(path)):
            answer = row["completion"].replace(END, "")
            if number < 60 and len(row["prompt"]) < 1200 and answer.strip():
                yield turns(("user", row["prompt"]), ("assistant", answer))
    for path in sorted((data / "taskmaster4/data").glob("*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            for dialogue in json.load(handle):
                pairs = [
                    ("user" if u["speaker"] == "user" else "assistant", u["text"])
                    for u in dialogue["utterances"]
                    if u.get("text")
                ]
                if len(pairs) > 1:
                    yield turns(*pairs)


def documents(corpus: Path) -> Iterator[str]:
    for path in sorted(corpus.glob("*.jsonl.gz")):
        if not path.name.startswith("valid"):
            for row in lines(path):
                yield row["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--megabytes", type=float, default=24)
    parser.add_argument("--vocabulary", type=int, default=4096)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    chats = list(dialogues(options.shared / "data"))
    size = sum(map(len, chats))
    # Documents are taken at random, whole, cut at 12,000 characters so that novels do not rule.
    texts: list[str] = []
    for text in sorted(documents(options.shared / "corpus"), key=lambda _: rng.random()):
        if size > options.megabytes * 1e6:
            break
        begin = rng.randrange(max(1, len(text) - 12_000))
        texts.append(text[begin : begin + 12_000])
        size += len(texts[-1])
    print(f"{len(chats):,} dialogues, {len(texts):,} documents, {size / 1e6:.1f} M characters")
    everything = chats + texts
    rng.shuffle(everything)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SPLIT, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocabulary,
        special_tokens=[END, PAD, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(everything[:: max(1, len(everything) // 6000)], trainer)
    tokenizer.save(str(options.work / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": STOP,
        "pad_token": PAD,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    (options.work / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (options.work / "chat_template.jinja").write_text(TEMPLATE)
    for name, part in (
        ("tokens", everything),
        ("valid", [row["text"] for row in lines(options.shared / "corpus/valid-00.jsonl.gz")]),
    ):
        ids = [i for e in tokenizer.encode_batch([END + t for t in part]) for i in e.ids]
        np.save(options.work / f"{name}.npy", np.array(ids, dtype=np.uint16))
        num_bytes = sum(len(t.encode()) for t in part)
        print(f"{name}: {len(ids):,} tokens, {num_bytes / len(ids):.2f} bytes a token")
        (options.work / f"{name}.json").write_text(json.dumps({"bytes": num_bytes}))


if __name__ == "__main__":
    main()
