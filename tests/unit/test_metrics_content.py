"""Slots and faithfulness: what a text says, leaves out and makes up."""

import csv
import gzip
import json

import numpy as np
import pytest

from fettle.errors import UsageError
from fettle.metrics import find_metric
from fettle.metrics.faithfulness import names, numbers
from fettle.metrics.slots import slots_of
from fettle.records.outcomes import Prediction

MR = "name[The Punter], eatType[coffee shop], rating[5 out of 5], familyFriendly[yes]"


def row(prediction, source, reference=""):
    return Prediction("r1", prediction, reference, input=source)


def judged(name, one):
    metric = find_metric(name)
    assert metric.lack(one) is None
    return metric.per_row(one), metric.reason(one)


def test_slots_in_both_notations():
    assert slots_of("name[The Punter], food[Indian]") == [
        ("name", "The Punter"),
        ("food", "Indian"),
    ]
    text = "Write of it: inform(name='caerus 63';type=television;price=?;hasusb=dontcare)."
    assert slots_of(text) == [("name", "caerus 63"), ("type", "television")]
    assert slots_of("?select(a=b;c=d)") == [("a", "b"), ("c", "d")]
    assert slots_of("no slots (at all) here [1]") == []
    assert slots_of("Describe: type[a (b)], x_y[c=d;e]") == [("type", "a (b)"), ("x_y", "c=d;e")]
    assert slots_of("food[], name[X]") == [("name", "X")]


