"""Texts as times: ISO dates and times, and numbers since 1970.

In: the values of columns. Out: microseconds since 1970, UTC; which column looks like a time. Must
not know: rows, sides.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fettle.data.meaning.profile import Profile

TIMES = (
    "timestamp", "created_at", "datetime", "date_time", "date", "time", "created", "created_on",
    "sent_at", "posted_at", "published_at", "received_at", "published", "updated_at",
)  # fmt: skip
"""What columns with the time of a row are usually called, the likeliest first."""
MIN_READABLE = 0.95
"""Share of rows from which on a column by such a name is called a time."""
MAX_CHARACTERS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# From 1980 to 2199: then seconds, milliseconds, micro- and nanoseconds can't be taken for each
# other, nor for digits such as 20240131 or 202401311200.
_FIRST_SECOND, _END_SECOND = 315_532_800, 7_258_118_400
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_ISO = re.compile(r"[0-9]{4}(-[0-9]{2}-[0-9]{2}|-W[0-9]{2}-[0-9]|[0-9]{4})([T ].+)?")
_SLASHES = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})")
_SPACED_ZONE = re.compile(r" (?=[+-][0-9]{2}:?[0-9]{2}$)")


def parse_time(text: str | None) -> int | None:
    """The time that a text names.

    Args:
        text: an ISO 8601 date or time (also a year, a month, 2024/01/31, 20240131123000), without
            a zone read as UTC; or seconds, milli-, micro- or nanoseconds since 1970.
    Returns:
        Microseconds since 1970, UTC; None where the text is none of these. A day is its first
        moment.
    """
    if text is None or len(text) > MAX_CHARACTERS:
        return None
    text = text.strip().upper()
    if text.isdecimal() and len(text) in (4, 8, 14):
        text = {4: f"{text}-01-01", 14: f"{text[:8]}T{text[8:]}"}.get(len(text), text)
    elif _NUMBER.fullmatch(text):
        return _since_epoch(Decimal(text))
    elif _MONTH.fullmatch(text):
        text = f"{text}-01"
    text = _SLASHES.sub(r"\1-\2-\3", text, count=1)
    text = _SPACED_ZONE.sub("", re.sub(" ?(UTC|GMT)$", "+00:00", text))
    if not _ISO.fullmatch(text):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _since_epoch(amount: Decimal) -> int | None:
    for power in (0, 3, 6, 9):
        if _FIRST_SECOND <= amount.scaleb(-power) < _END_SECOND:
            return int(amount.scaleb(6 - power))
    return None


def time_hint(profiles: Iterable[Profile]) -> list[str]:
    """What to say about the first column that holds times; a hint, since a date may be any date.

    Args:
        profiles: columns whose names say that they may be times.
    """
    found = next((profile for profile in profiles if _looks_like_time(profile)), None)
    if found is None:
        return []
    return [
        f'"{found.name}" looks like a time; --time {found.name} makes the holdout the latest rows'
    ]


def _looks_like_time(profile: Profile) -> bool:
    if profile.num_distinct < 2 or profile.num_filled < MIN_READABLE * profile.num_rows:
        return False
    # Four digits may be a year and may be anything.
    times = [value for value in profile.values if len(value.strip()) > 4]
    readable = sum(parse_time(value) is not None for value in times)
    return readable >= MIN_READABLE * profile.num_distinct


def shown_time(time: int) -> str:
    """A time as a reader knows it; a day where it is the first moment of one."""
    moment = _EPOCH + timedelta(microseconds=time)
    whole_day = time % 86_400_000_000 == 0
    return f"{moment:%Y-%m-%d}" if whole_day else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
