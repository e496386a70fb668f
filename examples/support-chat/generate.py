"""Writes the conversations of this example, and the policy sheet that they follow.

In: the table of facts below and the phrases in `phrases.toml`. Out: `conversations.jsonl` and
`policies.md`, the same bytes on every machine and Python from 3.11 on. Standard library only.

    python examples/support-chat/generate.py [FOLDER]

Every figure in an answer comes from the table; the phrases of answers hold no digit. A candidate
that is too near to what is there already is thrown away, so that no conversation of the holdout can
be a copy of one in training.
"""

import json
import sys
import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wording import (
    SLOT,
    Dice,
    Seen,
    in_style,
    jaccard,
    lines_for,
    lower_first,
    pieces,
    spoken,
    upper_first,
    word_pairs,
)

Topic = dict[str, Any]

SEED = 20
NUM_CONVERSATIONS = 840
MAX_REQUEST_OVERLAP = 0.64  # Jaccard of 5-grams of characters; the tests demand less than 0.7
MAX_CONVERSATION_OVERLAP = 0.45  # Jaccard of pairs of words; the tests demand less than 0.5
MAX_INPUT_OVERLAP = 0.4  # the same for all that stands before the last answer
HERE = Path(__file__).resolve().parent

# The facts --------------------------------------------------------------------------------------

BIKES: dict[str, dict[str, Any]] = {
    "Wren": {
        "kind": "city bike", "weight": 14, "prices": (29, 24, 19), "deposit": 0, "share": 60,
        "buyout": 240,
    },
    "Heron": {
        "kind": "e-bike", "weight": 22, "prices": (79, 69, 59), "deposit": 100, "share": 150,
        "buyout": 990, "range": 70, "full": 4,
    },
    "Ox": {
        "kind": "cargo e-bike", "weight": 38, "prices": (129, 114, 99), "deposit": 150,
        "share": 250, "buyout": 1790, "range": 50, "full": 6,
    },
    "Finch": {
        "kind": "children's bike", "weight": 7, "prices": (17, 14, 11), "deposit": 0, "share": 30,
        "buyout": 90,
    },
}  # fmt: skip
PLANS = {"Drift": 0, "Steady": 6, "Homeward": 12}
EARLY_FEES = {"Drift": 0, "Steady": 1, "Homeward": 2}
TOWNS = ("Alderford", "Brackwater", "Corrin", "Dunmere", "Eastvale")
SIZES = {"S": (150, 165), "M": (163, 178), "L": (176, 195)}
FINCH_SIZES = {"small": (105, 118), "large": (116, 130)}
FACTS = {
    "adult": "18",
    "basket": "€3 a month",
    "buy_after": "12 months",
    "charge_temps": "5 to 30 °C",
    "charger": "€40",
    "complaint": "2 working days",
    "cover": "€7 a month",
    "damage_max": "€80",
    "deliver": "4 working days",
    "deposit_back": "10 days",
    "early_steady": "one monthly fee",
    "early_homeward": "two monthly fees",
    "ember_min": "70 %",
    "finch_ages": "4 to 8",
    "fleet": "5 bikes",
    "friend": "€15",
    "gears": "7",
    "gone": "30 days",
    "helmet": "€35",
    "hours_chat": "8:00 to 20:00",
    "hours_saturday": "Saturday 9:00 to 14:00",
    "hours_week": "Monday to Friday 8:00 to 18:00",
    "household": "10 %",
    "key_both": "€45",
    "key_one": "€18",
    "link": "30 minutes",
    "loan_after": "48 hours",
    "max_bikes": "4 bikes",
    "notice": "14 days'",
    "notice_days": "14 days",
    "ox_load": "80 kg",
    "ox_riders": "155 to 195 cm",
    "panniers": "€4 a month",
    "pause_fee": "€5 a month",
    "pause_months": "2 months",
    "pause_notice": "7 days'",
    "paused_after": "14 days",
    "pitstop": "2 working days",
    "police": "3 days",
    "refund": "5 working days",
    "replace": "5 working days",
    "report": "24 hours",
    "resched": "18:00 the day before",
    "retry_one": "3 days",
    "retry_two": "7 days",
    "seat": "€6 a month",
    "slot_late": "17 to 20",
    "slots": "8 to 12, 12 to 17 or 17 to 20",
    "start_fee": "€25",
    "store_temps": "10 to 25 °C",
    "student": "15 %",
    "swap_every": "3 months",
    "swap_fee": "€20",
    "third": "€15",
    "travel": "30 days",
    "tryout": "21 days",
    "tuneup": "6 months",
    "voucher_high": "€200",
    "voucher_low": "€20",
    "voucher_years": "3 years",
    "winter": "November to March",
}

