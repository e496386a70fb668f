"""What stands in tool calls and tools is looked at and masked like what is said."""

import json
from pathlib import Path
from typing import Any

import pytest

import fettle
from fettle.data.calls import call_texts
from fettle.data.cleaning.masking import mask_examples
from fettle.records.rows import Example, Message
from fettle.records.run_directory import read_jsonl

KEY = "AKIA" + "Q3EGRX7WZLT4UPF2"
INNER = {"to": ["ann.lee@corp-mail.com"], "body": "Dear\nbob.ray@corp-mail.com", "n": 3}


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def chat(arguments: Any, tools: tuple[dict[str, Any], ...] = ()) -> Example:
    answer = Message("assistant", "", tool_calls=(call(arguments),))
    turns = (Message("user", "Write to Ann"), answer)
    return Example("r", "data", 1, 1, messages=turns, target="{}", tools=tools)


@pytest.mark.parametrize("arguments", [INNER, json.dumps(INNER), json.dumps(INNER, indent=2)])
def test_arguments_are_masked_as_objects_and_as_json_in_a_text(arguments: Any) -> None:
    found, findings, masked = mask_examples([chat(arguments)], {"personal_data": "fix"})
    after = found[0].messages[1].tool_calls[0]
    inside = after["function"]["arguments"]
    inside = json.loads(inside) if isinstance(arguments, str) else inside
    assert inside == {"to": ["[EMAIL]"], "body": "Dear\n[EMAIL]", "n": 3}
    assert after == {**call(after["function"]["arguments"])}
    assert found[0].target == json.dumps([after])
    assert findings[0].evidence.startswith("2 ")
    assert masked == {"r": ("personal_data",)}


def test_tools_are_masked_and_what_holds_nothing_keeps_its_form() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": f"use {KEY}"}}
    plain = json.dumps({"a": 1}, indent=3)
    found, _, _ = mask_examples([chat(plain, (tool,))], {"secret": "fix"})
    assert KEY not in str(found[0].tools)
    assert found[0].messages[1].tool_calls == (call(plain),)
    assert [text for _, text in call_texts(chat("not { json"))] == ["not { json"]


def test_a_check_finds_them_and_a_copy_is_masked(tmp_path: Path) -> None:
    lines = []
    for i in range(40):
        arguments = json.dumps(INNER if i == 4 else {"order": i})
        tool = {"name": "f", "description": f"key {KEY}" if i == 5 else f"looks up order {i}"}
        turns = [
            {"role": "user", "content": f"Where is order {i}?"},
            {"role": "assistant", "content": "", "tool_calls": [call(arguments)]},
        ]
        lines.append(json.dumps({"messages": turns, "tools": [tool]}))
    source = tmp_path / "chat.jsonl"
    source.write_text("\n".join(lines))
    fettle.check(source, out=tmp_path / "out", task="chat")
    found = {
        (f["record"], f["kind"])
        for f in read_jsonl(tmp_path / "out" / "findings.jsonl")
        if f["kind"] in ("personal_data", "secret")
    }
    assert found == {(5, "personal_data"), (6, "secret")}
    policies = ["data.policies.personal_data=fix", "data.policies.secret=fix"]
    fettle.check(
        source, out=tmp_path / "out", fix=tmp_path / "clean", task="chat", settings=policies
    )
    clean = (tmp_path / "clean" / "chat.jsonl").read_text().splitlines()
    assert [i for i, line in enumerate(clean) if line != lines[i]] == [4, 5]
    inside = json.loads(clean[4])["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(inside) == {"to": ["[EMAIL]"], "body": "Dear\n[EMAIL]", "n": 3}
    assert KEY not in clean[5]
    rows = (tmp_path / "out" / "rows.jsonl").read_text()
    assert "corp-mail" not in rows
    assert KEY not in rows
