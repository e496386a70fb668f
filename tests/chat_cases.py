"""Tokenizers of the three common kinds and chat templates of the common families, for tests.

The templates are written from what the families' templates do; none is a copy.
"""

import json
import random
import string
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from fettle.records.rows import Message

CONTROL = (
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]",
)  # fmt: skip
ORDINARY_ADDED = ("<think>", "</think>")
"""Added to the vocabulary, but not special: a model writes them itself."""

CORPUS = [
    "The kettle makes a noise when it boils.\n\nAssistant:\nTighten the screws.\n",
    "User: What can I do?  It is too hot, isn't it?\r\n\r\n  1. Switch it off; 2. wait.",
    "Käse, naïve, Straße, 東京, 안녕하세요, привет, مرحبا, 👍🏽 and   many   spaces\t\ttabs",
    "system user assistant model Today Date: 01 Jan 2025 \n\n\n def f(x):\n    return x * 2",
] * 4  # fmt: skip
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_tokenizer(directory: Path, kind: str, chat_template: str | None = None) -> Path:
    """A trained tokenizer: "gpt2" or "llama3" (byte-level), or "llama2" (SentencePiece-like)."""
    directory.mkdir(parents=True, exist_ok=True)
    backend = _llama2() if kind == "llama2" else _byte_level(kind)
    backend.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    backend.add_tokens([AddedToken(token, normalized=False) for token in ORDINARY_ADDED])
    if kind == "llama3":
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    backend.save(str(directory / "tokenizer.json"))
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    if kind == "llama2":
        config["unk_token"] = "<unk>"
    if chat_template is not None:
        config["chat_template"] = chat_template
    (directory / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return directory


def _byte_level(kind: str) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    if kind == "gpt2":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_LLAMA3), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def _llama2() -> Tokenizer:
    """By hand: pieces with ▁, no pre-tokenizer (merges cross words), bytes for what is unknown."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *string.ascii_letters, *string.digits, *string.punctuation]
    merges = [
        ("t", "h"), ("▁", "th"), ("▁th", "e"), ("e", "r"), ("▁", "a"), ("i", "n"), ("▁", "▁"),
        ("s", "t"), ("a", "n"), ("an", "t"), ("u", "s"), ("us", "er"), ("o", "n"), ("▁", "s"),
        ("[", "/"), (":", "▁"), (".", "▁"), ("e", "▁"),
    ]  # fmt: skip
    pieces += [left + right for left, right in merges]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return backend


# --- templates ---------------------------------------------------------------------------------

CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{% else %}
{{ message['content'] + '<|im_end|>' }}
{%- endif %}
{{ '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nKnowledge ends: December 2023\\n' }}
{{- 'Date: ' + strftime_now('%d %b %Y') + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
    {{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

LLAMA3_TAGGED = LLAMA3.replace(
    "    {{- message.content | trim + '<|eot_id|>' }}\n",
    """\
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- message.content | trim + '<|eot_id|>' }}
    {%- endif %}
""",
)

QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == 'user' %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or reasoning) %}
            {{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Roles have to take turns: user, assistant, user, assistant') }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else '') }}
    {{- message['content'] | trim }}
    {{- '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system is defined %}
            {{- '[INST] ' + system + '\\n\\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported after the first') }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL_TAGGED = MISTRAL.replace(
    "{{- ' ' + message['content'] | trim + eos_token }}",
    "{%- generation %}{{- ' ' + message['content'] | trim + eos_token }}{% endgeneration %}",
)

TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "llama3_tagged": LLAMA3_TAGGED,
    "qwen3": QWEN3,
    "gemma3": GEMMA3,
    "mistral": MISTRAL,
    "mistral_tagged": MISTRAL_TAGGED,
}

# --- conversations -----------------------------------------------------------------------------

_WORDS = (
    "the", "kettle", "Straße", "東京", "안녕", "привет", "👍🏽", "isn't", "2025", "x*y", "...",
    "\n", "\n\n", "  ", "\t", "e\u0301", "\u200b", "[1]", "{{ x }}", "{% if %}", "<b>", "&amp;",
    "…",
)  # fmt: skip


def random_text(random_: random.Random, extra: tuple[str, ...] = ()) -> str:
    """Words of many scripts, with spaces and newlines at odd places, never blank."""
    words = [random_.choice(_WORDS + extra) for _ in range(random_.randint(1, 8))]
    words.insert(random_.randrange(len(words) + 1), "word")
    edge = ("", "", "", " ", "\n", "  \n")
    return random_.choice(edge) + random_.choice((" ", "")).join(words) + random_.choice(edge)


def random_conversation(random_: random.Random, extra: tuple[str, ...] = ()) -> tuple[Message, ...]:
    """A system message or none, then 1 to 4 questions with answers."""
    messages = []
    if random_.random() < 0.5:
        messages.append(Message("system", random_text(random_, extra)))
    for _ in range(random_.randint(1, 4)):
        messages.append(Message("user", random_text(random_, extra)))
        messages.append(Message("assistant", random_text(random_, extra)))
    return tuple(messages)