COVERED = [
    ("the punter is a family-friendly coffee shop, rated 5 out of 5.", 1.0, ""),
    ("The Punter is a coffee shop.", 0.5, "missing rating=5 out of 5, familyFriendly=yes"),
    ("The Punter, 5 out of 5, is not family friendly.", 0.5,
     "missing eatType=coffee shop, familyFriendly=yes"),
    ("", 0.0, f"missing {MR.replace('[', '=').replace(']', '')}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "share", "reason"), COVERED)
def test_coverage_of_slots(text, share, reason):
    assert judged("slot_coverage", row(text, MR)) == (pytest.approx(share), reason)


def test_a_no_must_be_said_as_one():
    source = "name[X], familyFriendly[no]"
    assert judged("slot_coverage", row("X is not at all family friendly", source))[0] == 1.0
    assert judged("slot_coverage", row("X is family friendly", source))[0] == 0.5


def test_values_with_signs():
    source = "inform(name=tv 1;ecorating=a+)"
    assert judged("slot_coverage", row("tv 1 has a good rating", source))[0] == 0.5
    assert judged("slot_coverage", row("tv 1 has an A+ rating", source))[0] == 1.0


def test_synonyms_and_inserted_slots(tmp_path):
    file = tmp_path / "synonyms.json"
    ways = {
        "familyFriendly": {"yes": ["child friendly", "for kids"], "no": ["adults only"]},
        "food": {"Indian": ["Indian", "curry"], "French": ["French"]},
        "near": {"Café Rouge": ["Café Rouge"]},
    }
    file.write_text(json.dumps(ways))
    name = f"slot_error_rate:synonyms={file}"
    source = "name[X], food[Indian], familyFriendly[yes]"
    assert judged(name, row("X serves curry and is for kids", source)) == (0.0, "")
    value, reason = judged(name, row("X is near the café rouge, serves French food", source))
    assert value == pytest.approx(4 / 3)
    assert reason == (
        "missing food=Indian, familyFriendly=yes; inserted food=French, near=Café Rouge"
    )
    file.write_text("[1]")
    with pytest.raises(UsageError):
        find_metric(name)
    file.write_text('{"food": {"Indian": "curry"}}')
    with pytest.raises(UsageError, match="list of texts"):
        find_metric(name)


E2E_WAYS = {
    "familyFriendly": {
        "yes": [f"{who} friendly" for who in ("child", "children", "kid", "kids")],
        "no": ["adult", "adults"],
    },
    "priceRange": {
        "moderate": ["moderately priced", "mid priced", "average priced"],
        "less than £20": ["under £20", "cheap", "low"],
        "more than £30": ["over £30", "high", "expensive"],
    },
}


def test_slots_of_real_systems(shared, tmp_path):
    """Published findings: clean training data, and reranking by slots, leave fewer slots out."""
    file = tmp_path / "synonyms.json"
    file.write_text(json.dumps(E2E_WAYS))
    metric = find_metric(f"slot_coverage:synonyms={file}")
    folder = shared / "data/e2e_cleaned"
    with (folder / "test-fixed.csv").open(encoding="utf-8") as table:
        inputs = list(dict.fromkeys(record["mr"] for record in csv.DictReader(table)))[::6]
    found = {}
    for data in ("orig", "clean"):
        for system in ("tgen-minus", "tgen-std", "tgen-plus"):
            for seed in range(2):
                name = f"system-outputs/train-{data}_test-clean/{system}.run{seed}.txt.gz"
                with gzip.open(folder / name, "rt", encoding="utf-8") as lines:
                    answers = lines.read().splitlines()[::6]
                rows = [row(text, source) for text, source in zip(answers, inputs, strict=True)]
                shares = [metric.per_row(one) for one in rows]
                found.setdefault((data, system), []).append(float(np.mean(shares)))
    for data in ("orig", "clean"):
        assert max(found[data, "tgen-minus"]) < min(found[data, "tgen-std"])
    for system in ("tgen-minus", "tgen-std"):
        assert max(found["orig", system]) < min(found["clean", system])
    assert min(found["clean", "tgen-std"]) > 0.97


SOURCE = "Ann Lee, 42, saw Dr. Rossi at NASA on Monday. She took 3.50 mg of aspirin for two days."


def test_facts_of_a_text():
    assert numbers(SOURCE) == ["42", "3.5", "2"]
    assert names(SOURCE) == ["Lee", "Rossi", "NASA", "Monday"]
    assert names("NASA won. Then Bob's dog. - Tom said: Hello McKay") == ["NASA", "Bob", "McKay"]
    assert names("") == numbers("") == []


def test_what_is_made_up():
    value, reason = judged("faithfulness", row("On Monday Lee took 3.5 mg.", SOURCE))
    assert (value, reason) == (1.0, "")
    value, reason = judged("faithfulness", row("On Tuesday Lee took 35 mg, 2 days.", SOURCE))
    assert value == pytest.approx(2 / 4)
    assert reason == "not in the input: 35, Tuesday"
    assert judged("faithfulness:of=numbers", row("Tuesday: 35 mg", SOURCE))[0] == 0.0
    assert judged("faithfulness:of=names", row("on Tuesday 35 mg", SOURCE))[0] == 0.0
    assert judged("faithfulness:of=terms", row("aspirins and opium", SOURCE))[0] == 0.5
    assert judged("faithfulness", row("nothing to see", SOURCE)) == (
        1.0,
        "nothing to check in the answer",
    )
    many = judged("faithfulness:of=numbers", row("11, 12, 13, 14, 15, 16, 17", SOURCE))[1]
    assert many == "not in the input: 11, 12, 13, 14, 15 and 2 more"


def test_a_name_may_begin_a_sentence_of_the_source():
    assert judged("faithfulness", row("we met Ann", "Ann is ill."))[0] == 1.0
    assert judged("faithfulness", row("it was the FBI", "the fbi came"))[0] == 1.0


def test_what_is_kept():
    reference = "Dr. Rossi gave 3.5 mg."
    one = row("Rossi gave 3.50 mg", SOURCE, reference)
    assert judged("kept", one) == (1.0, "")
    value, reason = judged("kept", row("someone gave 7 mg", SOURCE, reference))
    assert (value, reason) == (0.0, "left out: 3.5, Rossi")
    assert judged("kept", row("x", SOURCE, "y")) == (1.0, "nothing to keep in input and reference")
    assert judged("kept:of=numbers", row("42, 3.5", SOURCE, ""))[0] == pytest.approx(2 / 3)


def test_novelty_is_shown_and_never_decides():
    assert find_metric("novelty").descriptive
    assert judged("novelty", row("saw Dr Rossi at home", SOURCE))[0] == pytest.approx(1 / 4)
    assert judged("novelty:n=1", row("saw saw xyz", SOURCE))[0] == pytest.approx(1 / 3)
    assert judged("novelty", row("one", SOURCE)) == (0.0, "fewer than 2 words in the answer")
