"""Near duplicates: words, sketches, joins, pairs and clusters, each against a plain version."""

import re
import time
from itertools import combinations, pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.deduplicate import input_key
from fettle.data.near import Clusters, clusters, find, sketch
from fettle.data.near.match import pairs_of, unpacked
from fettle.data.near.short import similar
from fettle.data.near.sketch import NUM_BANDS, band_keys
from fettle.data.near.slots import same_template
from fettle.data.near.tokens import Flat, characters, distinct, parse, plain, runs
from fettle.records.rows import Example, Message

FEW = settings(max_examples=25, deadline=None)
VOCABULARY = [
    a + b for a in ("ba", "ko", "lu", "mi", "ne") for b in ("r", "st", "n", "lla", "ck", "mp")
]


def sentence(random: Random, num_words: int) -> str:
    return " ".join(random.choice(VOCABULARY) + random.choice(VOCABULARY) for _ in range(num_words))


def edited(text: str, random: Random, num: int) -> str:
    words = text.split()
    for _ in range(num):
        words[random.randrange(len(words))] = random.choice(VOCABULARY)
    return " ".join(words)


def pool(num: int, seed: int = 0, words: tuple[int, int] = (14, 60)) -> list[str]:
    """Texts of which some are made from others."""
    random = Random(seed)
    texts = [sentence(random, random.randint(*words)) for _ in range(num)]
    for index in range(0, num, 4):
        text = texts[index]
        texts.append(edited(text, random, random.randint(1, 3)))
        texts.append(f"{sentence(random, 9)} {text}")
    random.shuffle(texts)
    return sorted(set(texts), key=lambda text: Random(text).random())


def word_pairs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(pairwise(words))


def five_characters(text: str) -> set[str]:
    joined = " ".join(re.findall(r"\w+", text.lower()))
    return {joined[i : i + 5] for i in range(max(1, len(joined) - 4))} if joined else set()


def alike(one: set, two: set) -> float:
    return len(one & two) / len(one | two) if one | two else 0.0


# --- words --------------------------------------------------------------------------------------


@FEW
@given(st.lists(st.text(alphabet="aBc 1_.,ß漢字ก-'\n", max_size=20), min_size=1, max_size=6))
def test_words_are_those_of_a_regular_expression(texts: list[str]) -> None:
    pattern = re.compile(r"[漢字ก]|[^\W_漢字ก]+")
    wanted = [pattern.findall(text.casefold()) for text in texts]
    found = parse(texts).flat
    assert found.counts.tolist() == [len(words) for words in wanted]
    hashes: dict[str, int] = {}
    flat = [word for words in wanted for word in words]
    for word, value in zip(flat, found.values.tolist(), strict=True):
        assert hashes.setdefault(word, value) == value
    assert len(set(hashes.values())) == len(hashes)


def test_case_width_spaces_and_punctuation_are_not_seen() -> None:
    one, two, three = (
        parse([text]).flat.values.tolist()
        for text in ("Hello, World! Straße", "hello\n world -- STRASSE.", "hello worlds strasse")
    )
    assert one == two != three


@FEW
@given(st.lists(st.text(alphabet="abc d", max_size=30), min_size=1, max_size=5))
def test_runs_of_words_and_characters(texts: list[str]) -> None:
    words = parse(texts)
    for size in (2, 8):
        counts = [max(0, len(text.split()) - size + 1) for text in texts]
        assert runs(words.flat, size).counts.tolist() == counts
    found = distinct(characters(words, 5))
    wanted = [five_characters(text) for text in texts]
    assert found.counts.tolist() == [len(grams) for grams in wanted]
    sets = [set(part.tolist()) for part in np.split(found.values, found.offsets[1:-1])]
    for i, j in combinations(range(len(texts)), 2):
        assert len(sets[i] & sets[j]) == len(wanted[i] & wanted[j])


