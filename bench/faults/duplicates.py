"""Injected copies, near copies, leaks and look-alikes, each with an answer key.

In: clean rows as they stand in a JSON Lines file ({"text", "label"}, {"prompt", "completion"} or
{"messages"}) and a seed. Out: dirty rows, and for each injected row what was done to which row.
Must not know: any detector.

Everything is a pure function of its arguments: each change draws from a generator of its own,
seeded with the seed, the kind and the place, so that more kinds or rows change nothing else.

What counts as the same row: it says the same to a reader. So a word edit never writes a number,
since "order 5" is another request than "order 7"; and rows that differ only in the slots of a
template (numbers, names, dates, places) are look-alikes, which no detector may call duplicates.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Row = dict[str, Any]
Edit = Callable[[str, Random, Sequence[str]], str]

_NUMBER = re.compile(r"\d+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_BEFORE = (
    "Please have a look at the following and answer with care.",
    "A customer wrote this to us yesterday evening.",
    "Here is the next item of the list that we talked about.",
    "I found this in the archive and would like to hear what you think about it.",
    "Consider the text below.",
)
_AFTER = (
    "Thank you very much in advance.",
    "Take your time, and say so if anything is unclear.",
    "Let me know what you think.",
    "That is all we know so far.",
    "Explain your answer.",
)
_PUNCTUATION = (",", ";", " -", "...", "!", ":")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was injected at one place."""

    kind: str
    row: int
    """Index of the injected row in the dirty rows."""
    origin: int
    """Index of the row that it was made from: in the dirty rows, or, of a leak, in the evaluation
    rows."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Rows with faults in known places."""

    rows: list[Row]
    answers: list[Answer]


# --- changes of one text ------------------------------------------------------------------------


def unchanged(text: str, random: Random, words: Sequence[str]) -> str:
    """The text itself."""
    return text


def other_case(text: str, random: Random, words: Sequence[str]) -> str:
    """All capitals, all small, or each word with a capital."""
    ways = [way(text) for way in (str.upper, str.lower, str.title)]
    return random.choice([way for way in ways if way != text] or ways)


def other_spacing(text: str, random: Random, words: Sequence[str]) -> str:
    """Spaces doubled, tabs and line breaks between words, spaces around the text."""
    parts = text.split()
    gaps = [random.choice(("  ", " ", "\t", "\n", " \n ")) for _ in parts]
    return " " + "".join(part + gap for part, gap in zip(parts, gaps, strict=True)) + "\n"


def other_punctuation(text: str, random: Random, words: Sequence[str]) -> str:
    """Punctuation between words lost or put in, at about every eighth word; the end changes."""
    parts = text.split()
    for index in range(len(parts)):
        if random.random() > 1 / 8:
            continue
        bare = parts[index].rstrip(".,;:!?")
        if bare and bare != parts[index]:
            parts[index] = bare
        else:
            parts[index] += random.choice(_PUNCTUATION)
    if parts:
        end = parts[-1].rstrip(".!?")
        parts[-1] = end + random.choice([mark for mark in (".", "!", "?", "") if end + mark])
    return " ".join(parts)


def word_edits(rate: float) -> Edit:
    """Each word is substituted, deleted, followed by another or swapped with the next at this rate.

    At least one word is edited: in a text of fewer than 1 / rate words the true rate is higher.
    """

    def edit(text: str, random: Random, words: Sequence[str]) -> str:
        old = text.split()
        chosen = {index for index in range(len(old)) if random.random() < rate}
        chosen = chosen or {random.randrange(len(old))} if old else chosen
        new: list[str] = []
        index = 0
        while index < len(old):
            word = old[index]
            how = random.choice(("substitute", "delete", "insert", "swap"))
            if index not in chosen:
                new.append(word)
            elif how == "substitute":
                new.append(random.choice(words))
            elif how == "insert":
                new += [word, random.choice(words)]
            elif how == "swap" and index + 1 < len(old):
                new += [old[index + 1], word]
                index += 1
            elif how == "swap":
                new.append(random.choice(words))
            elif len(old) < 3:
                # A deleted word would leave next to nothing.
                new += [word, random.choice(words)]
            index += 1
        return " ".join(new)

    return edit


