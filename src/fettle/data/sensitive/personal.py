"""Personal data of listed kinds in a text: where it stands, and what it is.

In: a text. Out: spans. Must not know: rows, findings, what is done about them.

Covered: e-mail addresses; phone numbers (international, and the usual national ways to write them
in the US, UK, Germany, France, Australia, Brazil, Japan, China; others after a word such as
"phone"); payment cards; IBANs; US social security numbers; IPv4, IPv6 and MAC addresses; national
numbers with check digits (UK NHS, Spanish DNI and NIE, French NIR, Italian codice fiscale,
Brazilian CPF, Polish PESEL, Dutch BSN, Indian Aadhaar, Swedish personnummer, Chinese resident
number); passport numbers and dates of birth that are labelled as such. NOT covered: names, street
addresses, and anything else that takes understanding. Toll-free lines are nobody's and are left.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from fettle.data.sensitive import numbers
from fettle.data.sensitive.spans import Span, first_of_overlapping

WORDS: Final = {
    "EMAIL": "e-mail address",
    "PHONE": "phone number",
    "CARD": "payment card number",
    "IBAN": "bank account (IBAN)",
    "SSN": "US social security number",
    "IP": "IP address",
    "MAC": "MAC address",
    "NATIONAL_ID": "national identity number",
    "PASSPORT": "passport number",
    "BIRTH_DATE": "date of birth",
}

_EMAIL = re.compile(
    r"(?<![\w.+%-])(?<!://)[\w.+%'-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+([^\W\d_]{2,24})(?![\w-])"
)
_NO_DOMAIN = frozenset(("png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "html"))
_SPELLED_EMAIL = re.compile(
    r"\b[\w.+-]{2,64}\s?(?:[\[(]\s?at\s?[\])]|\bat\b)\s?[\w-]{2,40}\s?"
    r"(?:[\[(]\s?dot\s?[\])]|\bdot\b)\s?(?:com|org|net|edu|gov|io|de|uk|co|fr|info)\b",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_MANY_DIGITS = re.compile(r"\d(?:[ .()/+-]{0,2}\d){6,}")
_AROUND: Final = 48
"""Characters before and after seven or more digits in which their meaning is looked for."""
_DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
_CARD = re.compile(
    r"(?<![\w.-])(?:\d{13,19}|\d{4}(?:-\d{4}){3}|\d{4}-\d{6}-\d{4,5}"
    r"|(?<!\d )(?:\d{4}(?: \d{4}){3}|\d{4} \d{6} \d{4,5}))(?![\w-])"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?=[ -]?[A-Z0-9]{4})")
_SSN = re.compile(r"(?<![\w.-])(\d{3})-(\d{2})-(\d{4})(?![\w-])")
_SSN_TOLD = re.compile(
    r"\b(?:ssn|social security(?: number| no\.?)?)\W{0,3}(?:is|was)?\W{0,4}"
    r"(\d{3})[ -]?(\d{2})[ -]?(\d{4})(?!\w)",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_NUMBERED = re.compile(
    r"(?:versions?|ver|v|releases?|build|firmware|sections?|sec|chapter|clause|article|rev|revision"
    r"|update|upgraded? to|driver|patch|ios|android|windows|chrome|firefox|safari|schema|oid|§"
    r"|figure|table|appendix|step|item)\W{0,3}$|/$",
    re.IGNORECASE,
)
_IP_TOLD = re.compile(r"\b(?:ip|address|host|server|ping|dns|subnet|log(?:ged|in|ins)?)\b", re.I)
_COMMON_IP = frozenset(
    ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "192.168.0.1", "192.168.1.1",
     "192.168.1.0", "192.168.0.0", "10.0.0.0", "10.0.0.1", "172.16.0.0", "1.2.3.4")
)  # fmt: skip
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_MAC = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}(?![\w:-])"
)

_INTERNATIONAL = re.compile(
    r"(?<![\w+.#])(?<!\d[ -])(?:\+"
    r"|00)(?=[1-9])\d{1,3}(?:[ .\-/]?\(0\))?(?:[ .\-/]?\(?\d{1,5}\)?){2,7}(?![\w]|-\d)"
)
_NATIONAL = re.compile(
    r"(?<![\w.$€£#/+-])(?<!\d )(?:"
    r"(?:1[ .-]?)?\([2-9]\d\d\)[ -]?\d{3}[ .-]\d{4}"  # US
    r"|(?:1[.-])?[2-9]\d\d([.-])\d{3}\1\d{4}"
    r"|\(?07\d{3}\)? ?\d{3} ?\d{3}|\(?020\)? ?[3789]\d{3} ?\d{4}"  # UK
    r"|\(?01\d{2,4}\)? \d{3} ?\d{3,4}|\(?01\d{3}\)? \d{5,6}"
    r"|01[5-7]\d[ /-]?\d{7,8}|\(?0[2-9]\d{1,4}\)? ?/ ?\d{5,9}"  # Germany
    r"|0[1-9](?:[ .]\d\d){4}"  # France
    r"|04\d\d \d{3} \d{3}|\(0[2378]\) ?\d{4} \d{4}"  # Australia
    r"|\([1-9]\d\) ?9?\d{4}-\d{4}"  # Brazil
    r"|0[5-9]0-\d{4}-\d{4}|0\d{1,2}-\d{4}-\d{4}"  # Japan
    r"|1[3-9]\d([ -])\d{4}\2\d{4}"  # China
    r")(?:,? ?(?:x|ext\.?|extension) ?\d{1,5})?(?![\w-]|\.\d)"
)
_TOLD = re.compile(
    r"(?<![\w.$€£#/+-])(?<!\d )(?:\(?\d{2,5}\)?(?:[ .\-]\d{2,5}){1,4}|\d{7,12})(?![\w-]|[.,]\d)"
)
_PHONE_WORD = re.compile(
    r"(?:\b(?:phone|phones|telephone|tel|mobile|cell|cellphone|whatsapp|fax|handy|call|text|ring"
    r"|reach|contact|dial|telefon|telefonnummer|t[ée]l[ée]phone|tel[ée]fono|m[óo]vil|portable"
    r"|my number is)\b|手机|电话|電話|携帯)[^\d\n]{0,24}$",
    re.IGNORECASE,
)
_OTHER_NUMBER = re.compile(
    r"\b(?:order|orders|ticket|account|invoice|ref|reference|policy|case|tracking|serial|booking"
    r"|confirmation|purchase|id|claim|part|sku|isbn|model|code|pin|room|card|nhs|bsn)\b[^\d\n]{0,24}$",
    re.IGNORECASE,
)
_ORDER_NUMBER = re.compile(
    r"\b(?:orders?|ticket|invoice|tracking|shipment|parcel|serial|booking|confirmation|purchase"
    r"|reference|ref|sku|isbn|model|part|article|item|batch|room|flat|suite)\b[^\w\n]{0,3}"
    r"(?:(?:number|no|nr|num|id|code|is|was)\b[^\w\n]{0,3}){0,3}$",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"\s+(?:times|customers|users|people|rows|records|lines|items|messages|points|orders|files|tokens"
    r"|words|units|pieces|steps|dollars|euros|pounds|euro|dollar|bytes|samples|views|visits|visitors"
    r"|subscribers|followers|downloads|clicks|seconds|minutes|hours|years|steps|miles|meters|metres"
    r"|km|kg|usd|eur|gbp|households|patients|employees|students|readers|copies|tons|tonnes)\b",
    re.IGNORECASE,
)
_TABLE_CELL = re.compile(r"\b(?:the|this|that|in|each|excel|table)\s+cell\s+$", re.IGNORECASE)
_TOLL_FREE = re.compile(r"(?:1[ .-]?)?\(?8(?:00|33|44|55|66|77|88)\)?[ .-]")
_COUNTRY = re.compile(
    r"1|7|2[07]|2[1-69]\d|3[0-469]|3[578]\d|4[013-9]|42\d|5[1-8]|5[09]\d|6[0-6]|6[7-9]\d|8[1246]"
    r"|8[05789]\d|9[0-58]|9[679]\d"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[.\- /]\d{1,2}[.\- /]\d{1,2}|\d{1,2}[.\- /]\d{1,2}[.\- /](?:19|20)\d\d"
)

_NHS = re.compile(r"\bnhs\b[^\d\n]{0,24}(\d{3}[ -]?\d{3}[ -]?\d{4})(?!\w)", re.IGNORECASE)
_DNI = re.compile(r"(?<![\w-])(\d{8}-?[A-Z]|[XYZ]-?\d{7}-?[A-Z])(?![\w-])")
_NIR = re.compile(
    r"(?<![\w.-])[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?\d\d ?\d{3} ?\d{3} ?\d\d(?![\w-])"
)
_CPF = re.compile(r"(?<!\w)\d{3}\.\d{3}\.\d{3}-\d\d(?!\w)")
_CPF_TOLD = re.compile(r"\bcpf\b[^\d\n]{0,12}(\d{11})(?!\w)", re.IGNORECASE)
_PESEL = re.compile(r"\bpesel\b[^\d\n]{0,12}(\d{11})(?!\w)", re.IGNORECASE)
_BSN = re.compile(r"\b(?:bsn|burgerservicenummer)\b[^\d\n]{0,12}(\d{9})(?!\w)", re.IGNORECASE)
_AADHAAR = re.compile(r"\baadh?aa?r\b[^\d\n]{0,16}(\d{4}[ -]?\d{4}[ -]?\d{4})(?!\w)", re.IGNORECASE)
_PERSONNUMMER = re.compile(r"(?<![\w.-])(?:19|20)?(\d\d)(\d\d)(\d\d)[-+](\d{4})(?![\w-])")
_CHINESE = re.compile(r"(?<!\w)[1-8]\d{5}(?:19|20)\d{9}[\dXx](?!\w)")
_FISCALE = re.compile(r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)")
_PASSPORT = re.compile(
    r"\b(?:passport|reisepass|pasaporte|passeport)[ -]?(?:number|no|num|nr|id|nummer)?\.?\s?"
    r"(?:is|was|:|#|=)?\W{0,3}([A-Z]{0,2}\d{6,9})(?!\w)",
    re.IGNORECASE,
)
_BIRTH = re.compile(
    r"\b(?:dob|d\.o\.b\.?|date of birth|birth ?date|born on|geburtsdatum"
    r"|date de naissance)\b\W{0,4}"
    r"(?:is |was )?\W{0,3}(\d{1,2}[./ -]\d{1,2}[./ -]\d{2,4}|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    r"|\d{1,2}(?:st|nd|rd|th)? (?:of )?[A-Z][a-z]{2,8},? \d{4}|[A-Z][a-z]{2,8} \d{1,2},? \d{4})",
    re.IGNORECASE,
)
_BIRTH_WORDS = ("birth", "Birth", "BIRTH", "DOB", "dob", "D.O.B", "d.o.b", "orn on", "Geburtsdatum",
                "naissance")  # fmt: skip

SIGNS: Final = (
    r"@| dot |[\[(]dot[\])]|:[0-9A-Fa-f]{0,4}:"
    r"|\p{Nd}(?:[ .()/+-]{0,2}\p{Nd}){6}|\p{Nd}\.\p{Nd}{1,3}\.\p{Nd}"
    r"|[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]"
    r"|birth|Birth|BIRTH|DOB|dob|D\.O\.B|d\.o\.b|orn on|Geburtsdatum|naissance"
    r"|iscale|FISCALE|C\.F\."
)
"""One of these stands in every text in which something is found."""


def find_personal(text: str) -> list[Span]:
    """Personal data in a text.

    Args:
        text: any text.
    Returns:
        Spans in their order; they do not overlap.
    """
    found: list[Span] = []
    if "@" in text:
        found.extend(_emails(text))
    if " dot " in text or "[dot]" in text or "(dot)" in text:
        found.extend(Span(*hit.span(), "EMAIL") for hit in _SPELLED_EMAIL.finditer(text))
    # Each pattern costs more than the words that have to stand near it, so those are sought first.
    colons = text.count(":")
    if colons >= 7 or (colons >= 2 and "::" in text):
        found.extend(_ipv6(text))
    if _DIGIT.search(text):
        if text.count(".") >= 3 and _DOTTED.search(text):
            found.extend(_ipv4(text))
        if colons >= 5 or text.count("-") >= 5:
            found.extend(_macs(text))
        for start, end in _windows(text):
            found.extend(
                Span(start + span.start, start + span.end, span.name)
                for span in _many_digits(text[start:end])
            )
        if any(word in text for word in _BIRTH_WORDS):
            found.extend(Span(*hit.span(1), "BIRTH_DATE") for hit in _BIRTH.finditer(text))
        if "iscale" in text or "FISCALE" in text or "C.F." in text:
            found.extend(_checked(_FISCALE, text, numbers.is_codice_fiscale))
    return first_of_overlapping(found)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """The parts of a text around long numbers, each beginning with a word."""
    start = end = 0
    for hit in _MANY_DIGITS.finditer(text):
        if hit.start() - _AROUND > end:
            if end:
                yield start, end
            start = text.find(" ", max(0, hit.start() - _AROUND), hit.start()) + 1
            start = start or max(0, hit.start() - _AROUND)
            start = 0 if hit.start() <= _AROUND else start
        end = hit.end() + _AROUND
    if end:
        yield start, min(end, len(text))


def _emails(text: str) -> Iterator[Span]:
    for hit in _EMAIL.finditer(text):
        service = hit[0].startswith("git@")
        if hit[1].lower() not in _NO_DOMAIN and not service:
            start = hit.start() + len(hit[0]) - len(hit[0].lstrip("'.-"))
            yield Span(start, hit.end(), "EMAIL")


def _ipv4(text: str) -> Iterator[Span]:
    for hit in _IPV4.finditer(text):
        parts = hit[0].split(".")
        first = int(parts[0])
        if any(int(part) > 255 or (part[0] == "0" and part != "0") for part in parts):
            continue
        if first in (0, 127) or first >= 224 or hit[0] in _COMMON_IP:
            continue
        before = text[max(0, hit.start() - 24) : hit.start()]
        if _NUMBERED.search(before):
            continue
        if all(len(part) == 1 for part in parts) and not _IP_TOLD.search(before):
            continue  # 4.2.1.3 is a section of a document until something says otherwise
        yield Span(*hit.span(), "IP")


def _ipv6(text: str) -> Iterator[Span]:
    for hit in _IPV6.finditer(text):
        groups = [group for group in hit[0].split(":") if group]
        digits = sum(len(group) for group in groups)
        if digits < 6 or not any(c.isdigit() for c in hit[0]):
            continue
        try:
            ipaddress.IPv6Address(hit[0])
        except ValueError:
            continue
        yield Span(*hit.span(), "IP")


def _macs(text: str) -> Iterator[Span]:
    for hit in _MAC.finditer(text):
        if any(c.isalpha() for c in hit[0]):
            yield Span(*hit.span(), "MAC")


def _many_digits(text: str) -> Iterator[Span]:
    """Whatever has at least seven digits, the surer kinds first."""
    yield from _ibans(text)
    for span in _checked(_CARD, text, numbers.is_card, "CARD"):
        if not _is_of_an_order(text, span.start):
            yield span
    yield from _checked(_CHINESE, text, numbers.is_chinese_id)
    yield from _checked(_NIR, text, numbers.is_nir)
    yield from _checked(_CPF, text, numbers.is_cpf)
    for span in _checked(_DNI, text, numbers.is_dni):
        if not _is_of_an_order(text, span.start):
            yield span
    for pattern in (_SSN, _SSN_TOLD):
        for hit in pattern.finditer(text):
            if numbers.is_us_ssn(hit[1], hit[2], hit[3]):
                yield Span(hit.start(1), hit.end(3), "SSN")
    for pattern, check in _LABELLED:
        for hit in pattern.finditer(text):
            if check(_plain(hit[1])):
                yield Span(*hit.span(1), "NATIONAL_ID")
    for hit in _PASSPORT.finditer(text):
        yield Span(*hit.span(1), "PASSPORT")
    for hit in _PERSONNUMMER.finditer(text):
        if numbers.is_date("19" + hit[1], hit[2], hit[3]) and numbers.luhn("".join(hit.groups())):
            yield Span(*hit.span(), "NATIONAL_ID")
    yield from _phones(text)


_LABELLED: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = (
    (_NHS, numbers.is_nhs),
    (_PESEL, numbers.is_pesel),
    (_CPF_TOLD, numbers.is_cpf),
    (_BSN, numbers.is_bsn),
    (_AADHAAR, numbers.is_aadhaar),
)


def _plain(value: str) -> str:
    return re.sub(r"[\s.:-]", "", value)


def _checked(
    pattern: re.Pattern[str],
    text: str,
    check: Callable[[str], bool],
    name: str = "NATIONAL_ID",
) -> Iterator[Span]:
    for hit in pattern.finditer(text):
        if check(_plain(hit[0])):
            yield Span(*hit.span(), name)


def _ibans(text: str) -> Iterator[Span]:
    for hit in _IBAN.finditer(text):
        length = numbers.iban_length(hit[0][:2])
        if not length:
            continue
        at, number = hit.start(), ""
        while at < len(text) and len(number) < length:
            character = text[at]
            if character.isascii() and character.isalnum():
                number += character
            elif character not in " -" or text[at - 1] in " -":
                break
            at += 1
        ends = at == len(text) or not text[at].isalnum()
        if len(number) == length and ends and number.isupper() and numbers.is_iban(number):
            yield Span(hit.start(), at, "IBAN")


def _phones(text: str) -> Iterator[Span]:
    for hit in _INTERNATIONAL.finditer(text):
        digits = re.sub(r"\D", "", hit[0].replace("(0)", ""))
        digits = digits[2:] if hit[0].startswith("00") else digits
        if 8 <= len(digits) <= 15 and _COUNTRY.match(digits):
            yield Span(hit.start(), hit.start() + len(hit[0].rstrip("( ")), "PHONE")
    for hit in _NATIONAL.finditer(text):
        before = text[max(0, hit.start() - 45) : hit.start()]
        if not _TOLL_FREE.match(hit[0]) and _nearest_word(before) != "other":
            yield Span(*hit.span(), "PHONE")
    for hit in _TOLD.finditer(text):
        if not 7 <= sum(map(str.isdigit, hit[0])) <= 12:
            continue
        if _TOLL_FREE.match(hit[0]) or _DATE.fullmatch(hit[0]):
            continue
        before = text[max(0, hit.start() - 45) : hit.start()]
        if hit[0].isdigit() and _is_amount(hit[0], before, text[hit.end() : hit.end() + 40]):
            continue
        if _nearest_word(before) == "phone":
            yield Span(*hit.span(), "PHONE")


def _is_of_an_order(text: str, at: int) -> bool:
    """Whether the words before a number name something that is numbered, and no card or person."""
    return _ORDER_NUMBER.search(text[max(0, at - 40) : at]) is not None


def _is_amount(number: str, before: str, after: str) -> bool:
    """Whether digits without a gap count something, or name a place in a table."""
    return (
        number.endswith("0000")
        or _COUNTED.match(after) is not None
        or (_TABLE_CELL.search(before) is not None)
    )


def _nearest_word(before: str) -> str:
    """What the words before a number say that it is: phone, other, or nothing."""
    phone, other = _PHONE_WORD.search(before), _OTHER_NUMBER.search(before)
    if phone is not None and (other is None or phone.start() > other.start()):
        return "phone"
    return "other" if other is not None else ""