def test_masked_names_and_addresses_are_not_seen() -> None:
    assert plain("@ann look at https://t.co/x now").split() == ["look", "at", "now"]
    assert plain("@user look at http now").split() == ["look", "at", "now"]
    assert plain("https://example.org") == "https://example.org"
    assert plain("write to ann@example.org") == "write to ann@example.org"


# --- sketches and joins -------------------------------------------------------------------------


def test_bands_agree_as_often_as_the_similarity_foretells() -> None:
    generator = np.random.default_rng(0)
    for shared in (180, 120, 60):
        rows = []
        for _ in range(150):
            values = generator.integers(1, 2**63, 400 - shared, dtype=np.uint64)
            rows += [values[:200], values[200 - shared :]]
        counts = [len(row) for row in rows]
        keys = band_keys(Flat(np.concatenate(rows), np.concatenate([[0], np.cumsum(counts)])))
        same = float((keys[:, 0::2] == keys[:, 1::2]).mean())
        jaccard = shared / (400 - shared)
        error = (jaccard**4 * (1 - jaccard**4) / (150 * NUM_BANDS)) ** 0.5
        assert same == pytest.approx(jaccard**4, abs=5 * error + 0.002)


@FEW
@given(st.lists(st.text(alphabet="abcd ", max_size=24), min_size=2, max_size=25, unique=True))
def test_the_join_of_short_texts_is_exact(texts: list[str]) -> None:
    sets = distinct(characters(parse(texts), 5))
    left, right, value = similar(sets, 0.7)
    grams = [five_characters(text) for text in texts]
    wanted = {
        (i, j): alike(grams[i], grams[j])
        for i, j in combinations(range(len(texts)), 2)
        if grams[i] and grams[j] and alike(grams[i], grams[j]) >= 0.7
    }
    assert dict(
        zip(zip(left.tolist(), right.tolist(), strict=True), value.tolist(), strict=True)
    ) == (pytest.approx(wanted))


def test_small_groups_are_paired_each_with_each_and_large_ones_stay_connected() -> None:
    keys = np.array([1] * 5 + [2] * 300, np.uint32)
    rows = np.array([*range(5), *range(100, 400)])
    other = np.zeros(400, bool)
    other[350:400] = True
    left, right = unpacked(np.unique(pairs_of(keys, rows, other)))
    small = {(a, b) for a, b in zip(left.tolist(), right.tolist(), strict=True) if b < 100}
    assert small == set(combinations(range(5), 2))
    large = [(a, b) for a, b in zip(left.tolist(), right.tolist(), strict=True) if b >= 100]
    assert len(large) < 16 * 300
    crossing = {b for a, b in large if not other[a] and other[b]}
    assert crossing == set(range(350, 400))
    reached, edge = {100}, {100}
    while edge:
        edge = {y for x in edge for p in large if x in p for y in p} - reached
        reached |= edge
    assert reached == set(range(100, 400))


# --- look-alikes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Where is my order 51?", "Where is my order 62?", True),
        ("pay 1,000 euros now", "pay 1000 euros now", False),
        ("pay 10 euros now please", "pay euros now please", False),
        ("I fly to Oslo on Monday", "I fly to Rome on Friday", True),
        ("I fly to New York today", "I fly to Rome today", True),
        ("i fly to oslo today", "i fly to rome today", False),
        ("the table is red", "the table is blue", False),
        ("meet me in march", "meet me in april", True),
        ("meet me in march please", "meet me in april now", False),
        ("Buy 3 of them at 5 each", "Buy 5 of them at 7 each", True),
        ("Hello there", "hello, there!", False),
    ],
)
def test_slots_of_a_template(one: str, two: str, same: bool) -> None:
    assert same_template(one, two) is same
    assert same_template(two, one) is same


# --- pairs --------------------------------------------------------------------------------------


