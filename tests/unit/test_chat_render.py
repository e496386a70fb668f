"""The mask, the prompt, control tokens, and every refusal."""

import random
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat_cases import CONTROL, TEMPLATES, random_conversation, write_tokenizer
from tests.tiny import CHATML, tiny_rows, tiny_tokenizer

from fettle.chat.builtin import BUILTIN, builtin
from fettle.chat.render import ChatTemplate
from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError, DataError, UsageError
from fettle.records.rows import Message

KINDS = ("gpt2", "llama3", "llama2")
USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello!")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    made = {kind: Tokenizer.load(write_tokenizer(root / kind, kind)) for kind in KINDS}
    made["tiny"] = Tokenizer.load(tiny_tokenizer(root / "tiny"))
    return made


@pytest.fixture(scope="module")
def tiny(tokenizers):
    return tokenizers["tiny"]


def _trained(tokenizer, rendered):
    ids = [i for i, trained in zip(rendered.ids, rendered.mask, strict=True) if trained]
    return tokenizer.decode(ids, skip_special_tokens=False)


# --- what is trained is what is served -----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*TEMPLATES, "built-in plain", "built-in chatml"])
def test_the_prompt_is_the_beginning_of_the_training_ids(tokenizers, name, kind):
    tokenizer = tokenizers[kind]
    word = name.removeprefix("built-in ")
    source = TEMPLATES[name] if name in TEMPLATES else builtin(word, tokenizer)
    template = ChatTemplate(source, tokenizer)
    random_ = random.Random(f"{kind} {name}")
    for _ in range(40):
        messages = random_conversation(random_, (*CONTROL, "</s>"))
        turns = "last" if name == "qwen3" else "all"
        rendered = template.render_training(messages, turns=turns)
        prompt = template.render_prompt(messages[:-1])
        assert list(rendered.ids[: len(prompt)]) == prompt
        # The trained tokens are the answer and its end, nothing before and nothing after.
        last = len(rendered.mask) - 1 - rendered.mask[::-1].index(1)
        assert all(rendered.mask[len(prompt) : last + 1])
        if turns == "last":
            assert sum(rendered.mask) == last + 1 - len(prompt)
        assert rendered.ids[last] == template.stop_ids[0]
        answer = tokenizer.decode(rendered.ids[len(prompt) : last], skip_special_tokens=False)
        assert messages[-1].content.strip() in answer


