"""The usual names of columns, and what a split is called.

In: a column's name or a split's name. Out: what it usually means. Must not know: values, files.
"""

import re

TEXT = (
    "text", "sentence", "tweet", "utterance", "review", "comment", "post", "message", "body",
    "content", "sms", "headline", "description", "document", "title", "query", "question", "input",
    "prompt", "instruction", "request", "complaint", "email",
)  # fmt: skip
LABEL = (
    "label", "labels", "category", "class", "intent", "sentiment", "topic", "emotion", "polarity",
    "target", "gold", "tag", "stars", "rating", "label_text", "label_name", "coarse_label", "type",
    "department", "queue", "output", "answer",
)  # fmt: skip
NUMBER = (
    "score", "rating", "stars", "value", "number", "price", "target", "label", "y", "similarity",
    "grade", "points", "amount",
)  # fmt: skip
PROMPT = (
    "prompt", "instruction", "question", "query", "input", "user", "human", "request", "source",
    "src", "dialogue", "dialog", "conversation", "transcript", "article", "document",
    "original_text", "mr", "text",
)  # fmt: skip
COMPLETION = (
    "completion", "response", "answer", "output", "reply", "assistant", "bot", "target", "tgt",
    "summary", "highlights", "reference_summary", "ref", "reference", "note", "gold", "abstract",
)  # fmt: skip
PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("prompt", ("completion", "response", "answer", "output", "chosen")),
    ("instruction", ("response", "output", "completion", "answer")),
    ("question", ("answer", "response", "output", "long_answer")),
    ("query", ("response", "answer", "output", "reply")),
    ("input", ("output", "target", "response", "completion", "answer")),
    ("source", ("target",)),
    ("src", ("tgt",)),
    ("user", ("assistant", "bot")),
    ("human", ("assistant", "bot")),
    ("mr", ("ref",)),
    ("article", ("highlights", "summary", "abstract")),
    ("document", ("summary",)),
    ("dialogue", ("summary", "note")),
    ("dialog", ("summary",)),
    ("text", ("summary",)),
    ("original_text", ("reference_summary",)),
)
"""Names of a prompt, each with those of the answers that go with it."""
INSTRUCTION = ("instruction",)
INSTRUCTION_INPUT = ("input",)
MESSAGES = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns",
            "utterances", "chat", "history")  # fmt: skip
SYSTEM = ("system", "system_prompt")
CONTEXT = ("context", "passage", "background")
SPLIT = ("split", "set", "subset", "partition", "fold", "portion")
GROUP = ("conversation_id", "conversationid", "dialogue_id", "dialog_id", "session_id", "user_id",
         "userid", "customer_id", "customer", "client_id", "client", "thread_id", "document_id",
         "doc_id", "patient_id", "author_id", "account_id", "group")  # fmt: skip
_OTHER = ("id", "uid", "name", "url", "date", "time", "timestamp", "index", "score", "context",
          "role", "language", "lang", "user_name", "author", "count", "number")  # fmt: skip
_KNOWN = frozenset(
    TEXT + LABEL + PROMPT + COMPLETION + MESSAGES + SYSTEM + CONTEXT + SPLIT + GROUP + _OTHER
)
# A first row of real values may well hold these words, so that they do not show a header.
_TOO_COMMON = frozenset({"human", "user", "bot", "type", "gold", "note", "number"})
_SPLITS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development"),
    "holdout": ("holdout", "test", "testing", "tst", "eval", "evaluation"),
}
_SPLIT_BY_WORD = {word: split for split, words in _SPLITS.items() for word in words}


def normal(name: str) -> str:
    """Lower case with underscores: ``Review Text`` -> ``review_text``, ``docId`` -> ``doc_id``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def is_known_name(cell: str) -> bool:
    """Whether a header is the likeliest place to meet this word."""
    name = normal(cell)
    return name in _KNOWN and name not in _TOO_COMMON


def split_of(value: str) -> str | None:
    """train, validation or holdout for a split's name; None when it is none.

    A name that ends in such a word counts too: ``oos_train`` is train, ``gold-test`` is holdout.
    """
    word = normal(value)
    return _SPLIT_BY_WORD.get(word) or _SPLIT_BY_WORD.get(word.rsplit("_", 1)[-1])