def test_pairs_are_those_of_plain_sets() -> None:
    texts = pool(120)
    found = {
        tuple(sorted((p.left, p.right))): p.similarity
        for p in find(texts).pairs
        if p.method == "near"
    }
    wanted = {}
    for i, j in combinations(range(len(texts)), 2):
        by_words = alike(word_pairs(texts[i]), word_pairs(texts[j]))
        if by_words < 0.4:
            continue
        values = by_words, alike(five_characters(texts[i]), five_characters(texts[j]))
        if max(values) >= 0.7:
            wanted[i, j] = values
    assert len(wanted) > 30
    # Nothing is called near that is not, and next to nothing is missed.
    assert found.keys() <= wanted.keys()
    assert len(found) >= 0.99 * len(wanted)
    for key, value in found.items():
        assert any(value == pytest.approx(plain_value) for plain_value in wanted[key])


def test_neither_order_nor_workers_play_a_part() -> None:
    texts = pool(80, seed=1)
    texts += [f"short text {word}" for word in VOCABULARY]
    other = [len(text) % 3 == 0 for text in texts]

    def named(order: list[int], workers: int) -> list[tuple[str, str, float, str]]:
        pairs = find([texts[i] for i in order], [other[i] for i in order], workers).pairs
        return [
            (texts[order[p.left]], texts[order[p.right]], p.similarity, p.method) for p in pairs
        ]

    straight = list(range(len(texts)))
    first = named(straight, 1)
    assert len(first) > 20
    shuffled = straight[:]
    Random(3).shuffle(shuffled)
    for order, workers in ((straight, 2), (shuffled, 1), (shuffled[::-1], 4)):
        assert named(order, workers) == first


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pool(60, seed=2)
    whole = find(texts)
    monkeypatch.setattr("fettle.data.near.pairs._CHUNK", 500)
    monkeypatch.setattr("fettle.data.near.pairs._VERIFIED", 7)
    assert find(texts) == whole
    assert find(texts, workers=3) == whole


def test_contained_and_boilerplate() -> None:
    random = Random(5)
    instruction = "please read what stands below with care and then answer the question at the end"
    texts = [f"{instruction}: {sentence(random, 25)}" for _ in range(150)]
    inner = texts[7].split(": ")[1]
    texts.append(f"{sentence(random, 40)} {inner} {sentence(random, 40)}")
    found = find(texts).pairs
    assert [(sorted((p.left, p.right)), p.method) for p in found] == [([7, 150], "contained")]
    assert found[0].similarity > 0.9


def test_the_same_words_meet_every_row_of_the_other_side() -> None:
    texts = [f"thank you{'!' * i}" for i in range(40)] + ["something else entirely"]
    other = [i % 2 == 1 for i in range(40)] + [False]
    pairs = {tuple(sorted((p.left, p.right))) for p in find(texts, other).pairs}
    assert len(pairs) < 200
    for i in range(1, 40, 2):
        assert any(i in pair and any(j % 2 == 0 for j in pair if j != i) for pair in pairs)


@pytest.mark.parametrize("texts", [[], ["one"], ["", " ", "!"], ["a", "b"]])
def test_next_to_nothing(texts: list[str]) -> None:
    assert find(texts).pairs == []


# --- clusters -----------------------------------------------------------------------------------


def text_row(text: str, row_id: str = "") -> Example:
    return Example(row_id or text, "data", 1, 1, text=text, target="a")


def chat_row(row_id: str, *turns: str) -> Example:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], turn) for i, turn in enumerate(turns))
    return Example(row_id, "data", 1, 1, messages=messages, target=turns[-1])


def of(examples: list[Example]) -> tuple[Clusters, list[str]]:
    keys = [input_key(example) for example in examples]
    found = clusters(examples, keys)
    return found, [found.key(key) for key in keys]


