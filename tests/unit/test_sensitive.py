"""Personal data and secrets: what is known, what is spared, and that nothing shows twice."""

import time
from itertools import pairwise
from random import Random

import pytest
from bench.faults import text_private
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.data.sensitive import find_personal, find_secrets, mask, numbers, redact
from fettle.data.sensitive.spans import Span, first_of_overlapping

ROW = {"prompt": "Hello there, how are you doing today?", "completion": "Fine. Thanks for asking."}


def _names(text: str) -> list[str]:
    return [span.name for span in find_personal(text)]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to anna.b+shop@mail.example.co.uk today.", "Write to [EMAIL] today."),
        ("<mailto:A@EXAMPLE.ORG>", "<mailto:[EMAIL]>"),
        ("me [at] example [dot] com", "[EMAIL]"),
        ("jane at example dot com", "[EMAIL]"),
        ("Call (555) 123-4567 ext. 12 now", "Call [PHONE] now"),
        ("555-123-4567", "[PHONE]"),
        ("+49 (0)30 12345678", "[PHONE]"),
        ("tel. 0171 1234567, or 06 12 34 56 78", "tel. [PHONE], or [PHONE]"),
        ("my mobile is 98765 43210", "my mobile is [PHONE]"),
        ("text me at 5551234567", "text me at [PHONE]"),
        ("call my cell 5551234567 today", "call my cell [PHONE] today"),
        ("for order 12, card 4000 0000 0000 0002", "for order 12, card [CARD]"),
        ("card 4111 1111 1111 1111 exp 12/27", "card [CARD] exp 12/27"),
        ("378282246310005", "[CARD]"),
        ("DE89 3704 0044 0532 0130 00 BIC COBA", "[IBAN] BIC COBA"),
        ("GB82WEST12345698765432.", "[IBAN]."),
        ("my ssn is 536-22-1234", "my ssn is [SSN]"),
        ("SSN: 536221234", "SSN: [SSN]"),
        ("login from 203.0.113.9:8080", "login from [IP]:8080"),
        ("from 2001:db8:85a3::8a2e:370:7334 again", "from [IP] again"),
        ("device 00:1A:2B:3C:4D:5E", "device [MAC]"),
        ("NHS number 943 476 5919", "NHS number [NATIONAL_ID]"),
        ("DNI 12345678Z", "DNI [NATIONAL_ID]"),
        ("CPF 529.982.247-25", "CPF [NATIONAL_ID]"),
        ("PESEL 44051401359", "PESEL [NATIONAL_ID]"),
        ("Aadhaar 2341 2341 2346", "Aadhaar [NATIONAL_ID]"),
        ("codice fiscale RSSMRA85T10A562S", "codice fiscale [NATIONAL_ID]"),
        ("My passport number is X1234567.", "My passport number is [PASSPORT]."),
        ("DOB: 12/03/1985", "DOB: [BIRTH_DATE]"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(text)[0] == masked
    assert mask(masked) == (masked, [])


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",  # fails Luhn's check
        "order 1234567890123456",  # no issuer
        "DE89 3704 0044 0532 0130 01",  # fails mod 97
        "version 10.4.19.2",
        "see section 4.2.1.3",
        "127.0.0.1 and 255.255.255.0 and 192.168.0.1",
        "std::vector a::b 12:30:45",
        "2023-10-12 12:30, 12.05.2024",
        "000-12-3456 and 666-12-3456 and 900-12-3456",
        "978-3-16-148410-0",
        "call the toll-free line 1-800-555-0199",
        "order 5551234567",
        "icon@2x.png @anna meet @ noon git@github.com",
        "9434765918",  # nobody said NHS
        "12345678A",  # wrong letter
        "$12 345 678, 100 200 300, 48/2 = <<48/2=24>>24",
        "I lost my passport in 2019.",
        "34 x 76 d",
        "We reach 1000000 customers.",
        "Please call 10000000 times and text 1234567 rows.",
        "The cell 2345678 in Excel",
        "order no. 4000 0000 0000 0002",  # numbers of orders pass Luhn's check as often as not
        "Tracking number: 4000000000000002",
        "room 12345678Z",
    ],
)
def test_look_alikes_are_spared(text: str) -> None:
    assert _names(text) == []


