"""Invented personal data and secrets in text, with correct check digits, and their look-alikes.

In: a random generator and a row. Out: the changed row. Must not know: any detector.

Every value is drawn at random: none is written out here, so that no scanner of repositories
takes this file for a leak, and none belongs to anyone but by chance.
"""

import base64
import json
import string
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from bench.faults.text_damage import Edit, Row, added, pieces, sentences

Make = Callable[[Random], str]
_NAMES = ("anna", "john.smith", "m.okafor", "li_wei", "sofia-garcia", "jdoe82", "k.mueller+shop")
_HOSTS = (
    "example.com",
    "mail.example.org",
    "uni-example.de",
    "example.co.uk",
    "my-shop.io",
    "gmail.com",
    "firma.museum",
)
_ALNUM = string.ascii_letters + string.digits


def digits(rng: Random, count: int) -> str:
    """That many digits."""
    return "".join(rng.choice(string.digits) for _ in range(count))


def drawn(rng: Random, alphabet: str, count: int) -> str:
    """That many characters of an alphabet."""
    return "".join(rng.choice(alphabet) for _ in range(count))


def shaped(*shapes: str) -> Make:
    """Numbers in a shape: # is any digit, @ one from 2 to 9, others stand for themselves."""

    def make(rng: Random) -> str:
        shape = rng.choice(shapes)
        return "".join(
            rng.choice("0123456789") if c == "#" else rng.choice("23456789") if c == "@" else c
            for c in shape
        )

    return make


def luhn_digit(body: str) -> str:
    """The digit that makes a number pass Luhn's check."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def card(rng: Random, valid: bool = True) -> str:
    """A payment card's number, in one of the usual spellings."""
    prefix, length = rng.choice(
        [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16)]
    )
    body = prefix + digits(rng, length - 1 - len(prefix))
    check = luhn_digit(body)
    number = body + (check if valid else str((int(check) + rng.randrange(1, 10)) % 10))
    gap = rng.choice(["", " ", "-"])
    if length == 15:
        return gap.join((number[:4], number[4:10], number[10:]))
    return gap.join(number[i : i + 4] for i in range(0, 16, 4))


def iban(rng: Random, valid: bool = True) -> str:
    """A bank account's number."""
    country, shape = rng.choice(
        [
            ("DE", "#" * 18),
            ("GB", "AAAA" + "#" * 14),
            ("FR", "#" * 23),
            ("NL", "AAAA" + "#" * 10),
            ("ES", "#" * 20),
            ("IT", "A" + "#" * 22),
            ("AT", "#" * 16),
            ("CH", "#" * 17),
            ("PL", "#" * 24),
            ("BE", "#" * 12),
        ]
    )
    account = "".join(
        rng.choice(string.digits) if c == "#" else rng.choice(string.ascii_uppercase) for c in shape
    )
    as_number = "".join(str(int(c, 36)) for c in account + country + "00")
    check = 98 - int(as_number) % 97
    if not valid:
        check = (check + rng.randrange(1, 90)) % 97 + 2
        if int("".join(str(int(c, 36)) for c in account + country) + f"{check:02d}") % 97 == 1:
            check = (check - 1) % 97 + 2
    whole = f"{country}{check:02d}{account}"
    if rng.random() < 0.5:
        return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
    return whole


def ssn(rng: Random) -> str:
    """A US social security number that could be given out."""
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


def ipv4(rng: Random) -> str:
    """An address of the public Internet."""
    return f"{rng.choice([23, 54, 78, 91, 133, 188, 212])}." + ".".join(
        str(rng.randrange(1, 255)) for _ in range(3)
    )


def ipv6(rng: Random) -> str:
    """An address of eight groups, or shortened."""
    groups = [f"{rng.randrange(1, 65536):x}" for _ in range(8)]
    groups[0] = rng.choice(["2001", "2a02", "fe80"])
    if rng.random() < 0.5:
        return f"{groups[0]}:{groups[1]}::{groups[2]}:{groups[3]}"
    return ":".join(groups)


def nhs(rng: Random) -> str:
    """A number of the UK's National Health Service."""
    while True:
        body = rng.choice("49") + digits(rng, 8)
        check = -sum(int(d) * w for d, w in zip(body, range(10, 1, -1), strict=True)) % 11
        if check < 10:
            return rng.choice(["{} {} {}", "{}{}{}"]).format(
                body[:3], body[3:6], f"{body[6:]}{check}"
            )