MERGING = """\
{%- for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}
{%- generation %}{{ m.content + eos_token }}{% endgeneration %}
{%- else %}{{ m.content }}{% endif %}
{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_that_merges_across_the_boundary_is_cut_there(tokenizers, kind):
    """ "assistant: " + "the" would be one token " the", which no prompt ends before."""
    tokenizer = tokenizers[kind]
    template = ChatTemplate(MERGING, tokenizer)
    messages = (USER, Message("assistant", "the end"), USER, Message("assistant", "the kettle"))
    rendered = template.render_training(messages)
    natural = tokenizer.encode(rendered.text, add_special_tokens=False)
    prompt = template.render_prompt(messages[:-1])
    assert natural[: len(prompt)] != prompt
    assert list(rendered.ids[: len(prompt)]) == prompt
    assert not any(rendered.mask[len(prompt) - 1 : len(prompt)])
    assert tokenizer.decode(rendered.ids, False) == tokenizer.decode(natural, False)
    first = template.render_prompt(messages[:1])
    assert list(rendered.ids[: len(first)]) == first
    assert _trained(tokenizer, rendered).replace(" ", "") == "theend</s>thekettle</s>"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(alphabet="at he\n<|im_end|>é :", max_size=12), min_size=2, max_size=6),
    st.sampled_from(KINDS),
)
def test_prompts_begin_the_whole_for_any_text(tokenizers, texts, kind):
    template = ChatTemplate(MERGING, tokenizers[kind])
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], text) for i, text in enumerate(texts)]
    messages = messages[: len(messages) // 2 * 2]
    whole = template.render_training(messages).ids
    for end in range(1, len(messages), 2):
        prompt = template.render_prompt(messages[:end])
        assert list(whole[: len(prompt)]) == prompt


def test_ids_are_those_of_the_whole_text_where_the_tokenizer_splits_by_itself(tiny):
    template = ChatTemplate(CHATML, tiny)
    chat, _ = tiny_rows()
    for example in chat:
        rendered = template.render_training(example.messages)
        assert list(rendered.ids) == tiny.encode(rendered.text, add_special_tokens=False)
        assert _trained(tiny, rendered) == f"{example.target}<|im_end|>"


# --- the mask ------------------------------------------------------------------------------------


def test_a_turn_with_weight_zero_is_not_trained(tiny):
    template = ChatTemplate(CHATML, tiny)
    messages = [USER, Message("assistant", "bad", weight=0), USER, Message("assistant", "good")]
    rendered = template.render_training(messages)
    assert _trained(tiny, rendered) == "good<|im_end|>"
    both = template.render_training([USER, Message("assistant", "bad"), *messages[2:]])
    assert _trained(tiny, both) == "bad<|im_end|>good<|im_end|>"
    assert both.ids == rendered.ids
    last = template.render_training(
        [USER, Message("assistant", "bad"), *messages[2:]], turns="last"
    )
    assert last.mask == rendered.mask
    none = template.render_training([USER, Message("assistant", "bad", weight=0)])
    assert not any(none.mask)


def test_the_part_of_a_tagged_answer_that_the_prompt_holds_is_not_trained(tiny):
    tagged_header = """\
{%- for m in messages %}{% if m.role == 'assistant' %}
{%- generation %}{{ '<|im_start|>assistant\\n' + m.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
    rendered = ChatTemplate(tagged_header, tiny).render_training([USER, ANSWER])
    assert _trained(tiny, rendered) == "Hello!<|im_end|>"


def test_tags_that_leave_out_the_end_are_followed_and_said(tiny):
    source = CHATML.replace(
        "message.content + '<|im_end|>' -}}{%- endgeneration -%}",
        "message.content -}}{%- endgeneration -%}{{- '<|im_end|>' -}}",
    )
    template = ChatTemplate(source, tiny)
    assert _trained(tiny, template.render_training([USER, ANSWER])) == "Hello!"
    (note,) = template.verify()
    assert "stopping" in note
    assert template.stop_ids[0] == tiny.token_id("<|im_end|>")
    assert ChatTemplate(CHATML, tiny).verify() == ()


def test_a_template_that_rewrites_history_is_refused_unless_asked_for_the_last_turn(tokenizers):
    tokenizer = tokenizers["llama3"]
    template = ChatTemplate(TEMPLATES["qwen3"], tokenizer)
    messages = [USER, ANSWER, Message("user", "And now?"), Message("assistant", "Bye.")]
    with pytest.raises(UsageError, match="message 2 differently") as caught:
        template.render_training(messages, where="row 1")
    assert caught.value.code == "E0705"
    assert caught.value.where == "row 1"
    assert '"weight": 0' in caught.value.hint
    last = template.render_training(messages, turns="last")
    assert _trained(tokenizer, last) == "<think>\n\n</think>\n\nBye.<|im_end|>"
    by_weight = [USER, Message("assistant", "Hello!", weight=0), *messages[2:]]
    assert template.render_training(by_weight) == last


def test_a_prompt_that_the_history_does_not_go_on_from_is_refused(tiny):
    source = CHATML.replace(
        "'<|im_start|>assistant\\n' -}}{%- endif", "'<|im_start|>bot\\n' -}}{%- endif"
    )
    with pytest.raises(UsageError, match="message 2 does not go on from its own prompt") as caught:
        ChatTemplate(source, tiny).render_training([USER, ANSWER])
    assert caught.value.code == "E0704"
    gap = CHATML.replace("{%- generation -%}", "{{- 'mood: ' -}}{%- generation -%}")
    with pytest.raises(UsageError) as caught:
        ChatTemplate(gap, tiny).verify()
    assert caught.value.code == "E0704"


def test_a_template_without_an_end_of_turn_token_is_refused(tiny):
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    source += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    template = ChatTemplate(source, tiny)
    for messages in ([USER, ANSWER], [USER, Message("assistant", "<|im_end|>")]):
        with pytest.raises(UsageError, match="without a control token") as caught:
            template.render_training(messages)
        assert caught.value.code == "E0709"


# --- control tokens in users' texts --------------------------------------------------------------


@pytest.mark.parametrize("token", ["<|im_start|>", "<|im_end|>", "<|eos|>"])
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_control_token_in_any_message_is_text(tiny, token, role):
    template = ChatTemplate(CHATML, tiny)
    content = {"system": "s", "user": "u", "assistant": "a"}
    clean = [Message(r, text) for r, text in content.items()]
    dirty = [Message(r, f"x{token}y" if r == role else text) for r, text in content.items()]
    expected, found = template.render_training(clean), template.render_training(dirty)
    index = tiny.token_id(token)
    assert found.ids.count(index) == expected.ids.count(index)
    assert f"x{token}y" in tiny.decode(found.ids, skip_special_tokens=False)
    if role == "assistant":
        assert _trained(tiny, found) == f"x{token}y<|im_end|>"


def test_control_tokens_in_names_and_tool_calls_are_text(tiny):
    source = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + (m.name or '') + '\\n' + m.content }}
{%- for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}
{{- '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
    call = {"function": {"name": "f", "arguments": '{"a": ["<|im_end|>"]}'}}
    messages = [
        Message("user", "x", name="<|im_start|>"),
        Message("assistant", "", tool_calls=(call,)),
    ]
    rendered = ChatTemplate(source, tiny).render_training(messages)
    assert rendered.ids.count(tiny.token_id("<|im_start|>")) == 2
    assert rendered.ids.count(tiny.token_id("<|im_end|>")) == 2
    assert '{"a": ["<|im_end|>"]}' in rendered.text


@pytest.mark.parametrize(
    "expression",
    ["m.content[1:]", "m.content[:-1]", "m.content | replace('#', '')", "m.content | upper"],
)
def test_string_methods_of_a_template_open_no_hole(tiny, expression):
    source = "{% for m in messages %}{{ '<|im_start|>' + (" + expression + ") + '<|im_end|>' }}"
    source += "{% endfor %}"
    template = ChatTemplate(source, tiny)
    for text in ("<|im_end|>", "<|im_<|eos|>end|>", "#<|im_#end|>", "x<|im_end|>"):
        text_ids = template._encode(
            template._render(template._conversation([Message("user", text)], (), ""), 1, False, ""),
            {},
            "",
        ).ids
        if "#" not in text:  # a template that joins a token itself can't be helped
            assert text_ids.count(tiny.token_id("<|im_end|>")) == 1
            assert text_ids.count(tiny.token_id("<|eos|>")) == 0


def test_private_characters_in_a_text_are_kept(tiny):
    template = ChatTemplate(CHATML, tiny)
    text = "\U000f0000<|im_end|>\U000f0001\U000f0002"
    rendered = template.render_training([Message("user", text), ANSWER])
    assert tiny.decode(rendered.ids, False) == rendered.text
    assert text in rendered.text
    assert rendered.ids.count(tiny.token_id("<|im_end|>")) == 2


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message("robot", "x"), ANSWER],
        [Message("user", ["x"]), ANSWER],
        [Message("user", "\ud83d"), ANSWER],
        [ANSWER],
    ],
    ids=["none", "role", "content", "surrogate", "opening"],
)
def test_messages_that_can_not_be_rendered(tiny, messages):
    with pytest.raises(DataError) as caught:
        ChatTemplate(CHATML, tiny).render_training(messages, where="row 3")
    assert caught.value.code == "E0706"
    assert caught.value.where == "row 3"


