"""Examples for a person to look at: what is trained is marked, nothing harms a terminal."""

from fettle.data.preview import MAX_SHOWN, preview_rows
from fettle.records.rows import Example, Message


def test_texts_with_and_without_a_target() -> None:
    rows = [
        Example(str(i), "x.csv", i, i + 1 if i else None, text="a\n text\x1b[2J", target="label")
        for i in range(4)
    ]
    shown = preview_rows(rows).split("\n\n")
    assert len(shown) == 3
    assert shown[0] == "example 1, x.csv:record 0\na text[2J -> [[label]]"
    assert shown[1].startswith("example 2, x.csv:2\n")
    plain = preview_rows([Example("1", "x", 1, 1, text="w" * 1000)])
    assert plain.endswith("w…]]")
    assert len(plain.splitlines()[1]) == MAX_SHOWN + 4


def test_turns_of_a_conversation() -> None:
    turns = (
        Message("system", "Be short."),
        Message("user", "Hi"),
        Message("assistant", "no", weight=0.0),
        Message("user", "And now?"),
        Message("assistant", "Yes."),
    )
    assert preview_rows([Example("1", "x", 1, 7, messages=turns, target="Yes.")]) == (
        "example 1, x:7\nsystem: Be short.\nuser: Hi\nassistant: no\nuser: And now?\n"
        "assistant: [[Yes.]]"
    )
