"""Chat templates for a base that brings none.

In: the name of a template, a tokenizer. Out: Jinja source, which stock transformers renders
the same way. Must not know: how templates are rendered.
"""

from collections.abc import Mapping
from typing import Final

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError

NO_TOOLS: Final = """\
{%- if tools %}{{ raise_exception('this built-in template has no place for tools') }}{% endif -%}
"""
PLAIN: Final = (
    NO_TOOLS
    + """\
{%- set names = {'system': 'System', 'developer': 'System', 'user': 'User', 'tool': 'Tool'} -%}
{%- for message in messages -%}
{%- if message.tool_calls -%}
{{- raise_exception('this built-in template has no place for tool calls') -}}
{%- endif -%}
{%- if message.role == 'assistant' -%}
{{- 'Assistant:\\n' -}}
{%- generation -%}{{- message.content + eos_token -}}{%- endgeneration -%}
{{- '\\n\\n' -}}
{%- else -%}
{{- names[message.role] + ':\\n' + message.content + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:\\n' -}}{%- endif -%}
"""
)
CHATML: Final = (
    NO_TOOLS
    + """\
{%- for message in messages -%}
{%- if message.tool_calls -%}
{{- raise_exception('this built-in template has no place for tool calls') -}}
{%- endif -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message.content + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)
CHATML_TOKENS: Final = ("<|im_start|>", "<|im_end|>")
BUILTIN: Final[Mapping[str, str]] = {"plain": PLAIN, "chatml": CHATML}
"""Templates for a base that brings none."""


def builtin(name: str, tokenizer: Tokenizer) -> str:
    """Source of a built-in template, fit for a tokenizer.

    Args:
        name: a key of BUILTIN.
        tokenizer: gives the markers, and says whether a text starts with its bos token.

    Raises:
        BaseModelError: E0708, the tokenizer lacks a token that the template needs.
    """
    needed = CHATML_TOKENS if name == "chatml" else (tokenizer.eos_token,)
    # As ordinary text, a marker could not be told from a user's, and would not end generation.
    if any(token not in tokenizer.added_tokens for token in needed):
        names = " and ".join(token or "an eos token" for token in needed)
        other = "plain" if name == "chatml" else "FILE"
        raise BaseModelError(
            "E0708",
            f"the template {name} needs {names}, which this base's tokenizer does not have",
            hint=f"use `--set base.chat_template={other}`",
        )
    return ("{{- bos_token -}}\n" if tokenizer.adds_bos else "") + BUILTIN[name]