def dni(rng: Random) -> str:
    """A Spanish identity number."""
    number = digits(rng, 8)
    return number + rng.choice(["", "-"]) + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def nir(rng: Random) -> str:
    """A French social security number."""
    body = (
        f"{rng.choice('12')}{rng.randrange(100):02d}{rng.randrange(1, 13):02d}"
        f"{rng.randrange(1, 96):02d}{rng.randrange(1, 990):03d}{rng.randrange(1, 1000):03d}"
    )
    key = f"{97 - int(body) % 97:02d}"
    if rng.random() < 0.5:
        return body + key
    return " ".join((body[0], body[1:3], body[3:5], body[5:7], body[7:10], body[10:], key))


def cpf(rng: Random) -> str:
    """A Brazilian tax number."""
    body = digits(rng, 9)
    for length in (9, 10):
        total = sum(int(d) * (length + 1 - i) for i, d in enumerate(body))
        body += str(total * 10 % 11 % 10)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def pesel(rng: Random) -> str:
    """A Polish identity number."""
    born = f"{rng.randrange(50, 99):02d}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body = born + digits(rng, 4)
    total = sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True))
    return body + str(-total % 10)


def chinese_id(rng: Random) -> str:
    """A Chinese resident number."""
    body = (
        f"{rng.choice(['110101', '310104', '440305'])}{rng.randrange(1950, 2010)}"
        f"{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}{digits(rng, 3)}"
    )
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


def email(rng: Random) -> str:
    """An e-mail address."""
    address = f"{rng.choice(_NAMES)}{rng.randrange(100)}@{rng.choice(_HOSTS)}"
    return rng.choice([address, address, address.upper(), f"<{address}>", f"mailto:{address}"])


def _told(lines: Sequence[str], make: Make) -> Edit:
    def edit(rng: Random, row: Row) -> Row:
        return added(rng, row, rng.choice(lines).format(make(rng)))

    return edit


