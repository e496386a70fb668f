"""The text that the starter learns from, as documents: prose of the corpus, and dialogues.

In: a folder with ``corpus/`` and ``data/``. Out: documents, each with where it came from. Must not
know: tokenizers, training.

Left out whole: every set on which fettle is evaluated or shows transfer, every test split, sets
under share-alike terms (parts of P3, SGD, ToS;DR), text written by a commercial model (GPTeacher)
and FastChat's samples, which only say another model's name.
"""

import gzip
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END, PAD, START, STOP = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, PAD, START, STOP)

# P3's constituents under MIT, CC BY or like terms; those under CC BY-SA are left out.
P3 = ("common_gen", "cosmos_qa", "paws", "qasc", "quarel", "quartz", "quoref", "ropes", "social")
MOST_CHARACTERS = 3_000
"""Longest dialogue, so that it fits into the starter's context."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text; ``group`` keeps what belongs together on one side of the split."""

    source: str
    group: str
    text: str


def turns(*pairs: tuple[str, str]) -> str:
    """A conversation as the starter's chat template writes it.

    Args:
        pairs: role and text of each turn.
    """
    return "".join(f"{START}{role}\n{text.strip()}{STOP}\n" for role, text in pairs)


def corpus_documents(corpus: Path, validation: bool = False) -> Iterator[Document]:
    """Documents of the training shards, or of the validation shard."""
    for path in sorted(corpus.glob("*.jsonl.gz")):
        if path.name.startswith("valid") == validation:
            for row in _lines(path):
                yield Document(row["source"], row["id"], row["text"])


def dialogue_documents(data: Path) -> Iterator[Document]:
    """Questions with answers and conversations, training splits only, in the template's shape."""
    parts = (_medquad, _gsm8k, _seeds, _p3, _taskmaster, _abcd, _pubmedqa, _induction, _multidogo)
    for document in itertools.chain.from_iterable(part(data) for part in parts):
        if len(document.text) <= MOST_CHARACTERS:
            yield document


def is_validation(group: str, share: float = 0.01) -> bool:
    """Whether the dialogues of a group are held out, by a hash of its name."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def without_special(text: str) -> str:
    """Text in which no special token is spelled out."""
    for token in SPECIAL:
        text = text.replace(token, "")
    return text


def _ask(source: str, group: str, question: str, answer: str) -> Iterator[Document]:
    question, answer = without_special(question).strip(), without_special(answer).strip()
    if question and answer:
        yield Document(
            source, f"{source}/{group}", turns(("user", question), ("assistant", answer))
        )


def _medquad(data: Path) -> Iterator[Document]:
    for row in _lines(data / "medquad/medquad.jsonl.gz"):
        answer = re.sub(r"\s+", " ", row["answer"] or "")
        if len(answer) > 20:
            yield from _ask("medquad", row["file"], row["question"], answer)


def _gsm8k(data: Path) -> Iterator[Document]:
    for row in _lines(data / "gsm8k/train.jsonl"):
        answer = re.sub(r"<<.*?>>", "", row["answer"])
        yield from _ask("gsm8k", row["question"], row["question"], answer)


def _seeds(data: Path) -> Iterator[Document]:
    for row in _lines(data / "self_instruct_seeds/seed_tasks.jsonl"):
        for item in row["instances"]:
            question = f"{row['instruction']}\n\n{item['input']}"
            yield from _ask("self_instruct_seeds", row["id"], question, item["output"])


def _p3(data: Path) -> Iterator[Document]:
    for path in sorted((data / "p3_permissive").glob("*.jsonl.gz")):
        if path.name.startswith(P3):
            for row in _lines(path):
                # The longest line is the passage, which several templates ask about.
                passage = max(row["prompt"].splitlines(), key=len, default="")
                yield from _ask("p3", passage, row["prompt"], row["completion"])


def _taskmaster(data: Path) -> Iterator[Document]:
    for path in sorted((data / "taskmaster4/data").glob("*.json.gz")):
        for dialogue in _json(path):
            pairs = [
                ("user" if item["speaker"] == "user" else "assistant", item["text"])
                for item in dialogue["utterances"]
                if (item.get("text") or "").strip()
            ]
            yield from _conversation("taskmaster4", dialogue["conversation_id"], pairs)


def _abcd(data: Path) -> Iterator[Document]:
    for dialogue in _json(data / "abcd_sample/abcd_sample.json"):
        pairs = [
            ("user" if who == "customer" else "assistant", text)
            for who, text in dialogue["original"]
            if who in ("customer", "agent")
        ]
        yield from _conversation("abcd_sample", str(dialogue["convo_id"]), pairs)


def _pubmedqa(data: Path) -> Iterator[Document]:
    tested = set(_json(data / "pubmedqa/test_ground_truth.json"))
    for number, row in _json(data / "pubmedqa/ori_pqal.json").items():
        if number not in tested:
            question = "\n\n".join((*row["CONTEXTS"], row["QUESTION"]))
            yield from _ask("pubmedqa", number, question, row["LONG_ANSWER"])


_INDUCTION = {
    "antonyms": "Write the opposite of the word.",
    "active_to_passive": "Write the sentence in the passive voice.",
    "first_word_letter": "Write the first letter of the word.",
    "second_word_letter": "Write the second letter of the word.",
    "letters_list": "Spell the word, with a blank after each letter.",
    "num_to_verbal": "Write the number in words.",
    "singular_to_plural": "Write the plural of the noun.",
    "sum": "Add the two numbers.",
    "diff": "Subtract the second number from the first.",
}


def _induction(data: Path) -> Iterator[Document]:
    folder = data / "instruction_induction/raw/induce"
    for name, instruction in _INDUCTION.items():
        path = next(folder.glob(f"{name}.json*"))
        for row in list(_json(path)["examples"].values())[:400]:
            answer = row["output"] if isinstance(row["output"], str) else row["output"][0]
            question = f"{instruction}\n\n{row['input']}"
            yield from _ask("instruction_induction", question, question, str(answer))


def _multidogo(data: Path) -> Iterator[Document]:
    """Only what customers say is published: one plain document a conversation, without roles."""
    for path in sorted((data / "multidogo").glob("*/train.tsv")):
        said: dict[str, list[str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split("\t")
            if len(fields) > 3 and fields[3].strip():
                said.setdefault(fields[0], []).append(without_special(fields[3]).strip())
        for name, words in said.items():
            yield Document("multidogo", f"multidogo/{name}", "\n".join(words) + "\n")


def _conversation(source: str, group: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Document]:
    """Turns of one speaker that follow each other become one."""
    joined = [
        (role, " ".join(without_special(text).strip() for _, text in found))
        for role, found in itertools.groupby(pairs, key=lambda pair: pair[0])
    ]
    if len(joined) > 1:
        yield Document(source, f"{source}/{group}", turns(*joined))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def _json(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        return json.load(handle)
