"""Text -> tokenizer and token ids for the starter.

Reads the whole mixture of ``sources.py``, drops documents that are there twice, trains a byte-level
BPE on a sample, and writes to WORK: the tokenizer files, ``tokens-00.npy`` and so on (uint16,
documents in random order, each after an end token), ``valid.npy``, ``dialogues.npy`` and
``data.json``.

    python prepare.py SHARED WORK
"""

import argparse
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from sources import (
    END,
    PAD,
    SPECIAL,
    STOP,
    Document,
    corpus_documents,
    dialogue_documents,
    is_validation,
    without_special,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SHARD_TOKENS = 8_000_000
SAMPLE_CHARACTERS = 40_000_000
TEMPLATE = r"""{%- for message in messages %}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--shards", type=int, help="stop after so many (trials)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    training, talk_valid, counts = mixture(options.shared)
    for source, (number, size) in sorted(counts.items()):
        print(f"{source:22} {number:7,} documents {size / 1e6:8.1f} M characters", flush=True)
    tokenizer = train_tokenizer(training, options.vocabulary)
    save_tokenizer(tokenizer, options.work)
    data = {"sources": counts, "vocabulary": options.vocabulary, "shards": [], "complete": False}
    text_valid = [item.text for item in _clean(corpus_documents(options.shared / "corpus", True))]
    for name, texts in (("valid", text_valid), ("dialogues", talk_valid)):
        ids = np.concatenate(list(encoded(tokenizer, texts)))
        np.save(options.work / f"{name}.npy", ids)
        size = sum(len(text.encode()) for text in texts)
        data[name] = {"tokens": len(ids), "bytes": size, "documents": len(texts)}
        print(f"{name}: {len(ids):,} tokens, {size / len(ids):.3f} bytes a token", flush=True)
    write_shards(tokenizer, training, options.work, data, options.shards)


def mixture(shared: Path) -> tuple[list[str], list[str], dict[str, list[int]]]:
    """All documents once, in a random order that is always the same.

    Returns:
        Training documents, held-out dialogues, and per source the number of training documents and
        their characters.
    """
    seen: set[bytes] = set()
    training: list[str] = []
    held_out: list[str] = []
    counts: dict[str, Counter[str]] = {}
    # What is held out comes first into ``seen``, so that no copy of it is trained on.
    for item in _clean(corpus_documents(shared / "corpus", validation=True)):
        seen.add(_digest(item.text))
    found = dialogue_documents(shared / "data")
    dialogues = sorted(found, key=lambda item: not is_validation(item.group))
    for item in [*dialogues, *_clean(corpus_documents(shared / "corpus"))]:
        digest = _digest(item.text)
        if digest in seen:
            continue
        seen.add(digest)
        if item.text.startswith(SPECIAL) and is_validation(item.group):
            held_out.append(item.text)
            continue
        training.append(item.text)
        counts.setdefault(item.source, Counter()).update(documents=1, characters=len(item.text))
    rng = random.Random(0)
    rng.shuffle(training)
    rng.shuffle(held_out)
    sums = {name: [c["documents"], c["characters"]] for name, c in counts.items()}
    return training, held_out, sums


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE: no unknown tokens, digits one by one, words with their leading blank.

    The pre-tokenizer is that of the StarCoder and SmolLM families, which other tools know by name.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample, size = [], 0
    for text in texts:  # in random order already
        if size > SAMPLE_CHARACTERS:
            break
        sample.append(text)
        size += len(text)
    tokenizer.train_from_iterator(sample, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, work: Path) -> None:
    """Write the tokenizer, its settings and the chat template."""
    tokenizer.save(str(work / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": STOP,
        "pad_token": PAD,
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
    }
    (work / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (work / "chat_template.jinja").write_text(TEMPLATE)


def encoded(tokenizer: Tokenizer, texts: Iterable[str], at_once: int = 256) -> Iterator[np.ndarray]:
    """Token ids of each text, with an end token in front."""
    batch: list[str] = []
    for text in texts:
        batch.append(END + text)
        if len(batch) == at_once:
            yield from _encode(tokenizer, batch)
            batch = []
    yield from _encode(tokenizer, batch)


def write_shards(
    tokenizer: Tokenizer, texts: Iterable[str], work: Path, data: dict, most: int | None
) -> None:
    """Write ``tokens-NN.npy`` of SHARD_TOKENS each, and what was written to ``data.json``."""
    for path in work.glob("tokens-*.npy"):
        path.unlink()
    started, parts, size = time.monotonic(), [], 0

    def write() -> None:
        nonlocal parts, size
        joined = np.concatenate(parts)
        path = work / f"tokens-{len(data['shards']):02d}.npy"
        np.save(path, joined[:SHARD_TOKENS])
        digest = hashlib.sha256(joined[:SHARD_TOKENS].tobytes()).hexdigest()
        data["shards"].append({"tokens": min(len(joined), SHARD_TOKENS), "sha256": digest})
        (work / "data.json").write_text(json.dumps(data, indent=1) + "\n")
        print(f"{path.name}, {time.monotonic() - started:.0f} s", flush=True)
        parts, size = [joined[SHARD_TOKENS:]], len(joined[SHARD_TOKENS:])

    for ids in encoded(tokenizer, texts):
        parts.append(ids)
        size += len(ids)
        if size >= SHARD_TOKENS:
            write()
            if most is not None and len(data["shards"]) == most:
                return
    if size:
        write()
    data["complete"] = True
    (work / "data.json").write_text(json.dumps(data, indent=1) + "\n")


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    for found in tokenizer.encode_batch(texts):
        yield np.array(found.ids, dtype=np.uint16)


def _clean(documents: Iterable[Document]) -> Iterator[Document]:
    for item in documents:
        yield Document(item.source, item.group, without_special(item.text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(" ".join(text.split()).encode()).digest()


if __name__ == "__main__":
    main()
