"""Markup in text: web addresses, HTML tags and entities.

In: examples. Out: findings. Must not know: labels, splits.
"""

import re
from collections.abc import Sequence

from fettle.data.check.places import texts
from fettle.data.check.screen import Screen
from fettle.records.rows import Example, Finding

_URL = re.compile(r"(?:https?|ftp)://\w|\bwww\.\w")
_TAG = re.compile(
    r"</?(?:a|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|font|footer|form|h[1-6]|head"
    r"|header|hr|html|i|iframe|img|input|li|link|meta|nav|ol|option|p|pre|s|script|section|select"
    r"|small|span|strong|style|sub|sup|table|tbody|td|th|thead|tr|u|ul|video)(?:\s[^<>]*)?/?>"
    r"|<!--|<!DOCTYPE",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:#\d{2,6}|#[xX][0-9a-fA-F]{2,5}|amp|lt|gt|quot|apos|nbsp|mdash|ndash|hellip|[lr][sd]quo|copy"
    r"|euro|pound|bull|middot|times|deg|eacute|uuml|ouml|auml|szlig);"
)
_SIGNS = ("://", "www.", "<", "&")
"""One of these stands in every text that a pattern finds."""


def find(examples: Sequence[Example], screen: Screen | None = None) -> list[Finding]:
    """One html_or_url note for each row that holds an address, a tag or an entity.

    Args:
        examples: the rows.
        screen: of them, where there is one.
    """
    screen = screen or Screen(examples)
    maybe = screen.examples(screen.with_words(_SIGNS))
    return [finding for example in maybe if (finding := look(example)) is not None]


def look(example: Example) -> Finding | None:
    """What one row holds."""
    num_urls = num_tags = num_entities = 0
    for _, text in texts(example):
        if "://" in text or "www." in text:
            num_urls += len(_URL.findall(text))
        if "<" in text:
            num_tags += len(_TAG.findall(text))
        if "&" in text and ";" in text:
            num_entities += len(_ENTITY.findall(text))
    if not num_urls + num_tags + num_entities:
        return None
    found = [f"{num_urls} web address(es)"] if num_urls else []
    found += [f"{num_tags} HTML tag(s)"] if num_tags else []
    found += [f"{num_entities} HTML entity(ies)"] if num_entities else []
    return example.finding(
        "html_or_url",
        "note",
        " and ".join(found),
        "left as it is; remove it if the model should not learn it",
    )