@pytest.mark.parametrize("variant", sorted(text_private.PERSONAL))
def test_each_kind_of_personal_data_is_found(variant: str) -> None:
    missed = 0
    for number in range(60):
        row = text_private.PERSONAL[variant](Random(f"{variant}{number}"), ROW)
        assert row is not None
        text = f"{row['prompt']}\n{row['completion']}"
        missed += not find_personal(text)
        once = mask(text)[0]
        assert mask(once) == (once, [])
    assert missed <= 3, variant  # US numbers may begin as toll-free ones do


@pytest.mark.parametrize("variant", sorted(text_private.NOT_PERSONAL))
def test_each_look_alike_of_personal_data_is_spared(variant: str) -> None:
    wrong = 0
    for number in range(60):
        row = text_private.NOT_PERSONAL[variant](Random(f"{variant}{number}"), ROW)
        assert row is not None
        wrong += bool(find_personal(f"{row['prompt']}\n{row['completion']}"))
    assert wrong <= 2, variant


@pytest.mark.parametrize("variant", sorted(text_private.SECRETS))
def test_each_kind_of_secret_is_found_and_masked(variant: str) -> None:
    missed = 0
    for number in range(40):
        row = text_private.SECRETS[variant](Random(f"{variant}{number}"), ROW)
        assert row is not None
        text = f"{row['prompt']}\n{row['completion']}"
        spans = find_secrets(text)
        missed += not spans
        masked = redact(text)
        assert all(text[span.start : span.end] not in masked for span in spans)
    assert missed <= 2, variant


@pytest.mark.parametrize("variant", sorted(text_private.NOT_SECRET))
def test_each_look_alike_of_secrets_is_spared(variant: str) -> None:
    for number in range(40):
        row = text_private.NOT_SECRET[variant](Random(f"{variant}{number}"), ROW)
        assert row is not None
        text = f"{row['prompt']}\n{row['completion']}"
        assert [text[span.start : span.end] for span in find_secrets(text)] == []


@pytest.mark.parametrize(
    ("text", "is_secret"),
    [
        ("password: hunter22x", True),
        ("DB_PASSWORD='S3cr-t%pass9'", True),
        ("my password is Blue7Horse!", True),
        ("My password is not working.", False),
        ("The password is incorrect2 and the token was expired1", False),
        ("the password is correct4Horse", True),
        ("password: ********", False),
        ("token = get_token()", False),
        ("api_key=YOUR_API_KEY", False),
        ("Choose a password: at least 8 characters", False),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", False),
    ],
)
def test_passwords(text: str, is_secret: bool) -> None:
    assert bool(find_secrets(text)) == is_secret


def test_check_digits_against_published_numbers() -> None:
    assert numbers.is_card("5555555555554444")
    assert not numbers.is_card("5555555555554445")
    assert numbers.is_iban("FR1420041010050500013M02606")
    assert numbers.is_nhs("9434765919")
    assert numbers.is_dni("12345678Z")
    assert numbers.is_dni("X1234567L")
    assert numbers.is_nir("255081416802538")
    assert numbers.is_bsn("111222333")
    assert numbers.is_chinese_id("11010519491231002X")
    assert numbers.is_codice_fiscale("RSSMRA85T10A562S")
    assert not numbers.is_codice_fiscale("RSSMRA85T10A562T")
    # Wikipedia's example of Verhoeff's check: 236 takes the digit 3.
    assert numbers.is_aadhaar("2363")
    assert not numbers.is_aadhaar("2364")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=" \n@.:-+()/0123456789abcdefAKIAxX_=", max_size=120))
def test_masking_twice_changes_nothing(text: str) -> None:
    once, spans = mask(text)
    assert mask(once)[0] == once
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=30))
def test_of_overlapping_spans_the_first_stays(drawn: list[tuple[int, int]]) -> None:
    found = [Span(start, start + length, "X") for start, length in drawn]
    kept: list[Span] = []
    for span in found:
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    assert first_of_overlapping(found) == sorted(kept)


def test_a_text_full_of_addresses_takes_little_time() -> None:
    text = " ".join(f"a{number}@example.com" for number in range(20_000))
    started = time.process_time()
    assert redact(text) == " ".join(["[EMAIL]"] * 20_000)
    assert time.process_time() - started < 10  # comparing each with each took minutes
