"""What a person sees before training."""

import pytest
import rich.text
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import tiny_rows, tiny_tokenizer

from fettle.chat.preview import MAX_SHOWN, mark_trained, preview_chat
from fettle.chat.render import ChatTemplate, Rendered
from fettle.chat.tokenizer import Tokenizer
from fettle.data.sensitive import redact
from fettle.records.rows import Message


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return ChatTemplate.choose(Tokenizer.load(tiny_tokenizer(tmp_path_factory.mktemp("tiny"))))


def test_three_examples_with_the_trained_part_marked(template):
    chat, _ = tiny_rows()
    shown = preview_chat(chat, template)
    assert shown.count("[[") == shown.count("]]") == 3
    assert f"[[{chat[0].target}<|im_end|>]]" in shown
    assert shown.startswith("example 1, chat.jsonl:1: ")
    assert len(preview_chat(chat, template, count=1)) < len(shown)


def test_markup_shows_the_same_text_in_colour(template):
    chat, _ = tiny_rows()
    text = rich.text.Text.from_markup(preview_chat(chat, template, markup=True))
    plain = preview_chat(chat, template)
    assert text.plain == plain.replace("[[", "").replace("]]", "")
    styled = [text.plain[span.start : span.end] for span in text.spans]
    assert styled == [f"{example.target}<|im_end|>" for example in chat[:3]]


@settings(deadline=None)
@given(st.text(alphabet="\\[]a/ b#=", max_size=30), st.text(alphabet="\\[]a/ b#=", max_size=30))
def test_brackets_in_a_text_are_never_markup(before, after):
    whole = before + after
    rendered = Rendered(whole + ".", (), (), ((len(before), len(whole)),))
    shown = rich.text.Text.from_markup(mark_trained(rendered, markup=True))
    assert shown.plain == whole + "."


def test_terminal_escapes_are_spelled_out(template):
    messages = [Message("user", "\x1b[2J\x9b\x07"), Message("assistant", "ok\r")]
    shown = mark_trained(template.render_training(messages))
    assert "\\x1b[2J\\x9b\\x07" in shown
    assert shown.isprintable() or set(filter(lambda c: not c.isprintable(), shown)) == {"\n"}


def test_a_long_part_is_shortened_and_says_so(template):
    messages = [Message("user", "x" * 5_000), Message("assistant", "y")]
    shown = mark_trained(template.render_training(messages))
    assert len(shown) < MAX_SHOWN + 200
    assert "characters) …" in shown


def test_what_may_not_be_shown_is_taken_out_before_a_part_is_shortened(template):
    # The cut would fall into the address, and half of it would not be known as one.
    text = "x" * (MAX_SHOWN // 2 - 30) + " ann.lee@example.com " + "y" * 2 * MAX_SHOWN
    messages = [Message("user", text), Message("assistant", "to bob@example.com")]
    rendered = template.render_training(messages)
    shown = mark_trained(rendered, redact=redact)
    assert "characters) …" in shown
    assert "ann" not in shown
    assert "bob" not in shown
    assert shown.count("[EMAIL]") == 2
    assert "ann.lee" in mark_trained(rendered)