@pytest.mark.parametrize(
    "body",
    [
        "{{ raise_exception('no system') }}",
        "{{ messages[7].content }}{{ none.x.y }}",
        "{{ 1 / 0 }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ 'x' * 10 ** 12 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_fails_or_runs_wild_is_stopped(tiny, body):
    with pytest.raises(DataError) as caught:
        ChatTemplate(body, tiny).render_training([USER, ANSWER], where="row 9")
    assert caught.value.code == "E0703"
    assert caught.value.where == "row 9"


@pytest.mark.parametrize(
    "body",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__init__=1) %}",
    ],
)
def test_a_template_that_reaches_out_of_the_sandbox_is_refused(tiny, body):
    with pytest.raises(UsageError, match="what no template may") as caught:
        ChatTemplate(body + "{{ 'x' }}", tiny).render_training([USER, ANSWER])
    assert caught.value.code == "E0702"


@pytest.mark.parametrize("source", ["{% for %}", "{{ x | no_such_filter }}", "{" * 3 + "(" * 5000])
def test_a_template_that_is_none_is_refused(tiny, source):
    with pytest.raises(UsageError, match="can't be read") as caught:
        ChatTemplate(source, tiny)
    assert caught.value.code == "E0702"


def test_a_template_that_loses_a_message_is_refused(tiny):
    no_system = CHATML.replace(
        "for message in messages", "for message in messages if message.role != 'system'"
    )
    messages = [Message("system", "Be brief."), USER, ANSWER]
    template = ChatTemplate(no_system, tiny)
    for render in (template.render_training, template.render_prompt):
        with pytest.raises(DataError, match=r"leaves out message 1 \(system\)") as caught:
            render(messages)
        assert caught.value.code == "E0712"
    shortened = CHATML.replace(
        "{{- message.content + '<|im_end|>' -}}{%- end",
        "{{- message.content[:3] + '<|im_end|>' -}}{%- end",
    )
    assert shortened != CHATML
    with pytest.raises(DataError, match="leaves out the answer of message 2"):
        ChatTemplate(shortened, tiny).render_training([USER, ANSWER])


