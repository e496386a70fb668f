"""Text that speaks to the model instead of about its matter.

In: examples. Out: findings. Must not know: models.

Looked for in what the model is given (texts, prompts, tool results), not in answers. Customers may
well write "ignore my previous message" or "how do I enter developer mode on my phone": what counts
are sentences about instructions, prompts and rules, and such as address a model.
"""

import re
from collections.abc import Sequence
from typing import Final

from fettle.data.check.places import shown, texts
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Finding

_WHICH = (
    r"(?:(?:all|any|every|each|the|your|of|these|those|its|previous|prior|above|earlier|preceding"
    r"|initial|original|existing|current|other|former|past|system|safety|prompt|given|programmed"
    r"|content)\s+){1,6}"
)
_ORDERS = r"(?:instructions?|directions?|directives?|guidelines?|prompts?|programming)\b"
_WHAT = (
    r"(?:instructions?|directions?|directives?|guidelines?|rules|prompts?|commands?|programming"
    r"|training|restrictions?|constraints?|filters?|polic(?:y|ies))\b"
)
# Of these a customer speaks too, unless they are the model's, or were said before.
_THEIRS = (
    r"(?=(?:\w+\s+){0,5}?(?:your|its|previous|prior|above|earlier|preceding|initial|original|former"
    r"|past|system|safety|prompt|given|programmed|content)\s)"
)
_ALL = r"(?:all|any|every)\s+(?:of\s+)?(?:(?:the|these|those)\s+)?"
_MODEL = (
    r"(?:ai|a\.i\.|llms?|(?:large\s+)?language\s+models?|chatbots?"
    r"|ai\s+(?:assistants?|models?|systems?))"
)
_SHOW = (
    r"(?:reveal|print|show|display|output|repeat|leak|tell\s+me|give\s+me|expose|dump|share"
    r"|what\s+(?:is|are|was|were))\s+(?:me\s+)?(?:(?:all|of|the|full|exact|entire|complete)\s+)*"
)
_SOURCES: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    # One of the words stands in the lower case of every text that the pattern finds.
    (("instruct", "direct", "guideline", "rule", "prompt", "command", "programming", "training",
      "restrict", "constraint", "filter", "polic"),
     r"\b(?:ignore|disregard|forget|override|bypass|neglect|skip|discard|violate)\s+(?:about\s+)?"
     r"(?:" + _THEIRS + _WHICH + _WHAT
     + r")|\b(?:ignore|disregard|forget|override|bypass|neglect|discard)\s+(?:about\s+)?"
     + _WHICH + _ORDERS
     + r"|\b(?:ignore|disregard)\s+" + _ALL + r"(?:rules|restrictions|constraints|policies)\b"),
    (("instruct", "direct", "guideline", "rule", "prompt", "command"),
     r"\b(?:do\s+not|don['’]?t|stop|never|no\s+longer)\s+(?:follow|obey|comply\s+with|listen\s+to"
     r"|following|obeying)\s+" + _WHICH + _WHAT),
    (("everything", "anything", "forget all", "ignore all"),
     r"\b(?:forget|ignore|disregard)\s+(?:everything|all|anything)\s+(?:that\s+)?(?:you\s+(?:were"
     r"|have\s+been|know|learned)|above|before|said\s+(?:above|before)|prior|previously)"),
    (("above", "before"),
     r"\b(?:ignore|disregard)\s+(?:the\s+)?(?:text|prompt|content|context)\s+(?:above|before)"),
    (("you are now", "you are no longer"),
     r"\byou\s+are\s+(?:now|no\s+longer)\s+(?:\w+\s+){0,3}?(?:(?-i:DAN)\b|" + _MODEL + r"\b"
     r"|assistant"
     r"|jailbroken|unrestricted|uncensored|unfiltered|in\s+developer\s+mode)"),
    (("anything now", "jailbr"),
     r"\bdo\s+anything\s+now\b|\bjailbr(?:eak|oken)\s+(?:mode|prompt|the\s+(?:model|ai))"),
    (("prompt", "instruct", "your initial", "your hidden", "your system"),
     r"\b" + _SHOW + r"your\s+(?:own\s+)?(?:system|hidden|initial|original|secret|internal)\s+"
     r"(?:system\s+)?(?:prompts?|instructions?|messages?|rules|guidelines)"
     r"|\b(?:reveal|print|leak|expose|dump|repeat)\s+(?:me\s+)?(?:the\s+)?(?:system|hidden|secret|initial)\s+prompt"),
    (("above",),
     r"\brepeat\s+(?:(?:all|everything|verbatim|the|text|words|content|sentences?)\s+)*above\b.{0,30}"
     r"\b(?:starting|beginning|verbatim|word\s+for\s+word|in\s+full)"),
    (("you have no", "you are not bound", "you are free", "you are unrestricted", "you don",
      "you do not",
      "you had no"),
     r"\b(?:pretend|imagine|act\s+as\s+if|assume)\s+(?:that\s+)?you\s+(?:have\s+no|are\s+(?:not\s+bound"
     r"|free\s+(?:of|from)|unrestricted)|don['’]?t\s+have|do\s+not\s+have|had\s+no)\s+(?:any\s+)?(?:by\s+)?"
     r"(?:\w+\s+)?(?:restrictions?|rules|guidelines|limits|limitations|filters?|polic(?:y|ies))"),
    (("from now on",),
     r"\bfrom\s+now\s+on,?\s+(?:you\s+are\s+(?:an?|no|not|going|free|" + _MODEL + r"|(?-i:DAN))\b"
     r"|(?:(?:only|always|never)\s+)?(?:answer|respond|reply|act|speak|behave|pretend|obey|output)\b"
     r"|you\s+(?:will|must|should|shall|can|are\s+to)\s+(?:(?:only|always|never|not|just)\s+)?"
     r"(?:answer|respond|reply|act|speak|behave|pretend|obey|output|ignore|follow|say|write|talk"
     r"|refuse|classify|comply|roleplay|be\s+(?:an?|my|called|known|free))\b)"),
    ((" mode",),
     r"\b(?:developer|god|admin|debug|dan|unrestricted|sudo)\s+mode\b.{0,40}\b(?:bypass|filters?"
     r"|restrictions?|unfiltered|uncensored|no\s+limits?|without)"),
    (("bypass",),
     r"\bbypass\s+(?:(?:all|any)\s+(?:of\s+)?)?(?:your|its|the\s+(?:model|ai|assistant|content|safety)(?:['’]s)?"
     r"|content|safety)\s+(?:\w+\s+)?(?:filters?|restrictions?|safety|guardrails?|safeguards)"
     r"|\bbypass\s+(?:your|all|the)\s+(?:safety|guardrails?|safeguards|content\s+filters?)"),
    (("system",),
     r"(?:\b(?-i:SYSTEM)|(?:^|[\n.!?\]]\s{0,9}|\[)system)(?:\s+(?:override|message|prompt|update|note"
     r"|command))?\s*\]?\s*:\s*(?:you|the\s+(?:user|assistant|ai|model|above|previous|following)|ignore"
     r"|new|always|from|approve|now)\b"
     r"|\[\s*system\s+(?:override|message|prompt|update|command)\s*\]|\[system\]\(#"),
    (("new instruction", "new rule", "new task", "new system"),
     r"(?:^|[\n.!?>\]]\s{0,9}|\b(?:your|with)\s+)new\s+(?:instructions?|rules|task|system\s+prompt)\s*:"),
    (("attention", "note to", "dear", "hey", "hello", "important"),
     r"\b(?:attention|note\s+to|dear|hey|hello|important\s+for)\s+(?:the\s+|any\s+|all\s+)?"
     + _MODEL + r"\b\s*[:,!]"),
    (("if you are", "if you're", "if you’re"),
     r"\bif\s+you(?:['’]re|\s+are)\s+(?:an?\s+)?" + _MODEL + r"\b.{0,30}\b(?:reply|respond|say"
     r"|include"
     r"|write|add|answer|output|ignore|classify|give|mention|insert|start)"),
    (("hacked", "pwned", "jailbroken"),
     r"\b(?:output|print|say|respond\s+with|reply\s+with)\s+(?:only\s+)?(?:the\s+word\s+)?[\"'“]?"
     r"(?:hacked|pwned|jailbroken)\b"),
    (("instruc", "instrucc", "consignes", "règles", "reglas", "indicac", "istruz", "regole"),
     r"\bignor(?:ez|e)\s+(?:toutes\s+)?(?:les|tes|vos)\s+(?:instructions|consignes|règles)"
     r"|\b(?:ignora|ignore|olvida|olvide|ignorar)\s+(?:todas\s+|todos\s+|as\s+)*(?:las|tus|sus|los|as|suas)"
     r"\s+(?:instrucciones|instruções|reglas|indicaciones)"
     r"|\b(?:ignora|dimentica)\s+(?:tutte\s+)?(?:le|tue)\s+(?:tue\s+)?(?:istruzioni|regole)"),
    (("anweisung", "instruktion", "regeln", "vorgaben"),
     r"\b(?:ignorieren\s+sie|ignoriere?|vergiss|vergessen\s+sie)\s+(?:alle|die|deine|ihre)\s+(?:\w+\s+)?"
     r"(?:anweisungen|instruktionen|regeln|vorgaben)"),
    (("инструкц", "忽略"),
     r"игнорируй(?:те)?\s+(?:все\s+)?(?:предыдущие\s+)?инструкции"
     r"|忽略(?:之前|以上|上面|前面|所有)[^。\n]{0,8}(?:指令|指示|提示)"),
)  # fmt: skip
_PATTERNS: Final = tuple((words, re.compile(p, re.IGNORECASE)) for words, p in _SOURCES)
_SIGNS: Final = tuple(dict.fromkeys(word for words, _ in _SOURCES for word in words))


def find(examples: Sequence[Example], screen: Screen | None = None) -> list[Finding]:
    """One prompt_injection warning for each row that speaks to the model.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    maybe = screen.examples(screen.with_words(_SIGNS, any_case=True))
    return [finding for example in maybe if (finding := look(example)) is not None]


def look(example: Example) -> Finding | None:
    """The first such sentence in one row."""
    for place, text in texts(example):
        if "answer" in place or "assistant" in place or "system" in place:
            continue
        span = speaks_to_model(text)
        if span is not None:
            return example.finding(
                "prompt_injection",
                "warning",
                f"speaks to the model in {place}: {shown(text, *span)}",
                "remove the sentence, or leave the row out, unless the model is to learn from it",
            )
    return None


def speaks_to_model(text: str) -> tuple[int, int] | None:
    """Where a text first speaks to the model."""
    lower = text.lower()
    for words, pattern in _PATTERNS:
        for word in words:
            if word in lower:
                hit = pattern.search(text)
                if hit is not None:
                    return hit.span()
                break
    return None