_CALL = (
    "My number is {}.",
    "Please call me on {} after 5.",
    "You can reach me at {}, thanks.",
    "Phone: {}",
    "tel. {}",
    "Contact {} for details.",
)
_PLAIN = ("It is {}.", "Here you go: {}", "{} is what I have.", "I sent you {} yesterday.", "({})")
_PHONES = {
    "US": (
        "(@##) @##-####",
        "@##-@##-####",
        "@##.@##.####",
        "+1 @## @## ####",
        "+1-@##-@##-####",
        "1-@##-@##-####",
        "(@##)@##-####",
    ),
    "UK": (
        "07### ######",
        "020 #### ####",
        "+44 7### ######",
        "+44 (0)20 #### ####",
        "01## ### ####",
    ),
    "Germany": (
        "+49 30 ########",
        "0171 #######",
        "+49 (0)89 #######",
        "030/#######",
        "0049 30 #######",
    ),
    "France": ("06 ## ## ## ##", "+33 6 ## ## ## ##", "01.##.##.##.##"),
    "India": ("+91 9#### #####", "+91-98########", "9#### #####"),
    "Spain": ("+34 6## ### ###", "+34 91 ### ## ##"),
    "Australia": ("04## ### ###", "+61 4## ### ###", "(02) 9### ####"),
    "Brazil": ("(11) 9####-####", "+55 11 9####-####"),
    "Japan": ("090-####-####", "+81 90 #### ####"),
    "China": ("+86 13# #### ####", "138 #### ####"),
    "others": (
        "+39 3## ### ####",
        "+31 6 ########",
        "+48 ### ### ###",
        "+46 70 ### ## ##",
        "+353 87 ### ####",
        "+27 82 ### ####",
        "+971 50 ### ####",
    ),
}
PERSONAL: Final[dict[str, Edit]] = {
    "e-mail": _told(("Write to {}.", "my mail is {}", "{} is my address", "Contact: {}"), email),
    **{f"phone {name}": _told(_CALL, shaped(*shapes)) for name, shapes in _PHONES.items()},
    "phone, ten digits": _told(
        ("My phone number is {}.", "call me at {}", "mobile {}"), shaped("@#########")
    ),
    "card": _told((*_PLAIN, "My card number is {}."), card),
    "IBAN": _told((*_PLAIN, "Pay to IBAN {}."), iban),
    "US SSN": _told((*_PLAIN, "My SSN is {}."), ssn),
    "IPv4": _told(("Logins came from {}.", "my ip is {}", "IP: {}", "Blocked {} again."), ipv4),
    "IPv6": _told(("Logins came from {}.", "my ip is {}", "the address {} is mine"), ipv6),
    "UK NHS": _told(("My NHS number is {}.", "NHS no: {}"), nhs),
    "Spanish DNI": _told((*_PLAIN, "Mi DNI es {}."), dni),
    "French NIR": _told(
        ("Mon numéro de sécurité sociale : {}.", "My French social security number is {}."), nir
    ),
    "Brazilian CPF": _told((*_PLAIN, "CPF {}"), cpf),
    "Polish PESEL": _told(("PESEL: {}", "My PESEL is {}."), pesel),
    "Chinese ID": _told(_PLAIN, chinese_id),
    "passport": _told(
        ("My passport number is {}.", "Passport no. {}", "passport: {}"),
        shaped("#########", "X########", "C0#######", "AB#######"),
    ),
}
NOT_PERSONAL: Final[dict[str, Edit]] = {
    "order number": _told(
        ("My order number is {}.", "order #{} is late", "Tracking number: {}", "Ref. {}"),
        shaped(
            "1###############",
            "8###############",
            "##########",
            "1###########",
            "1Z##########",
            "9#####################",
            "####-####-####",
            "###-#######-#######",
        ),
    ),
    "card that fails the check": _told(
        ("order {}", "Order no. {}", "serial {}"), lambda rng: card(rng, valid=False)
    ),
    "IBAN that fails the check": _told(
        ("part {}", "voucher {}"), lambda rng: iban(rng, valid=False)
    ),
    "version": _told(
        ("I use version {}.", "v{} crashes", "Upgrade to release {}.", "Build {}", "firmware {}"),
        shaped("@.#.#.#", "1@.#.##.#", "1@.0.####.##", "@.1#.0.1"),
    ),
    "section": sentences(
        "See section 4.2.1.3.", "Chapter 1.2.3.4 explains it.", "as in § 10.2.3.1"
    ),
    "local address": pieces("127.0.0.1", "0.0.0.0", "255.255.255.0", "localhost:8080", "::1"),
    "date and time": pieces(
        "2023-10-12",
        "12/05/2024",
        "12.05.2024",
        "10:30:45",
        "2023-10-12T10:30:45Z",
        "20240512",
        "12-05-2024 14:30",
        "1999-2004",
        "2024.10.12",
    ),
    "product code": _told(
        ("Item {} is out of stock.", "SKU {}", "the model {}", "Part no. {}"),
        shaped(
            "AB-###-####",
            "###-##",
            "#####-###-##",
            "X######",
            "A##-####-B",
            "##-####-##",
            "### ####",
        ),
    ),
    "ISBN": pieces("978-3-16-148410-0", "ISBN 0-306-40615-2", "9783161484100"),
    "amounts": pieces(
        "1,234,567.89",
        "$12 345 678",
        "100 200 300",
        "3.141592653589793",
        "1 000 000 000",
        "£1.250.000",
        "12345678901234567890",
        "10 000-20 000",
        "1e10",
        "1200 1300 1400",
    ),
    "scores": pieces(
        "6-4 7-6 6-3", "1-2-3-4", "12-12-24", "3:2", "100-200-300", "24/7", "50/50", "911", "112"
    ),
    "zip code": pieces("12345-6789", "SW1A 1AA", "90210", "75001 Paris"),
    "at sign": pieces(
        "@anna", "meet @ noon", "5 @ $3", "user@host", "a@b", "@media print", "x @ y"
    ),
    "colons": pieces(
        "12:30:45:99", "a::b::c", "std::string::npos", "Foo::Bar", "10:20", "16:9", "fe::", "::"
    ),
    "toll-free line": pieces("1-800-4-CANCER", "1-877-KARS-4"),
    "hash": _told(("commit {}", "sha256 {}"), lambda rng: drawn(rng, "0123456789abcdef", 40)),
    "passport in words": sentences(
        "I lost my passport in 2019.",
        "Passport control opens at 0600.",
        "Do I need a passport for Mexico?",
    ),
    "social security in words": sentences(
        "How do I apply for social security at 62?", "SSN stands for a number."
    ),
    "sums": sentences(
        "He paid 400 300 dollars.",
        "48 + 24 = 72 clips.",
        "There were 12 345 visitors in 2019-2020.",
        "Rooms 101-110 and 201-210.",
        "Take 1-2 tablets 3-4 times, 500-1000 mg.",
    ),
}