def wrapped(text: str, random: Random, words: Sequence[str]) -> str:
    """A sentence before it, after it, or both."""
    before, after = random.choice(_BEFORE), random.choice(_AFTER)
    return random.choice((f"{before} {text}", f"{text} {after}", f"{before}\n\n{text}\n\n{after}"))


def truncated(text: str, random: Random, words: Sequence[str]) -> str:
    """The last 10 to 20 % of the words are cut off."""
    parts = text.split()
    keep = max(1, round(len(parts) * random.uniform(0.8, 0.9)))
    return " ".join(parts[:keep])


def reordered(text: str, random: Random, words: Sequence[str]) -> str:
    """The sentences in another order; a text of one sentence stays as it is."""
    parts = _SENTENCE.split(text.strip())
    if len(parts) < 2:
        return text
    other = parts[:]
    while other == parts and len(set(parts)) > 1:
        random.shuffle(other)
    return " ".join(other)


EDITS: Mapping[str, Edit] = {
    "exact": unchanged,
    "case": other_case,
    "spacing": other_spacing,
    "punctuation": other_punctuation,
    "words 2 %": word_edits(0.02),
    "words 5 %": word_edits(0.05),
    "words 10 %": word_edits(0.10),
    "wrapped": wrapped,
    "truncated": truncated,
    "reordered": reordered,
}
"""Kinds of copies within one pool, and of leaks."""

LEAKS = (*EDITS, "contained")
"""Kinds of leaks: those above, and an evaluation text that stands inside a longer training row."""


# --- rows ---------------------------------------------------------------------------------------


def texts_of(row: Mapping[str, Any]) -> list[str]:
    """What the row says: text, prompt and completion, or the turns of users and assistants."""
    if "messages" in row:
        return [turn["content"] for turn in row["messages"] if turn["role"] != "system"]
    return [row[name] for name in ("text", "prompt", "completion") if name in row]


def changed(row: Mapping[str, Any], change: Callable[[str], str]) -> Row:
    """The row with each of its texts changed; labels and system turns stay."""
    if "messages" in row:
        turns = [
            dict(turn) if turn["role"] == "system" else {**turn, "content": change(turn["content"])}
            for turn in row["messages"]
        ]
        return {**row, "messages": turns}
    names = ("text", "prompt", "completion")
    return {name: change(value) if name in names else value for name, value in row.items()}