def test_a_cluster_is_named_by_its_smallest_input_and_does_not_depend_on_order() -> None:
    texts = pool(60, seed=4)
    rows = [text_row(text) for text in texts]
    found, names = of(rows)
    members: dict[str, set[str]] = {}
    for row, name in zip(rows, names, strict=True):
        members.setdefault(name, set()).add(input_key(row))
    assert all(name == min(keys) for name, keys in members.items())
    assert sum(len(keys) > 2 for keys in members.values()) > 10
    again, _ = of(rows[::-1])
    assert again.cluster_of == found.cluster_of
    assert again.links == found.links
    # Rows that have nothing to do with the others change no name.
    more, _ = of([*rows, *(text_row(f"{i} {i + 1} {i + 2}") for i in range(40))])
    assert {key: more.key(key) for key in map(input_key, rows)} == {
        key: found.key(key) for key in map(input_key, rows)
    }


def test_rows_of_one_document_or_conversation_belong_together() -> None:
    random = Random(6)
    document = sentence(random, 60)
    rows = [text_row(f"{document} {sentence(random, 80)}") for _ in range(2)]
    rows += [text_row(sentence(random, 60)) for _ in range(3)]
    first, answer = sentence(random, 8), sentence(random, 8)
    rows.append(chat_row("c1", first, answer))
    rows.append(chat_row("c2", first, answer, sentence(random, 5), sentence(random, 5)))
    rows.append(chat_row("c3", "Hi", "Hello", sentence(random, 5), sentence(random, 5)))
    rows.append(chat_row("c4", "Hi", "Hello", sentence(random, 5), sentence(random, 5)))
    _, names = of(rows)
    assert names[0] == names[1]
    assert names[5] == names[6]
    assert len({names[i] for i in (0, 2, 3, 4, 5, 7, 8)}) == 7


def test_no_cluster_takes_the_data_over() -> None:
    random = Random(7)
    base = sentence(random, 40)
    # Each is like its neighbours, the first and the last are not alike.
    texts = [base]
    for _ in range(300):
        texts.append(edited(texts[-1], random, 1))
    _, names = of([text_row(text) for text in texts])
    assert max(names.count(name) for name in set(names)) <= 100


def test_rows_that_differ_in_the_system_turn_alone_stay_together() -> None:
    def row(row_id: str, system: str) -> Example:
        messages = (Message("system", system), Message("user", "Hello"), Message("assistant", "x"))
        return Example(row_id, "data", 1, 1, messages=messages, target="x")

    _, names = of([row("1", "Be brief"), row("2", "Be kind"), text_row("other")])
    assert names[0] == names[1] != names[2]


def test_rows_of_any_length_have_the_sketch_of_their_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Very long rows go another way than short ones."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 2**63, n).astype(np.uint64) for n in (1, 3, 40, 64, 65, 200, 200, 999)]
    rows.append(np.repeat(rows[2], 30))  # the same set, far more often
    values = np.concatenate(rows)
    flat = Flat(values, np.concatenate([[0], np.cumsum([len(row) for row in rows])]))
    expected = sketch.band_keys(flat)
    assert (expected[:, 2] == expected[:, 8]).all()
    assert len(np.unique(expected[:, :8], axis=1).T) == 8
    for block in (1, 64, 199, 1000):
        monkeypatch.setattr(sketch, "_BLOCK", block)
        assert (sketch.band_keys(flat) == expected).all()


LABELLED = [
    ("how do i activate my card", "a"),
    ("hi, how do I activate my card? thanks a lot", "a"),
    ("how do i activate my card when i am abroad", "b"),
    ("do i activate my card", "a"),
    ("so how do i", "a"),
    ("how do i", "a"),
]