def _jwt(rng: Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    body = part({"sub": digits(rng, 10), "iat": rng.randrange(10**9, 2 * 10**9)})
    return f"{head}.{body}.{drawn(rng, _ALNUM + '-_', 43)}"


def _private_key(rng: Random) -> str:
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", "", "DSA ", "ENCRYPTED "])
    lines = "\n".join(drawn(rng, _ALNUM + "+/", 64) for _ in range(4))
    # In pieces, so that this file itself holds no key header.
    dashes = "-" * 5
    return (
        f"{dashes}BEGIN {kind}PRIVATE KEY{dashes}\n{lines}\n{dashes}END {kind}PRIVATE KEY{dashes}"
    )


def _token(prefix: str, alphabet: str, count: int, suffix: str = "") -> Make:
    return lambda rng: prefix + drawn(rng, alphabet, count) + suffix


def _strong(rng: Random) -> str:
    return drawn(rng, _ALNUM, 3) + digits(rng, 2) + drawn(rng, _ALNUM + "!#%_-", 11) + "x7Q"


def _slack_hook(rng: Random) -> str:
    team, hook = drawn(rng, _UPPER, 8), drawn(rng, _UPPER, 8)
    return f"https://hooks.slack.com/services/T{team}/B{hook}/{drawn(rng, _ALNUM, 24)}"


def _address_with_password(rng: Random) -> str:
    scheme = rng.choice(["postgres", "mysql", "mongodb", "https", "redis", "ftp"])
    return f"{scheme}://admin:{_strong(rng).replace('#', '_')}@db.example.com/app"


_UPPER = string.ascii_uppercase
_USED = (
    "My key is {}",
    "export KEY={}",
    "Use {} for now.",
    '"{}"',
    "curl -H 'X-Key: {}'",
    "I pasted {} here.",
)
SECRETS: Final[dict[str, Edit]] = {
    "private key": _told(("{}", "This is my key:\n{}"), _private_key),
    "AWS access key": _told(_USED, _token("AKIA", _UPPER + "234567", 16)),
    "AWS temporary key": _told(_USED, _token("ASIA", _UPPER + "234567", 16)),
    "AWS secret": _told(
        ("aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}"), _token("", _ALNUM + "+/", 40)
    ),
    "Google API key": _told(_USED, _token("AIza", _ALNUM + "-_", 35)),
    "Google OAuth": _told(_USED, _token("ya29.", _ALNUM + "-_", 60)),
    "GitHub": _told(_USED, lambda rng: f"gh{rng.choice('pousr')}_{drawn(rng, _ALNUM, 36)}"),
    "GitHub fine-grained": _told(
        _USED, lambda rng: f"github_pat_{drawn(rng, _ALNUM, 22)}_{drawn(rng, _ALNUM, 59)}"
    ),
    "GitLab": _told(_USED, _token("glpat-", _ALNUM + "-_", 20)),
    "Slack": _told(
        _USED,
        lambda rng: (
            f"xox{rng.choice('bpa')}-{digits(rng, 12)}-{digits(rng, 12)}-{drawn(rng, _ALNUM, 24)}"
        ),
    ),
    "Slack hook": _told(
        _USED,
        _slack_hook,
    ),
    "Stripe": _told(
        _USED,
        lambda rng: (
            f"{rng.choice(['sk', 'rk'])}_{rng.choice(['live', 'test'])}_{drawn(rng, _ALNUM, 24)}"
        ),
    ),
    "OpenAI": _told(
        _USED, lambda rng: f"sk-{drawn(rng, _ALNUM, 20)}T3BlbkFJ{drawn(rng, _ALNUM, 20)}"
    ),
    "OpenAI project": _told(_USED, _token("sk-proj-", _ALNUM + "-_", 80)),
    "Anthropic": _told(_USED, _token("sk-ant-api03-", _ALNUM + "-_", 93, "AA")),
    "Hugging Face": _told(_USED, _token("hf_", string.ascii_letters, 34)),
    "npm": _told(_USED, _token("npm_", _ALNUM, 36)),
    "PyPI": _told(_USED, _token("pypi-AgEIcHlwaS5vcmc", _ALNUM + "-_", 80)),
    "SendGrid": _told(_USED, lambda rng: f"SG.{drawn(rng, _ALNUM, 22)}.{drawn(rng, _ALNUM, 43)}"),
    "Telegram bot": _told(_USED, lambda rng: f"{digits(rng, 9)}1:AA{drawn(rng, _ALNUM, 33)}"),
    "JWT": _told((*_USED, "Authorization: Bearer {}"), _jwt),
    "address with password": _told(("{}", "connect to {}"), _address_with_password),
    "password assigned": _told(
        (
            "password = {}",
            "PASSWORD: {}",
            "db_password='{}'",
            '"api_key": "{}"',
            "API_KEY={}",
            'secret_key: "{}"',
            "access_token={}",
            "client_secret = '{}'",
            "auth_token: {}",
            "passwd={}",
            "pwd: {}",
        ),
        _strong,
    ),
    "password told": _told(
        ("My password is {}", "the password is {}, please check", "here is my password: {}"),
        _strong,
    ),
    "bearer": _told(
        ("Authorization: Bearer {}", "curl -H 'Authorization: Bearer {}'"),
        _token("", _ALNUM + "-_", 40),
    ),
}
NOT_SECRET: Final[dict[str, Edit]] = {
    "place for a key": pieces(
        "sk-...",
        "YOUR_API_KEY",
        "<API_KEY>",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_xxxxxxxx",
        "api_key=YOUR_API_KEY_HERE",
        "password=********",
        "token: <your token>",
        "${API_TOKEN}",
        "ghp_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    ),
    "from elsewhere": pieces(
        "password = os.environ['DB_PASSWORD']",
        "token = get_token()",
        "secret: ${{ secrets.TOKEN }}",
        "api_key = config.api_key",
        "password=$PASSWORD",
        "password: process.env.PASSWORD",
        'password = input("Password: ")',
    ),
    "about passwords": sentences(
        "How do I reset my password?",
        "The password is wrong, I think.",
        "The secret is to add butter.",
        "My password: I forgot it.",
        "The password is case-sensitive.",
        "My password is not working.",
        "Token: a small piece of text.",
        "Choose a password: at least 8 characters.",
        "password: required",
        "The password is incorrect.",
        "What is an API key: an explanation.",
        "Password policy: minimum-12-characters.",
    ),
    "hash": _told(
        ("commit {}", "sha1 {}", "checksum: {}", "md5 {}"),
        lambda rng: drawn(rng, "0123456789abcdef", rng.choice([32, 40, 64])),
    ),
    "UUID": _told(
        ("id {}", "session: {}", "request {}"),
        lambda rng: "-".join(drawn(rng, "0123456789abcdef", n) for n in (8, 4, 4, 4, 12)),
    ),
    "public key": sentences(
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "ssh-rsa AAAAB3NzaC1yc2E me@host",
    ),
    "image": _told(("data:image/png;base64,{}",), _token("iVBORw0KGgo", _ALNUM + "+/", 80)),
    "long words": sentences(
        "pneumonoultramicroscopicsilicovolcanoconiosis",
        "sk-learn is a library.",
        "The hf_hub module.",
        "npm_config_registry is a variable.",
        "task-oriented-dialogue-systems-with-goals",
        "basic_authentication_token_required_error",
        "risk-adjusted-return-on-capital",
    ),
    "addresses": pieces(
        "https://example.com/a:b@c",
        "ssh://git@github.com/x.git",
        "https://user@example.com/",
        "http://localhost:8080/@me",
    ),
    "order code": _told(
        ("My order code is {}.", "voucher {}"), lambda rng: drawn(rng, _UPPER + string.digits, 12)
    ),
}
