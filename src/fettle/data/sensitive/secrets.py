"""Secrets in a text: keys, tokens and passwords, by their published formats or by what names them.

In: a text. Out: spans. Must not know: rows, findings, what is done about them.

A token whose issuer gave it a prefix is known by its format. A password has none: it counts when a
word such as ``password`` or ``api_key`` assigns it and it looks drawn, not written (letters with
digits, and no words). What only stands for a secret (YOUR_KEY, xxxx, ****, $TOKEN) is none.
"""

import re
from typing import Final

from fettle.data.sensitive.spans import Span, first_of_overlapping

_RULES: Final[tuple[tuple[str, str, str], ...]] = (
    # What must stand in the text, what it is, how it looks.
    ("AKIA", "AWS access key", r"\bAKIA[A-Z2-7]{16}\b"),
    ("ASIA", "AWS access key", r"\bASIA[A-Z2-7]{16}\b"),
    ("AIza", "Google API key", r"\bAIza[\w-]{35}(?![\w-])"),
    ("ya29.", "Google OAuth token", r"\bya29\.[\w-]{20,}"),
    ("GOCSPX-", "Google client secret", r"\bGOCSPX-[\w-]{28}"),
    ("gh", "GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b"),
    ("github_pat_", "GitHub token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"),
    ("gl", "GitLab token", r"\bgl(?:pat|dt|rt|ptt|soat)-[\w-]{20,}"),
    ("xox", "Slack token", r"\bxox[abeoprs]-(?:\d-)?[A-Za-z0-9-]{20,}"),
    ("xapp-", "Slack token", r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{20,}"),
    ("hooks.slack.com", "Slack webhook", r"hooks\.slack\.com/(?:services|workflows)/[\w/]{40,}"),
    ("k_", "Stripe key", r"\b[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,}\b"),
    ("whsec_", "Stripe webhook secret", r"\bwhsec_[A-Za-z0-9]{24,}\b"),
    ("sk-ant-", "Anthropic key", r"\bsk-ant-(?:api|admin|sid|oat)\d\d-[\w-]{60,}"),
    ("sk-", "OpenAI key", r"\bsk-(?:proj|svcacct|admin|None)-[\w-]{40,}"),
    ("sk-", "OpenAI key", r"\bsk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}\b"),
    ("sk-", "API key", r"\bsk-(?:or-v1-)?[A-Za-z0-9]{32,}\b"),
    ("hf_", "Hugging Face token", r"\bhf_[A-Za-z]{34}\b"),
    ("api_org_", "Hugging Face token", r"\bapi_org_[A-Za-z]{34}\b"),
    ("npm_", "npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("pypi-", "PyPI token", r"\bpypi-AgE[\w-]{50,}"),
    ("SG.", "SendGrid key", r"\bSG\.[\w-]{20,24}\.[\w-]{39,50}"),
    ("key-", "Mailgun key", r"\bkey-[0-9a-f]{32}\b"),
    ("AC", "Twilio account", r"\bAC[0-9a-f]{32}\b"),
    ("SK", "Twilio key", r"\bSK[0-9a-f]{32}\b"),
    ("dop_v1_", "DigitalOcean token", r"\bdop_v1_[0-9a-f]{64}\b"),
    ("shp", "Shopify token", r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
    ("AGE-SECRET-KEY-", "age key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    ("gsk_", "Groq key", r"\bgsk_[A-Za-z0-9]{48,}\b"),
    ("AccountKey=", "Azure storage key", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    (":AA", "Telegram bot token", r"\b\d{8,10}:AA[\w-]{33}(?![\w-])"),
    ("eyJ", "JWT", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    ("PRIVATE KEY", "private key",
     r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]{0,8000}?-----END [A-Z ]{0,20}"
     r"PRIVATE KEY(?: BLOCK)?-----|[\s\S]{0,8000})"),
    ("earer", "bearer token", r"(?<=[Bb]earer )[\w.~+/=-]{24,}"),
    ("://", "password in an address", r"(?<=://)[^\s:@/?#]{0,64}:[^\s@/?#]{3,128}(?=@[\w.-]{3})"),
)  # fmt: skip
_COMPILED: Final = tuple((hint, name, re.compile(pattern)) for hint, name, pattern in _RULES)
# A drawn value mixes cases or has digits; capitals alone are the format of these.
_ONE_CASE = frozenset(("AWS access key",))

_SHORTEST: Final = 16
SIGNS: Final = r"\S{16}|-----BEGIN"
"""What a format finds holds one of these; a password has one of ``NAMES`` in its text."""
NAMES: Final = ("passw", "passphrase", "pwd", "secret", "token", "api", "access", "auth",
                "credential", "passcode")  # fmt: skip
_NAMED = re.compile(
    r"(?:password|passwd|passphrase|passcode|pwd|secret|token|api[ _-]?key|access[ _-]?key"
    r"|auth[_-]?key"
    r"|credentials?)(?:[_-]?(?:key|id|value|token))?[\"'`*]{0,3}[ \t]{0,3}"
    r"(:=|=>|=|:|\bis\b:?|\bwas\b)[ \t]{0,3}([\"'`*]{0,3})([^\s\"'`,;<>(){}\[\]]{6,200})",
    re.IGNORECASE,
)
_STANDS_FOR_ONE = re.compile(
    r"x{4,}|\*{3,}|\.{3}|example|sample|dummy|placeholder|change_?me|your|redacted|masked"
    r"|insert|environ|getenv|process\.env|config\.|settings\.|^\$|^%|^<|_here$|0{6,}|abcdef|"
    r"123456789|https?:|^os\.|^env\.|^self\.|_token$|_key$",
    re.IGNORECASE,
)
_SAID_OF_ONE = re.compile(
    r"(?:in)?(?:correct|valid|secure|complete|active)\d{0,2}|(?:wrong|expired|required|missing|blocked"
    r"|locked|rejected|accepted|refused|disabled|enabled|changed|updated|reset|stored|saved|needed"
    r"|weak|strong|longer|shorter|hidden|visible|unknown|encrypted|empty|working)\d{0,2}",
    re.IGNORECASE,
)
"""What is said about a password, perhaps with the number of a footnote."""
_WORDS = re.compile(
    r"(?:[a-z]+|[A-Z][a-z]+|[A-Z]+|\d{1,4})(?:[-_.:/](?:[a-z]+|[A-Z][a-z]+|[A-Z]+|\d{1,4}))*[.!?]?"
)


def find_secrets(text: str) -> list[Span]:
    """Secrets in a text.

    Args:
        text: any text.
    Returns:
        Spans in their order; they do not overlap.
    """
    found: list[Span] = []
    # No rule below matches a word of fewer characters; most texts end here.
    long = max(map(len, text.split()), default=0) >= _SHORTEST or "-----BEGIN" in text
    for hint, name, pattern in _COMPILED if long else ():
        if hint in text:
            found.extend(
                Span(*hit.span(), name) for hit in pattern.finditer(text) if _is_drawn(hit[0], name)
            )
    lower = text.lower()
    if any(name in lower for name in NAMES):
        for hit in _NAMED.finditer(text):
            if _is_password(hit[3], hit[1], bool(hit[2])):
                found.append(Span(hit.start(3), hit.start(3) + len(_trimmed(hit[3])), "password"))
    return first_of_overlapping(found)


def _is_drawn(value: str, name: str) -> bool:
    """Whether a match of a format is a value, and not one that stands for it."""
    if name == "password in an address":
        value = value.partition(":")[2]
        return len(value) >= 3 and not _STANDS_FOR_ONE.search(value) and value != "password"
    if name == "private key":
        return True
    if len(set(value)) < 10 or (_STANDS_FOR_ONE.search(value) and "xxx" in value.lower()):
        return False
    if "EXAMPLE" in value or "your_" in value.lower() or "your-" in value.lower():
        return False
    mixed = any(c.islower() for c in value) and any(c.isupper() for c in value)
    return name in _ONE_CASE or mixed or any(c.isdigit() for c in value)


def _trimmed(value: str) -> str:
    return value.rstrip(".!?:")


def _is_password(value: str, sign: str, quoted: bool) -> bool:
    """Whether an assigned value looks drawn: letters and digits or symbols, and no words."""
    value = _trimmed(value)
    told = sign.lower().startswith(("is", "was"))
    if told and not quoted and _SAID_OF_ONE.fullmatch(value):
        return False
    if len(value) < 6 or len(set(value)) < 5 or _STANDS_FOR_ONE.search(value):
        return False
    lower, upper = any(c.islower() for c in value), any(c.isupper() for c in value)
    digit = any(c.isdigit() for c in value)
    symbol = any(not c.isalnum() and c not in "._-/:" for c in value)
    if told or not quoted:
        # Told in a sentence, or bare: words and plain numbers are more likely something else.
        if _WORDS.fullmatch(value) and not (digit and len(value) >= 6 and _mixed(value)):
            return False
        return (digit and (lower or upper)) or (symbol and lower + upper + symbol >= 3)
    return (digit and (lower or upper)) or (symbol and (lower or upper) and len(value) >= 8)


def _mixed(value: str) -> bool:
    """Digits and letters within one part, as in ``hunter2``; not ``step-2`` or ``v2``."""
    return any(
        any(c.isdigit() for c in part) and any(c.isalpha() for c in part) and len(part) >= 6
        for part in re.split(r"[-_.:/]", value)
    )