NAMES = (
    "Mara", "Jonas", "Petra", "Ilir", "Sanne", "Tomas", "Aylin", "Ruth", "Bruno", "Kaja", "Felix",
    "Nadia", "Oskar", "Lena", "Yusuf", "Greta", "Milan", "Zoe", "Hanne", "Piotr", "Carla", "Emil",
    "Tess", "Ravi", "Noor", "Sven", "Alma", "Viktor", "Ida", "Leo",
)  # fmt: skip
KEPT = {*BIKES, *PLANS, *TOWNS, *NAMES, "Velmora", "Pitstop", "Ember", "Keeper", "Tune-Up", "Fleet",
        "Account", "Saturday", "Sunday", "Monday", "Sundays", "M", "S", "ID", "PDF",
        "GDPR"}  # fmt: skip


def euros(amount: int) -> str:
    """1790 -> "€1,790"."""
    return f"€{amount:,}"


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"


def facts_of(bike: str, plan: str) -> dict[str, str]:
    """Everything that the table says about a bike on a plan, as the phrases name it."""
    row = BIKES[bike]
    prices = dict(zip(PLANS, row["prices"], strict=True))
    found = dict(FACTS)
    found |= {f"price_{name.lower()}": f"{euros(p)} a month" for name, p in prices.items()}
    found |= {f"{name.lower()}_term": f"{months} months" for name, months in PLANS.items()}
    found |= {
        "bike": bike,
        "a_bike": article(bike),
        "a_bike_up": article(bike).capitalize().replace(bike.lower(), bike),
        "plan": plan,
        "term": {"Drift": "month", "Steady": "six months", "Homeward": "twelve months"}[plan],
        "price": found[f"price_{plan.lower()}"],
        "early_fee": FACTS.get(f"early_{plan.lower()}", "nothing"),
        "early_sum": euros(prices[plan] * EARLY_FEES[plan]),
        "kind": row["kind"],
        "a_kind": article(row["kind"]),
        "weight": f"{row['weight']} kg",
        "deposit": euros(row["deposit"]) if row["deposit"] else "no",
        "deposit_up": "No",
        "deposit_must": euros(row["deposit"]) if row["deposit"] else "no deposit",
        "deposit_heron": euros(BIKES["Heron"]["deposit"]),
        "deposit_ox": euros(BIKES["Ox"]["deposit"]),
        "range": f"{row.get('range', 0)} km",
        "range_ox": f"{BIKES['Ox']['range']} km",
        "full": f"{row.get('full', 0)} hours",
        "share": euros(row["share"]),
        "buyout": euros(row["buyout"]),
        "towns": f"{', '.join(TOWNS[:-1])} and {TOWNS[-1]}",
        "hours_week_up": FACTS["hours_week"],
        "finch_large": "{} to {} cm".format(*FINCH_SIZES["large"]),
    }
    return found


