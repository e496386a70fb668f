"""Markup in text: web addresses and HTML tags.

In: examples. Out: findings. Must not know: labels, splits.
"""

import re
from collections.abc import Sequence

from fettle.records.rows import Example, Finding

_URL = re.compile(r"https?://\S|\bwww\.\w")
_TAG = re.compile(
    r"</?(?:a|b|br|div|em|font|h[1-6]|i|img|li|ol|p|span|strong|table|td|tr|ul)\b[^<>]*>"
)


def find(examples: Sequence[Example]) -> list[Finding]:
    """One html_or_url note for each row that holds an address or a tag."""
    findings = []
    for example in examples:
        texts = (
            [example.text] if example.text is not None else [t.content for t in example.messages]
        )
        num_urls = sum(len(_URL.findall(text)) for text in texts)
        num_tags = sum(len(_TAG.findall(text)) for text in texts if "<" in text)
        if not num_urls + num_tags:
            continue
        found = [f"{num_urls} web address(es)"] if num_urls else []
        found += [f"{num_tags} HTML tag(s)"] if num_tags else []
        findings.append(
            example.finding(
                "html_or_url",
                "note",
                " and ".join(found),
                "left as it is; remove it if the model should not learn it",
            )
        )
    return findings
