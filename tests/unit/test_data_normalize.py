"""Raw rows -> examples: conversations in every spelling, repairs, row ids, what can't be used."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from fettle.data.cleaning.clean import repair
from fettle.data.meaning.detect import Layout
from fettle.data.meaning.normalize import normalize
from fettle.errors import DataError
from fettle.recipe.recipe import DataSection
from fettle.records.rows import Example, Finding, Message, RawRow, SplitRow

TEXT_LABEL = Layout("text_label", "classify", {"text": "text", "label": "label"}, "")
MESSAGES = Layout("messages", "chat", {"messages": "messages"}, "")
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


def run(
    layout: Layout, *fields: Mapping[str, Any], **options: Any
) -> tuple[list[Example], list[Finding], list[SplitRow]]:
    rows = [RawRow("data", i + 1, i + 1, dict(item)) for i, item in enumerate(fields)]
    return normalize(rows, layout, DataSection(path=["data"], **options))


def one(layout: Layout, fields: Mapping[str, Any], **options: Any) -> Example:
    examples, _, lost = run(layout, fields, **options)
    assert lost == []
    return examples[0]


def test_values_become_text() -> None:
    assert one(TEXT_LABEL, {"text": 3.0, "label": True}).text == "3"
    assert one(TEXT_LABEL, {"text": 3.5, "label": True}).target == "true"
    assert one(TEXT_LABEL, {"text": "x", "label": " spam "}).target == "spam"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "", "label": "a"},
        {"text": " \n", "label": "a"},
        {"text": "\x00\x07", "label": "a"},
        {"text": None, "label": "a"},
        {"text": "x", "label": None},
        {"text": "x", "label": "  "},
        {"text": "x"},
    ],
)
def test_empty_rows_go_to_quarantine(fields: Mapping[str, Any]) -> None:
    examples, findings, lost = run(TEXT_LABEL, fields)
    assert examples == []
    assert (lost[0].split, lost[0].reason) == ("quarantine", "empty")
    assert findings[-1].kind == "empty"
    assert findings[-1].severity == "error"


def test_rows_of_another_shape_are_malformed() -> None:
    assert run(TEXT_LABEL, {"other": "x"})[2][0].reason == "malformed_row"


def test_row_ids_tell_copies_apart_and_ignore_the_order_of_rows_and_columns() -> None:
    a, b = {"text": "x", "label": "a"}, {"text": "y", "label": "b"}
    ids = [e.row_id for e in run(TEXT_LABEL, a, b, a)[0]]
    assert len(set(ids)) == 3
    assert all(len(row_id) == 16 and int(row_id, 16) >= 0 for row_id in ids)
    again = [e.row_id for e in run(TEXT_LABEL, b, dict(reversed(a.items())), a)[0]]
    assert again == [ids[1], ids[0], ids[2]]


def test_occurrences_count_over_files() -> None:
    seen: Counter[str] = Counter()
    section = DataSection(path=["data"])
    row = RawRow("one", 1, 1, {"text": "x", "label": "a"})
    first = normalize([row], TEXT_LABEL, section, seen)[0][0]
    second = normalize([row], TEXT_LABEL, section, seen)[0][0]
    assert first.row_id != second.row_id
    assert second.tags == {"occurrence": "2"}


@pytest.mark.parametrize(
    ("text", "cleaned", "kind"),
    [
        ("It\\u2019s fine\\u002c ok", "It’s fine, ok", "encoding_error"),
        ("smile \\ud83d\\ude00!", "smile 😀!", "encoding_error"),
        ("half \ud83d here", "half \ufffd here", "encoding_error"),
        ("Fish &amp; chips &lt;3 &#39;x&#x27;", "Fish & chips <3 'x'", "html_or_url"),
        ("&amp;amp; twice", "& twice", "html_or_url"),
        ("schÃ¶n und grÃ¼n", "schön und grün", "mojibake"),
        ("itâ€™s", "it’s", "mojibake"),
        ("a\x00b\x1b[31mc\x7f", "abc", "control_characters"),
        ("\ufeffstart", "start", "control_characters"),
        ("line\r\nline", "line\nline", None),
        ("naïve café", "naïve café", None),
        ("AT&T; R&D & more \\n C:\\users", "AT&T; R&D & more \\n C:\\users", None),
        ("\\ud83d alone", "\\ud83d alone", None),
        ("tab\tand\nnewline", "tab\tand\nnewline", None),
    ],
)
def test_repairs(text: str, cleaned: str, kind: str | None) -> None:
    fixed, repairs = repair(text, unescape=True)
    assert fixed == cleaned
    assert [name for name, _ in repairs] == ([kind] if kind else [])
    assert repair(fixed, unescape=True) == (fixed, [])


def test_the_text_before_a_repair_is_kept() -> None:
    examples, findings, _ = run(TEXT_LABEL, {"text": "It\\u2019s", "label": "a"})
    assert examples[0].tags == {"before.text": "It\\u2019s"}
    assert [(f.kind, f.severity) for f in findings] == [("encoding_error", "note")]
    assert "\\\\u2019" in findings[0].evidence


def test_answers_about_code_keep_their_escapes() -> None:
    layout = Layout("prompt_completion", "chat", {"prompt": "p", "completion": "c"}, "")
    example = one(layout, {"p": "How do I write &lt;?", "c": "Write \\u003c or &lt;.\x07"})
    assert example.target == "Write \\u003c or &lt;."
    assert example.tags == {"before.completion": "Write \\u003c or &lt;.\x07"}


def test_prompt_and_completion_with_context_and_system() -> None:
    columns = {"prompt": "q", "completion": "a", "context": "c", "system": "s"}
    pair = Layout("prompt_completion", "chat", columns, "")
    fields = {"q": "Who?", "a": "Me.", "c": "A story.", "s": "Be brief."}
    assert one(pair, fields).messages == (
        Message("system", "Be brief."),
        Message("user", "A story.\n\nWho?"),
        Message("assistant", "Me."),
    )
    alpaca = Layout("alpaca", "chat", columns, "")
    assert one(alpaca, {**fields, "s": ""}).messages[0].content == "Who?\n\nA story."
    assert one(alpaca, {**fields, "c": ""}).messages[1].content == "Who?"
    assert one(pair, {**fields, "s": None}, system="Default.").messages[0].content == "Default."


def test_openai_messages_with_all_their_fields() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    layout = Layout("messages", "chat", {"messages": "messages", "tools": "tools"}, "")
    tools = [{"type": "function", "function": {"name": "add"}}, {"name": "sub"}]
    example = one(
        layout,
        {
            "messages": [
                {"role": "developer", "content": "Rules"},
                {"role": "user", "content": [{"type": "text", "text": "1"}, {"text": "+1"}],
                 "name": "bob"},
                {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
                {"role": "tool", "content": "2", "tool_call_id": "c1"},
                {"role": "assistant", "content": None, "function_call": {"name": "sub"}},
                {"role": "function", "name": "sub", "content": "0"},
                {"role": "assistant", "content": "2", "weight": 1},
            ],
            "tools": tools,
        },
    )  # fmt: skip
    assert [turn.role for turn in example.messages] == [
        "developer", "user", "assistant", "tool", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert example.messages[1].content == "1+1"
    assert example.messages[1].name == "bob"
    assert example.messages[2].weight == 0
    assert example.messages[2].tool_calls == (call,)
    assert example.messages[3].tool_call_id == "c1"
    assert example.messages[4].tool_calls == ({"type": "function", "function": {"name": "sub"}},)
    assert example.tools == (tools[0], {"type": "function", "function": {"name": "sub"}})
    assert example.target == "2"


def test_a_tool_call_can_be_the_target() -> None:
    call = {"type": "function", "function": {"name": "add"}}
    example = one(MESSAGES, {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
    assert example.target == '[{"type": "function", "function": {"name": "add"}}]'


def test_sharegpt_and_json_in_a_cell() -> None:
    turns = '[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]'
    assert one(MESSAGES, {"messages": turns}).messages == (
        Message("user", "Hi"), Message("assistant", "Hello"),
    )  # fmt: skip
    layout = Layout("sharegpt", "chat", {"messages": "m"}, "", (), {"system": "assistant"})
    spoken = [{"speaker": "USER", "utterance": "Hi"}, {"speaker": "SYSTEM", "utterance": "Yes"}]
    assert one(layout, {"m": spoken}, system="S").messages[0] == Message("system", "S")
    assert one(layout, {"m": spoken}).target == "Yes"


@pytest.mark.parametrize(
    ("turns", "reason", "evidence"),
    [
        ([USER], "role_order", "no turn of the assistant"),
        ([USER, {**ANSWER, "weight": 0}], "role_order", "no turn of the assistant"),
        ([ANSWER], "role_order", "nothing stands before"),
        ([USER, {"role": "narrator", "content": "x"}], "role_order", "speaker 'narrator'"),
        ([USER, {"role": "assistant", "content": ""}], "empty", "turn 2"),
        ([USER, {"role": "assistant", "content": " "}], "empty", "last answer"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, ANSWER], "role_order", "image_url"),
        ([USER, {**ANSWER, "weight": -1}], "role_order", "weight -1"),
        ([USER, {**ANSWER, "weight": "1"}], "role_order", "no number"),
        ([USER, {**ANSWER, "weight": float("nan")}], "role_order", "weight nan"),
        ([{"role": "user", "content": {"a": 1}}, ANSWER], "role_order", "not text"),
        ([], "empty", "conversation is empty"),
        ("not a list", "role_order", "no list of turns"),
    ],
)
def test_conversations_that_cannot_be_used(turns: Any, reason: str, evidence: str) -> None:
    _, findings, lost = run(MESSAGES, {"messages": turns})
    assert lost[0].reason == reason
    assert evidence in findings[-1].evidence


def test_turns_after_the_last_answer_are_reported() -> None:
    examples, findings, _ = run(MESSAGES, {"messages": [USER, ANSWER, USER]})
    assert len(examples[0].messages) == 2
    assert [f.kind for f in findings] == ["truncated"]


def test_unknown_splits_are_named() -> None:
    columns = {"text": "text", "label": "label", "split": "part"}
    layout = Layout("text_label", "classify", columns, "")
    assert one(layout, {"text": "x", "label": "a", "part": "dev"}).split == "validation"
    assert one(layout, {"text": "x", "label": "a", "part": ""}).split is None
    with pytest.raises(DataError, match="'seven'") as caught:
        run(layout, {"text": "x", "label": "a", "part": "seven"})
    assert caught.value.code == "E0334"