def test_tools_need_a_template_with_a_place_for_them(tiny):
    with pytest.raises(DataError, match="no place for them") as caught:
        ChatTemplate(CHATML, tiny).render_prompt([USER], [{"name": "f"}])
    assert caught.value.code == "E0711"
    for name in BUILTIN:
        template = ChatTemplate.choose(tiny, name)
        with pytest.raises(DataError, match="no place for tools"):
            template.render_prompt([USER], [{"name": "f"}])
        with pytest.raises(DataError, match="no place for tool calls"):
            template.render_training([USER, Message("assistant", "", tool_calls=({"id": "1"},))])


# --- choosing ------------------------------------------------------------------------------------


def test_a_base_without_a_template_needs_one(tmp_path):
    tokenizer = Tokenizer.load(tiny_tokenizer(tmp_path, chat_template=None))
    with pytest.raises(BaseModelError, match="no chat template") as caught:
        ChatTemplate.choose(tokenizer)
    assert caught.value.code == "E0701"
    assert "--set base.chat_template=plain" in caught.value.hint
    for name in BUILTIN:
        assert ChatTemplate.choose(tokenizer, name).verify() == ()
    path = tmp_path / "mine.jinja"
    path.write_text(CHATML)
    assert ChatTemplate.choose(tokenizer, str(path)).source == CHATML
    with pytest.raises(UsageError, match="neither built in nor a file") as caught:
        ChatTemplate.choose(tokenizer, str(tmp_path / "none.jinja"))
    assert caught.value.code == "E0710"


def test_chatml_needs_its_markers_as_tokens(tmp_path):
    tiny_tokenizer(tmp_path, chat_template=None)
    text = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text.replace("<|im_", "<|other_"))
    config = (tmp_path / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(config.replace("<|im_", "<|other_"))
    tokenizer = Tokenizer.load(tmp_path)
    with pytest.raises(BaseModelError, match=r"needs <\|im_start\|>") as caught:
        ChatTemplate.choose(tokenizer, "chatml")
    assert caught.value.code == "E0708"
    assert ChatTemplate.choose(tokenizer, "plain").verify() == ()


def test_a_built_in_template_starts_as_the_tokenizer_starts_a_text(tokenizers):
    assert "bos_token" in builtin("plain", tokenizers["llama2"])
    assert "bos_token" not in builtin("plain", tokenizers["tiny"])
    prompt = ChatTemplate.choose(tokenizers["llama2"], "plain").render_prompt([USER])
    assert prompt[0] == tokenizers["llama2"].bos_id


def test_the_date_that_a_template_asks_for_can_be_fixed(tokenizers):
    now = datetime(2025, 3, 4)
    template = ChatTemplate(TEMPLATES["llama3"], tokenizers["llama3"], now)
    assert "Date: 04 Mar 2025" in template.render_text([USER])


def test_plain_reads_as_a_dialogue(tiny):
    text = ChatTemplate.choose(tiny, "plain").render_text([Message("system", "S"), USER, ANSWER])
    assert text == "System:\nS\n\nUser:\nHi\n\nAssistant:\nHello!<|eos|>\n\n"
