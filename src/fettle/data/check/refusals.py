"""Answers that refuse, or speak of themselves as a model.

In: a text. Out: where it does. Must not know: examples. A shop that is sorry ("we can't ship to
that address") refuses nothing.
"""

import re
from typing import Final

_AI = r"(?:ai|artificial intelligence|language model)"
_CANNOT = r"(?:can(?:no|['’])t|cannot|am unable to|am not able to|will not|won['’]t)"
_UNABLE = (
    r"(?:i can(?:no|['’])t|i cannot|i am unable|i['’]m unable|i am not able|i['’]m not able|unable"
    r"|i won['’]t|to)"
)
_PATTERNS: Final = (
    rf"\bas an? (?:large |helpful |responsible |advanced )*{_AI}"
    r"(?: language)?(?: model| assistant| chatbot| system)?(?:,| i\b| developed| trained| created)",
    r"\bas a (?:large )?language model\b|\bas a machine learning model",
    r"\bi(?:['’]m| am) (?:just |only |merely )?an? (?:ai\b|artificial intelligence|language model"
    r"|large language model|computer program)",
    rf"\bi(?:['’]m| am) (?:sorry|afraid|unable|not able|very sorry)\b[^.!?\n]{{0,40}}?\b{_UNABLE}"
    r" (?:to )?(?:assist|help|fulfill|fulfil|comply|answer|complete|do|provide|support|engage"
    r"|discuss)(?: you)?(?: with)?"
    r" (?:that|this|your request|assistance with|such|these|the request)\b",
    rf"\bi {_CANNOT} (?:fulfill|fulfil|comply with|assist with|help (?:you )?with|complete"
    r"|provide assistance with) (?:that|this|your|such|the)\b",
    r"\bi(?:['’]m| am) not able to (?:assist|help|do that|fulfill|comply)",
    r"\bi (?:must|have to) (?:respectfully |politely )?(?:decline|refuse)",
    r"\bmy (?:knowledge|training)(?: data)? (?:cut-?off|only goes|ends|was last)",
    r"\btrained by (?:openai|anthropic|google|meta|microsoft)\b",
    r"openai['’]?s? (?:content|usage|use.case) polic",
    r"\bi (?:do not|don['’]t) have (?:personal (?:opinions|experiences|beliefs|feelings"
    r"|preferences)"
    r"|feelings|the ability to (?:browse|access)|access to (?:the internet|real-time))",
    r"\bgoes against my (?:guidelines|programming|principles)|^regenerate response$",
    r"\bals (?:ki|künstliche intelligenz|ki-sprachmodell|sprachmodell)\b",
    r"en tant qu(?:e modèle de langage|['’]ia\b)",
    r"como (?:un )?modelo de lenguaje|como (?:um )?modelo de linguagem|come modello linguistico",
    r"als (?:ai-)?taalmodel|作为(?:一个|一名)?(?:人工智能|AI|语言模型|大型语言模型)",
    r"как (?:языковая модель|искусственный интеллект)",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE)
WORDS: Final = (
    "language model", "an ai", "i can't", "i can’t", "i cannot", "unable", "cutoff", "cut-off",
    "openai", "decline", "sprachmodell", "als ki", "künstliche", "modèle de langage", "en tant",
    "modelo de l", "作为", "artificial", "regenerate", "not able", "i don't have", "i do not have",
    "i don’t have", "trained by", "i won", "modello ling", "taalmodel", "как я", "как иск",
    "refuse",
    "goes against", "machine learning", "my knowledge", "my training", "i will not", "i'm a",
    "i’m a", "i am a", "sorry to",
)  # fmt: skip
"""In lower case, one of these stands in every text that refuses; most texts have none."""
_BEGINNING: Final = 300


def refuses(text: str) -> tuple[int, int] | None:
    """Where an answer refuses, or speaks as a model about itself; only its beginning counts."""
    start = text[:_BEGINNING]
    lower = start.lower()
    if not any(word in lower for word in WORDS):
        return None
    hit = _REFUSAL.search(start)
    return hit.span() if hit is not None else None