def test_short_texts_that_stand_in_others_count_where_labels_agree() -> None:
    random = Random(21)
    rows = [*LABELLED]
    for _ in range(60):
        text = sentence(random, random.randint(5, 9))
        rows.append((text, "c"))
        rows.append((f"{sentence(random, 4)} {text} {sentence(random, 3)}", "c"))
        rows.append((f"{text} {sentence(random, 4)}", "d"))
    examples = [
        Example(f"{i}", "data", i, i, text=text, target=label)
        for i, (text, label) in enumerate(rows)
    ]
    keys = [input_key(e) for e in examples]
    links = {(x.left, x.right) for x in clusters(examples, keys).links if x.method == "contained"}

    def inside(one: str, other: str) -> bool:
        short, long = (re.findall(r"\w+", text.lower()) for text in (one, other))
        if not 5 <= len(short) <= 9 or len(short) >= len(long):
            return False
        share = 0.6 if len(short) == 5 else 0.2
        starts = range(len(long) - len(short) + 1)
        return len(short) >= share * len(long) and any(
            long[i : i + len(short)] == short for i in starts
        )

    near = {(x.left, x.right) for x in clusters(examples, keys).links if x.method == "near"}
    for i, j in combinations(range(len(examples)), 2):
        pair = (min(keys[i], keys[j]), max(keys[i], keys[j]))
        (one, label), (other, other_label) = rows[i], rows[j]
        wanted = (inside(one, other) or inside(other, one)) and label == other_label
        assert (pair in links) == (wanted and pair not in near), (one, other)
    assert len(links) > 40
    # Without labels so few words say nothing.
    bare = [Example(e.row_id, "data", 1, 1, text=e.text) for e in examples]
    assert not [x for x in clusters(bare, keys).links if x.method == "contained"]


@pytest.mark.parametrize(
    "disguised",
    [
        "hоw dо i асtivаtе my nеw саrd",
        "hòw dö i áctivatë my ñew cärd",
        "ho\u0301w do i activa\u0308te my new card",
        "h\u200bow do i acti\u00advate my n\ufeffew card",
        "ｈｏｗ ｄｏ ｉ ａｃｔｉｖａｔｅ ｍｙ ｎｅｗ ｃａｒｄ",
        "hοw dο i αcτiναte my new cαrd",
    ],
)
def test_letters_in_disguise_are_seen_through(disguised: str) -> None:
    found = find(["how do i activate my new card", disguised])
    assert [(p.method, p.similarity) for p in found.pairs] == [("near", 1.0)]


def test_no_two_letters_of_a_script_become_one() -> None:
    for script in ("абвгдежзиклмнопрстуфхцчшщъыьэюя", "αβγδεζηθικλμνξοπρστυφχψω"):
        words = parse(list(script)).flat.values
        assert len(set(words.tolist())) == len(script)


def test_long_texts_of_few_words_are_compared_in_bounded_time() -> None:
    random = Random(22)
    grids = [" ".join(random.choice("0123456789") for _ in range(5_000)) for _ in range(2)]
    start = time.process_time()
    assert same_template(f"x {grids[0]}", grids[1])
    assert time.process_time() - start < 20
    # What differs is found behind a long beginning that is the same, and before such an end.
    same = sentence(random, 900)
    assert same_template(f"{same} order 5 came {same}", f"{same} order 62 came {same}")
    assert not same_template(f"{same} it came {same}", f"{same} it never arrived {same}")


def test_short_texts_with_other_labels_say_other_things() -> None:
    cash = "why can not I take cash out of the atm"
    pairs = [
        ("when should i change my oil", "when should i change my tires"),
        ("someone stole my cards", "someone stole my card"),
        (cash, f"my account says that one is pending: {cash}"),
    ]

    def methods(labels: tuple[str, str]) -> list[str]:
        examples = [
            Example(f"{i}{k}", "data", 1, 1, text=text, target=labels[k])
            for i, pair in enumerate(pairs)
            for k, text in enumerate(pair)
        ]
        links = clusters(examples, [input_key(e) for e in examples]).links
        return sorted(x.method for x in links)

    assert methods(("a", "a")) == ["contained", "near", "near"]
    assert methods(("a", "b")) == ["akin", "akin", "near"]
