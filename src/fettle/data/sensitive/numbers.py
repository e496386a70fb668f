"""Check digits of cards, accounts and national numbers.

In: a number without separators. Out: whether it can exist. Must not know: where numbers stand in a
text. Each rule names where it is set down.
"""

from typing import Final

_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24,
    "XK": 20,
}  # fmt: skip
_SPANISH: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_ITALIAN_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
                       10, 22, 25, 24, 23)  # fmt: skip
# Verhoeff 1969: the group D5, and a permutation of it applied once more for each place.
_D5: Final = tuple(
    tuple(
        (i + j) % 5 + 5 * (j // 5) if i < 5 and j < 5
        else (i + j) % 5 + 5 if i < 5
        else (i - j) % 5 + 5 if j < 5
        else (i - j) % 5
        for j in range(10)
    )
    for i in range(10)
)  # fmt: skip
_VERHOEFF: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def luhn(number: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(number: str) -> bool:
    """A payment card: the issuer's range, its length, and Luhn's check."""
    size = len(number)
    two, three, four = int(number[:2]), int(number[:3]), int(number[:4])
    known = (
        (number[0] == "4" and size in (13, 16, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)
        or (two in (34, 37) and size == 15)
        or ((four == 6011 or 644 <= three <= 649 or two == 65) and size == 16)
        or ((300 <= three <= 305 or two in (36, 38, 39)) and size == 14)
        or (3528 <= four <= 3589 and size == 16)
        or (two == 62 and 16 <= size <= 19)
    )
    return known and luhn(number)


def iban_length(country: str) -> int:
    """Characters of an account number of this country (ISO 13616 registry); 0 = none is known."""
    return _IBAN_LENGTHS.get(country, 0)


def is_iban(number: str) -> bool:
    """ISO 7064, mod 97-10."""
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def is_us_ssn(area: str, group: str, serial: str) -> bool:
    """Numbers that the US Social Security Administration gives out (since 2011)."""
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def is_nhs(number: str) -> bool:
    """UK NHS number: weights 10 to 2, modulus 11."""
    check = -sum(int(d) * w for d, w in zip(number[:9], range(10, 1, -1), strict=True)) % 11
    return check == int(number[9])


def is_dni(number: str) -> bool:
    """Spanish DNI or NIE: the letter is the number modulo 23."""
    digits = number[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return _SPANISH[int(digits) % 23] == number[-1]


def is_nir(number: str) -> bool:
    """French NIR: the last two digits are 97 minus the rest modulo 97."""
    return int(number[13:]) == 97 - int(number[:13]) % 97


def is_cpf(number: str) -> bool:
    """Brazilian CPF: two check digits modulo 11."""
    if len(set(number)) == 1:
        return False
    return all(
        sum(int(d) * (size + 1 - i) for i, d in enumerate(number[:size])) * 10 % 11 % 10
        == int(number[size])
        for size in (9, 10)
    )


def is_pesel(number: str) -> bool:
    """Polish PESEL: weights 1, 3, 7, 9."""
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return sum(int(d) * w for d, w in zip(number, weights, strict=True)) % 10 == 0


def is_chinese_id(number: str) -> bool:
    """Chinese resident number (GB 11643): ISO 7064 mod 11-2, and a date within."""
    if not is_date(number[6:10], number[10:12], number[12:14]):
        return False
    total = sum(
        int(d) * pow(2, 17 - i, 11) for i, d in enumerate(number[:17])
    )  # fmt: skip
    return "10X98765432"[total % 11] == number[17].upper()


def is_codice_fiscale(number: str) -> bool:
    """Italian codice fiscale: its last letter (decree of 23 December 1976)."""
    total = 0
    for place, character in enumerate(number[:15]):
        value = int(character) if character.isdigit() else ord(character) - ord("A")
        total += _ITALIAN_ODD[value] if place % 2 == 0 else value
    return chr(ord("A") + total % 26) == number[15]


def is_bsn(number: str) -> bool:
    """Dutch BSN: weights 9 to 2 and -1, modulus 11."""
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    total = sum(int(d) * w for d, w in zip(number, weights, strict=True))
    return total % 11 == 0 and total > 0


def is_aadhaar(number: str) -> bool:
    """Indian Aadhaar: Verhoeff's check."""
    check = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = _VERHOEFF[value]
        check = _D5[check][value]
    return check == 0


def is_date(year: str, month: str, day: str) -> bool:
    """A date of birth that someone alive may have; roughly, months are not told apart."""
    return 1900 <= int(year) <= 2030 and 1 <= int(month) <= 12 and 1 <= int(day) <= 31