def sheet(text: str) -> str:
    """The policy sheet, with what the table says in its slots."""
    slots = facts_of("Wren", "Drift")
    for bike in BIKES:
        slots |= {f"{bike.lower()}_{key}": value for key, value in facts_of(bike, "Drift").items()}
    slots["sizes"] = ", ".join(f"{size} {a} to {b} cm" for size, (a, b) in SIZES.items())
    slots["finch_sizes"] = ", ".join(
        f"{size} {a} to {b} cm" for size, (a, b) in FINCH_SIZES.items()
    )
    slots |= {
        key: value.removesuffix(" a month") for key, value in slots.items() if "_price_" in key
    }
    text = SLOT.sub(lambda slot: slots[slot[1]], text)
    lines: list[str] = []
    for line in text.splitlines():
        if line[:1] in ("|", "#", ""):
            lines.append(line)
        else:
            indent = "  " if line.startswith("- ") else ""
            lines += textwrap.wrap(line, 100, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


# A conversation ---------------------------------------------------------------------------------


def wanted(topic: Topic, context: dict[str, str], key: str = "must") -> list[str]:
    """What an answer to the topic has to name."""
    return [SLOT.sub(lambda s: context[s[1]], part) for part in topic[key].split("; ")]


@dataclass
class Customer:
    """Who writes: the same bike, plan, town and way of writing in every conversation."""

    key: str
    name: str
    town: str
    bike: str
    plan: str
    style: str


@dataclass
class Talk:
    """A conversation while it grows."""

    context: dict[str, str]
    style: str
    turns: list[tuple[str, str]] = field(default_factory=list)
    must: list[str] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # lines of ours that were said


class Writer:
    """Puts conversations together and remembers what was said."""

    def __init__(self, phrases: dict[str, Topic], dice: Dice) -> None:
        self.frame = phrases["_frame"]
        self.topics = {name: t for name, t in phrases.items() if name[0] != "_"}
        self.dice = dice
        self.requests = Seen(MAX_REQUEST_OVERLAP)
        self.talks = Seen(MAX_CONVERSATION_OVERLAP)
        self.inputs = Seen(MAX_INPUT_OVERLAP)
        self.answers: set[str] = set()

    def context(self, who: str, customer: Customer) -> dict[str, str]:
        """Facts and circumstances of one conversation."""
        dice = self.dice
        found = facts_of(customer.bike, customer.plan) | {
            "who": who,
            "name": customer.name,
            "town": customer.town,
            "town2": dice.one([town for town in TOWNS if town != customer.town]),
            "bike2": dice.one([b for b in BIKES if b not in (customer.bike, "Finch")]),
        }
        found["a_bike2"] = article(found["bike2"])
        size = dice.one(tuple(SIZES))
        low, high = SIZES[size]
        # Heights that two sizes cover have no single right answer.
        free = [h for h in range(low, high + 1) if sum(a <= h <= b for a, b in SIZES.values()) == 1]
        height = dice.one(free)
        found |= {"size": size, "size_span": f"{low} to {high} cm", "height": f"{height} cm"}
        found["height_user"] = dice.one((f"{height} cm", f"{height} cm", f"{height / 100:.2f} m"))
        finch = dice.one(tuple(FINCH_SIZES))
        low, high = FINCH_SIZES[finch]
        free = [
            h
            for h in range(low, high + 1)
            if sum(a <= h <= b for a, b in FINCH_SIZES.values()) == 1
        ]
        child = dice.one(free)
        found |= {"finch_size": finch, "finch_span": f"{low} to {high} cm", "child": f"{child} cm"}
        found["child_user"] = dice.one((f"{child} cm", f"{child} cm", f"{child / 100:.2f} m"))
        return found

    def fits(self, name: str, context: dict[str, str]) -> bool:
        """Whether the topic can come up for this customer."""
        topic = self.topics[name]
        return (
            topic["who"] in ("any", context["who"])
            and context["bike"] in topic.get("bikes", BIKES)
            and context["plan"] in topic.get("plans", PLANS)
        )

    def say(self, key: str, context: dict[str, str]) -> str:
        """One line of the frame."""
        return spoken(self.dice.one(lines_for(self.frame[key], context)), context, self.dice)

    def fresh(self, talk: Talk, text: str) -> str:
        """One of the lines of a block that were not said in this conversation."""
        lines = [line for line in lines_for(text, talk.context) if line not in talk.used]
        line = self.dice.one(lines or lines_for(text, talk.context))
        talk.used.add(line)
        return upper_first(spoken(line, talk.context, self.dice))

    # The customer's side.

    def opening(self, talk: Talk, topic: Topic, block: str) -> str:
        """A first message: greeting and story as the style has them, then the question."""
        dice, context = self.dice, talk.context
        wordy = talk.style == "wordy"
        lines = lines_for(topic[block], context)
        if wordy:  # who writes letters does not write in headlines
            lines = [line for line in lines if not line[0].islower() and not line.startswith("{")]
        text = spoken(dice.one(lines), context, dice)
        story = topic.get("story", True) and "small" not in topic and block == "ask"
        if story and talk.style != "terse" and dice.chance(0.7 if wordy else 0.2):
            text = f"{self.say('story', context)} {upper_first(text)}"
        if talk.style != "terse" and dice.chance(0.8 if wordy else 0.3):
            greeting = self.say("greeting", context)
            known = text.split(" ", 1)[0].rstrip(",!.") in ("Hi", "Hello", "hello", "Help")
            rest = lower_first(text, KEPT) if greeting.endswith(",") else upper_first(text)
            text = text if known else f"{greeting} {rest}"
        if dice.chance({"wordy": 0.5, "terse": 0.0}.get(talk.style, 0.12)):
            text = text if text[-1] in ".?!" else f"{text}."
            farewell = self.say("farewell", context)
            text = text if context["name"] in text else f"{text} {farewell}"
        return text

    def later(self, talk: Talk, text: str, link: float) -> str:
        """A later message, with a word that links it to the answer before."""
        text = spoken(self.dice.one(lines_for(text, talk.context)), talk.context, self.dice)
        if self.dice.chance(link):
            word = self.say("link", talk.context)
            if word.endswith(":"):
                text = (
                    text
                    if text.startswith(("And ", "So ", "Then "))
                    else f"{word} {lower_first(text, KEPT)}"
                )
            else:
                text = f"{word} {upper_first(text)}"
        return text

    # Our side.

    def answer(self, talk: Talk, topic: Topic, *, last: bool, heads: str = "") -> str:
        """What we say: a word for the mood, the fact, what goes with it, and a close."""
        dice, context = self.dice, talk.context
        mood = topic.get("mood")
        block = "stand" if heads else "answer"
        head = self.fresh(talk, heads or topic["answer"])
        if block == "answer" and mood and dice.chance(0.55):
            head = f"{self.say(mood, context)} {head}"
        elif block == "answer" and "push" in topic and dice.chance(0.3):
            head = f"{self.say('no', context)} {head}"
        elif block == "answer" and ":" not in head and "small" not in topic and dice.chance(0.22):
            head = f"{self.say('lead', context)} {lower_first(head, KEPT)}"
        parts = [head]
        number = (0, 1, 1, 1, 2, 2)[dice.below(6)]
        if block != "answer" or "small" in topic:
            number = min(number, 1)
        for _ in range(number):
            lines = [x for x in lines_for(topic.get("more", ""), context) if x not in talk.used]
            if lines:
                line = dice.one(lines)
                talk.used.add(line)
                parts.append(upper_first(spoken(line, context, dice)))
        if dice.chance(0.4 if last else 0.06):
            sad = mood in ("sorry", "grave", "bill")
            parts.append(self.say(f"close_{mood}" if sad else "close", context))
        text = " ".join(parts)
        must = wanted(topic, context, "must" if block == "answer" else "stand_must")
        for part in must:
            if part.lower() not in text.lower():
                raise ValueError(f"{part!r} is missing in {text!r}")
        talk.must = must
        return text

    def exchange(self, talk: Talk, ask: str, reply: str) -> bool:
        """Adds a request and its answer, unless one of them was there before."""
        ask = in_style(ask, talk.style, self.dice)
        mine = {turn[1] for turn in talk.turns}
        shingles = pieces(ask)
        if reply in self.answers or reply in mine:
            return False
        if self.requests.near(shingles):
            return False
        if any(jaccard(shingles, pieces(said)) >= MAX_REQUEST_OVERLAP for said, _ in talk.turns):
            return False
        talk.turns.append((ask, reply))
        return True

    def attempt(self, talk: Talk, name: str, kind: str, *, last: bool) -> bool:
        """One try to add an exchange of a kind; a failed one leaves the conversation as it was."""
        topic = self.topics[name]
        before, must = set(talk.used), talk.must
        if kind == "vague":
            which = topic["which"].replace(" ", "_").replace("'", "")
            ask = self.opening(talk, topic, "vague")
            reply, talk.must = self.fresh(talk, self.frame[f"which_{which}"]), []
        elif kind == "reply":
            which = topic["which"].replace(" ", "_").replace("'", "")
            ask = self.say(f"reply_{which}", talk.context)
            reply = self.answer(talk, topic, last=last)
        elif kind == "open":
            ask = self.opening(talk, topic, "ask")
            reply = self.answer(talk, topic, last=last)
        elif kind == "push":
            said, back = topic["push"].splitlines(), topic["stand"].splitlines()
            at = self.dice.below(len(said))
            ask = spoken(said[at], talk.context, self.dice)
            fitting = "\n".join([back[at], *back[len(said) :]])
            reply = self.answer(talk, topic, last=last, heads=fitting)
        elif kind == "thanks":
            ask = self.say("thanks", talk.context)
            reply, talk.must = self.fresh(talk, self.frame["welcome"]), ["Ride well"]
        else:
            block = "then" if "then" in topic else "ask"
            if name in talk.topics and "again" in topic:
                block = "again"
            ask = self.later(talk, topic[block], 0.7 if block == "ask" else 0.4)
            reply = self.answer(talk, topic, last=last)
        if self.exchange(talk, ask, reply):
            talk.topics.append(name)
            return True
        talk.used, talk.must = before, must
        return False

    def tries(self, talk: Talk, name: str, kind: str, *, last: bool) -> bool:
        """Up to 40 tries of the same."""
        return any(self.attempt(talk, name, kind, last=last) for _ in range(40))

    def changed(self, talk: Talk, name: str) -> dict[str, str]:
        """The same circumstances with another bike or plan, as the topic has it."""
        topic, now = self.topics[name], talk.context
        bikes, plans = [now["bike"]], [now["plan"]]
        if topic["change"] == "bike":
            bikes = [b for b in topic.get("bikes", BIKES) if b != now["bike"]]
        else:
            plans = [p for p in PLANS if p != now["plan"]]
        return now | facts_of(self.dice.one(bikes), self.dice.one(plans))

    def follow(self, talk: Talk, *, last: bool) -> bool:
        """One more exchange: a protest, a related question, or thanks."""
        name, dice = talk.topics[-1], self.dice
        topic = self.topics[name]
        if "push" in topic and talk.topics.count(name) == 1 and dice.chance(0.65):
            return self.tries(talk, name, "push", last=last)
        calm = "push" not in topic and topic.get("mood") != "grave"
        if last and calm and dice.chance(0.15):
            return self.tries(talk, name, "thanks", last=last)
        choice = [
            other
            for other in topic["related"]
            if self.fits(other, talk.context)
            and (other not in talk.topics or (other == name and talk.topics.count(name) == 1))
        ]
        for other in dice.some(choice, 3):
            context = talk.context
            if other == name:
                talk.context = self.changed(talk, name)
            done = self.tries(talk, other, "later", last=last)
            if not done or talk.context["who"] == "rider":
                talk.context = context  # a rider asks about another bike, and still has one
            if done:
                return True
        return False

    def write(self, who: str, customer: Customer, name: str, num_exchanges: int) -> Talk | None:
        """A whole conversation, or None where no new one was found."""
        talk = Talk(self.context(who, customer), customer.style)
        vague = "vague" in self.topics[name] and num_exchanges > 1 and self.dice.chance(0.5)
        if vague:
            if not self.tries(talk, name, "vague", last=False):
                return None
            talk.topics.clear()
            if not self.tries(talk, name, "reply", last=num_exchanges == 2):
                return None
        elif not self.tries(talk, name, "open", last=num_exchanges == 1):
            return None
        while len(talk.turns) < num_exchanges:
            if not self.follow(talk, last=len(talk.turns) == num_exchanges - 1):
                break
        words = word_pairs([text for turn in talk.turns for text in turn])
        inputs = word_pairs([text for turn in talk.turns for text in turn][:-1])
        if self.talks.near(words) or self.inputs.near(inputs):
            return None
        self.talks.add(words)
        self.inputs.add(inputs)
        for ask, reply in talk.turns:
            self.requests.add(pieces(ask))
            self.answers.add(reply)
        return talk


# Everything -------------------------------------------------------------------------------------


def write_all(phrases: dict[str, Topic]) -> list[dict[str, Any]]:
    """All conversations, as records of the file."""
    dice = Dice(SEED)
    writer = Writer(phrases, dice)
    counts = dict.fromkeys(writer.topics, 0.0)
    records: list[dict[str, Any]] = []
    number = 0
    while len(records) < NUM_CONVERSATIONS:
        number += 1
        customer = Customer(
            f"customer-{number:04d}",
            dice.one(NAMES),
            dice.one(TOWNS),
            dice.one(
                ("Wren", "Wren", "Heron", "Heron", "Heron", "Ox", "Ox", "Ox", "Finch", "Finch")
            ),
            dice.one(tuple(PLANS)),
            dice.one(("plain", "plain", "plain", "wordy", "wordy", "terse", "lower", "tired")),
        )
        num_talks = (1, 1, 1, 1, 1, 1, 1, 2, 2, 3)[dice.below(10)]
        joins = dice.chance(0.38)
        for turn in range(min(num_talks, NUM_CONVERSATIONS - len(records))):
            who = "new" if joins and (turn == 0 or num_talks == 1) else "rider"
            context = writer.context(who, customer)
            names = [n for n in writer.topics if writer.fits(n, context)]
            names.sort(key=lambda n: (counts[n], n))
            for name in names[:6]:
                counts[name] += 1 / writer.topics[name].get("weight", 1.0)
                talk = writer.write(who, customer, name, (1, 2, 2, 3, 3)[dice.below(5)])
                if talk is not None:
                    records.append(record(len(records) + 1, customer, talk))
                    break
    return records


def record(number: int, customer: Customer, talk: Talk) -> dict[str, Any]:
    """One line of the file."""
    messages = []
    for ask, reply in talk.turns:
        messages.append({"role": "user", "content": ask})
        messages.append({"role": "assistant", "content": reply})
    return {
        "id": f"conversation-{number:04d}",
        "customer": customer.key,
        "must_name": talk.must,
        "messages": messages,
    }


def main(folder: Path) -> None:
    """Writes both files into the folder."""
    phrases = tomllib.loads((HERE / "phrases.toml").read_text(encoding="utf-8"))
    records = write_all(phrases)
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in records]
    (folder / "policies.md").write_bytes(sheet(phrases["_sheet"]["text"]).encode())
    (folder / "conversations.jsonl").write_bytes("".join(lines).encode())
    num_turns = sum(len(each["messages"]) for each in records)
    print(f"{len(records)} conversations, {num_turns} turns")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