def vocabulary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words of these rows that hold no digit, each once, sorted."""
    found = {word for row in rows for text in texts_of(row) for word in text.split()}
    return sorted(word for word in found if not _NUMBER.search(word))


def as_prompts(texts: Sequence[str], answers: Sequence[str]) -> list[Row]:
    """Texts and answers as prompt rows."""
    return [{"prompt": t, "completion": a} for t, a in zip(texts, answers, strict=True)]


def as_chats(texts: Sequence[str], answers: Sequence[str], system: str = "") -> list[Row]:
    """Texts and answers as conversations of one exchange."""
    first = [{"role": "system", "content": system}] if system else []
    return [
        {
            "messages": [
                *first,
                {"role": "user", "content": text},
                {"role": "assistant", "content": answer},
            ]
        }
        for text, answer in zip(texts, answers, strict=True)
    ]


# --- injection ----------------------------------------------------------------------------------


def inject_copies(
    rows: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    num_each: int,
    seed: int = 0,
    usable: Callable[[Row], bool] = lambda row: True,
) -> Dirty:
    """Copies of rows within their own pool, in a random order.

    Args:
        rows: clean rows.
        kinds: names of ``EDITS``.
        num_each: copies of each kind; every original is used at most once.
        seed: of every choice.
        usable: which rows may be copied.
    Raises:
        ValueError: there are fewer usable rows than copies.
    """
    words = vocabulary(rows)
    origins = _draw(rows, len(kinds) * num_each, f"{seed}:copies", usable)
    made: list[tuple[Row, str, int]] = []
    for place, origin in enumerate(origins):
        kind = kinds[place // num_each]
        made.append((_edited(rows[origin], kind, seed, origin, words), kind, origin))
    return _shuffled(rows, made, seed, origins_in_pool=True)


def inject_leaks(
    training: Sequence[Mapping[str, Any]],
    evaluation: Sequence[Mapping[str, Any]],
    kinds: Sequence[str],
    num_each: int,
    seed: int = 0,
    usable: Callable[[Row], bool] = lambda row: True,
) -> Dirty:
    """Training rows made from evaluation rows, among the clean training rows.

    Args:
        training: clean rows.
        evaluation: clean rows; they are not changed.
        kinds: names of ``LEAKS``.
        num_each: leaks of each kind; every evaluation row leaks at most once.
        seed: of every choice.
        usable: which evaluation rows may leak.
    Returns:
        The training rows with leaks; ``origin`` of an answer is an index of ``evaluation``.
    Raises:
        ValueError: there are fewer usable rows than leaks.
    """
    words = vocabulary(training)
    origins = _draw(evaluation, len(kinds) * num_each, f"{seed}:leaks", usable)
    made: list[tuple[Row, str, int]] = []
    for place, origin in enumerate(origins):
        kind = kinds[place // num_each]
        if kind == "contained":
            leak = _inside(evaluation[origin], training, seed, origin)
        else:
            leak = _edited(evaluation[origin], kind, seed, origin, words)
        made.append((leak, kind, origin))
    return _shuffled(training, made, seed, origins_in_pool=False)


def other_numbers(
    rows: Sequence[Mapping[str, Any]], num: int, seed: int = 0
) -> list[tuple[Row, int]]:
    """Look-alikes: real rows in which every number is another one, each with its origin's index.

    Args:
        rows: clean rows; those with a number in each text are used.
        num: how many; fewer where the rows don't have them.
        seed: of every choice.
    """
    fit = [i for i, row in enumerate(rows) if all(_NUMBER.search(t) for t in texts_of(row))]
    chosen = Random(f"{seed}:numbers").sample(fit, min(num, len(fit)))
    made = []
    for index in chosen:
        random = Random(f"{seed}:numbers:{index}")

        def another(found: re.Match[str], random: Random = random) -> str:
            low, high = 10 ** (len(found[0]) - 1), 10 ** len(found[0]) - 1
            value = random.randint(low, high)
            return str(value if value != int(found[0]) else low + (value - low + 1) % (high - low))

        made.append((changed(rows[index], lambda text: _NUMBER.sub(another, text)), index))
    return made


# --- look-alikes --------------------------------------------------------------------------------

_SLOTS = {
    "name": "Anna Bruno Carla David Elena Farid Greta Hugo Irina Jonas Kemal Laura Miguel Nadia"
    " Oscar Paula Quentin Rosa Samir Tanja",
    "city": "Paris London Berlin Madrid Rome Vienna Prague Lisbon Oslo Dublin Athens Warsaw"
    " Zurich Helsinki Brussels Budapest Stockholm Copenhagen",
    "month": "January February March April May June July August September October November"
    " December",
}
_TEMPLATES = (
    "Where is my order {number}?",
    "Cancel order {number} please",
    "What is the balance of account {number}",
    "How do I get from {city} to {city}?",
    "Book a table for {small} people on {month} {day} at {small} pm under the name {name}",
    "Hello, my name is {name} and I would like to know why the parcel {number} that you sent to"
    " {city} on {month} {day} has not arrived yet, although the tracking page says that it was"
    " delivered two days ago. Please tell me what I can do now and whether I get my money back.",
    "Dear {name}, thank you for your payment of {number} euros for the invoice {number} of"
    " {month} {day}. We have received it and closed the case. If you have any questions about it,"
    " please write to our office in {city} or call us between nine and five on working days.",
    "I booked flight {code} from {city} to {city} for {month} {day} and need to move it to a later"
    " day because the meeting that I am flying to was postponed by my customer at short notice.",
    "The server {code} reported error {number} at {small} o'clock on {month} {day}; the log of the"
    " service does not show anything unusual before that, and after a restart it was fine again.",
)


def look_alikes(num: int, seed: int = 0) -> list[Row]:
    """Different rows of a few templates: no two are the same, and none may be called duplicates.

    Two rows of one template differ in at least one of number, name, date and place.

    Args:
        num: how many rows.
        seed: of every choice.
    Returns:
        Text rows with the number of the template as label.
    """
    random = Random(f"{seed}:look-alikes")
    found: dict[str, int] = {}
    while len(found) < num:
        index = random.randrange(len(_TEMPLATES))
        found.setdefault(re.sub(r"\{(\w+)\}", lambda m: _filled(m[1], random), _TEMPLATES[index]),
                         index)  # fmt: skip
    return [{"text": text, "label": f"template {index}"} for text, index in found.items()]


# --- groups whose key is hidden -----------------------------------------------------------------


def cut_conversations(
    conversations: Sequence[Sequence[Mapping[str, str]]],
) -> list[tuple[Row, int]]:
    """One row for each assistant turn, after all turns before it; with its conversation's index.

    This is how conversations are often cut into rows; the rows of one must lie on one side.
    """
    rows: list[tuple[Row, int]] = []
    for index, turns in enumerate(conversations):
        for end, turn in enumerate(turns):
            if turn["role"] == "assistant" and end:
                rows.append(({"messages": [dict(t) for t in turns[: end + 1]]}, index))
    return rows


def cut_documents(
    documents: Sequence[str], questions: Sequence[str], num_each: int, seed: int = 0
) -> list[tuple[Row, int]]:
    """Rows that each ask something about a document that stands in front; with its index."""
    rows: list[tuple[Row, int]] = []
    for index, document in enumerate(documents):
        random = Random(f"{seed}:documents:{index}")
        for question in random.sample(list(questions), num_each):
            rows.append(({"text": f"{document}\n\n{question}", "label": "a"}, index))
    return rows


# --- parts --------------------------------------------------------------------------------------


def _filled(slot: str, random: Random) -> str:
    if slot == "number":
        return str(random.randint(10_000, 9_999_999))
    if slot == "small":
        return str(random.randint(2, 12))
    if slot == "day":
        return str(random.randint(1, 28))
    if slot == "code":
        return (
            f"{random.choice('ABCDEFGHKLM')}{random.choice('NPQRSTUVX')}{random.randint(10, 9999)}"
        )
    return random.choice(_SLOTS[slot].split())


def _draw(
    rows: Sequence[Mapping[str, Any]], num: int, name: str, usable: Callable[[Row], bool]
) -> list[int]:
    fit = [index for index, row in enumerate(rows) if usable(dict(row))]
    if len(fit) < num:
        raise ValueError(f"{num} rows are to be changed, but only {len(fit)} are fit for it")
    return Random(name).sample(fit, num)


def _edited(row: Mapping[str, Any], kind: str, seed: int, origin: int, words: Sequence[str]) -> Row:
    random = Random(f"{seed}:{kind}:{origin}")
    return changed(row, lambda text: EDITS[kind](text, random, words))


def _inside(
    row: Mapping[str, Any], training: Sequence[Mapping[str, Any]], seed: int, origin: int
) -> Row:
    """A training row three times as long or more that has the texts of ``row`` in its middle."""
    random = Random(f"{seed}:contained:{origin}")

    def around(text: str) -> str:
        sides = ["", ""]
        while any(len(side) < len(text) for side in sides):
            other = " ".join(texts_of(random.choice(training)))
            shorter = min((0, 1), key=lambda i: len(sides[i]))
            sides[shorter] = f"{sides[shorter]} {other}".strip()
        return f"{sides[0]}\n{text}\n{sides[1]}"

    return changed(row, around)


def _shuffled(
    rows: Sequence[Mapping[str, Any]],
    made: Sequence[tuple[Row, str, int]],
    seed: int,
    origins_in_pool: bool,
) -> Dirty:
    order = list(range(len(rows) + len(made)))
    Random(f"{seed}:order").shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    everything = [*(dict(row) for row in rows), *(row for row, _, _ in made)]
    answers = [
        Answer(kind, place[len(rows) + i], place[origin] if origins_in_pool else origin)
        for i, (_, kind, origin) in enumerate(made)
    ]
    return Dirty([everything[old] for old in order], answers)
