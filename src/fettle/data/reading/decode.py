"""Bytes of a file -> text, with the encoding that was found.

In: a path, or bytes. Out: bytes without compression, or ``Decoded`` text. Must not know: formats.

UTF-8 comes first. Bytes that are not UTF-8 stay in the text as lone surrogates (PEP 383), so that
the one record that holds them can be named and quarantined while reading goes on.
"""

import codecs
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import from_bytes

from fettle.errors import DataError, MachineError, UsageError

MAX_FILE_BYTES = 4 * 1024**3
"""A file is held in memory; above this (after decompression) it has to be cut by the user."""
MAX_RECORD_CHARS = 16 * 1024**2
"""A single record above this is malformed: no model reads a row of 16 MiB."""

_MIN_BOMB = 64 * 1024**2
_MAX_RATIO = 200
"""Real text shrinks to a tenth or so; gzip can reach a thousandth."""
_SAMPLE_BYTES = 256 * 1024
_MAX_CONTROL_SHARE = 0.05
_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program (ELF)",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\xd0\xcf\x11\xe0": "an office document",
    b"\x93NUMPY": "a NumPy array",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"ARROW1": "an Arrow file",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95\]\}\(c\x8c\x8a]|\((?:lp|dp)\d?\n|ccopy_reg\n")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = bytes(i for i in range(32) if i not in b"\t\n\r\f\x1b") + b"\x7f"
_SURROGATE = re.compile("[\ud800-\udfff]")
# Bytes that no text in a Western single-byte encoding holds in practice.
_NOT_TEXT = re.compile(rb"[\xfe\xff\x81\x8d\x8f\x90\x9d]")
_WESTERN = frozenset(
    "àâäáãåæçèéêëìíîïñòóôöõøœùúûüßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØŒÙÚÛÜ‘’“”„–—…•€£¡¿«»°©®™ªº§·´½"
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text of a file."""

    text: str
    encoding: str
    has_invalid: bool
    """Whether some bytes were not valid; they are lone surrogates in ``text``."""


def load(path: Path, data: bytes) -> bytes:
    """The content of a file without its gzip layer; refuses binary content.

    Args:
        path: for messages.
        data: the bytes as stored.
    Raises:
        DataError: E0320 binary, E0321 damaged gzip, E0322 too large.
    """
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(path, data)
    if data[:4] == b"PAR1":
        return data
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None and _PICKLE.match(data):
        kind = "a pickle"
    if kind is None and not _utf16_order(data) and not any(data.startswith(b) for b, _ in _BOMS):
        sample = data[:_SAMPLE_BYTES]
        control = len(sample) - len(sample.translate(None, _CONTROL))
        # A few control bytes in a short text are damage, which is named row by row.
        if control > 8 and control > _MAX_CONTROL_SHARE * len(sample):
            kind = "binary data"
    if kind is not None:
        raise _binary(path, kind)
    return data


def read_bytes(path: Path) -> bytes:
    """The bytes of a file as stored.

    Raises:
        DataError: E0322, it is too large.
        MachineError: E0410, the operating system refuses.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _too_large(path)
        return path.read_bytes()
    except OSError as error:
        raise MachineError(
            "E0410",
            f"can't read {path}: {error.strerror or error}",
            hint=f"check the permissions: ls -l '{path}'",
        ) from error


def decode(path: Path, data: bytes, encoding: str | None) -> Decoded:
    """Bytes to text: a byte order mark, then UTF-8, then what charset-normalizer finds.

    A file that is UTF-8 but for some lines stays UTF-8 with those lines invalid; it is taken for
    another encoding only when no line holds valid multi-byte UTF-8 or most of them are invalid.

    Args:
        path: for messages.
        data: content without compression.
        encoding: the user's choice, or None.
    Raises:
        DataError: E0320 when no encoding fits, E0323 when the named one does not.
        UsageError: E0133, no such encoding.
    """
    if encoding is not None:
        return _decode_as(path, data, encoding)
    for bom, name in _BOMS:
        if data.startswith(bom):
            return _decode_as(path, data, name)
    order = _utf16_order(data)
    if order is not None:
        return _decode_as(path, data, order)
    try:
        return Decoded(data.decode("utf-8"), "utf-8", has_invalid=False)
    except UnicodeDecodeError:
        return _decode_damaged(path, data)


def printable(text: str) -> str:
    """The text with lone surrogates shown as ``\\xff`` or ``\\ud800``, fit to be written."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    parts = re.split(rb"(\xed[\xb2\xb3][\x80-\xbf])", raw)
    # PEP 383: U+DC80..U+DCFF stand for the bytes 0x80..0xFF.
    shown = (
        f"\\x{ord(part.decode('utf-8', 'surrogatepass')) - 0xDC00:02x}".encode()
        if index % 2 and part >= b"\xed\xb2\x80"
        else part
        for index, part in enumerate(parts)
    )
    return b"".join(shown).decode("utf-8", "backslashreplace")


def _decode_as(path: Path, data: bytes, encoding: str) -> Decoded:
    try:
        codec = codecs.lookup(encoding)
    except LookupError as error:
        raise UsageError(
            "E0133", f"unknown encoding '{encoding}'", hint="for example --set data.encoding=utf-8"
        ) from error
    name = codec.name
    wide = name.startswith(("utf-16", "utf-32"))
    if name == "utf-8" and data.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    try:
        text = data.decode(name, "strict" if wide else "surrogateescape")
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            "E0323",
            f"{path} is not {encoding}: {error}",
            hint="leave out data.encoding to have it detected, or name the right one",
        ) from error
    if not isinstance(text, str):
        raise UsageError("E0133", f"'{encoding}' is not a text encoding")
    return Decoded(text.removeprefix("\ufeff"), name, _SURROGATE.search(text) is not None)


def _decode_damaged(path: Path, data: bytes) -> Decoded:
    """The bytes are not UTF-8 throughout: damaged UTF-8, or another encoding."""
    valid: list[bytes] = []
    invalid: list[bytes] = []
    for line in data.split(b"\n"):
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            invalid.append(line)
        else:
            valid.append(line)
    if valid and len(valid) > len(invalid):
        return _decode_as(path, data, "utf-8")
    mostly_invalid = len(invalid) > 0.5 * (data.count(b"\n") + 1)
    sample = b"\n".join(invalid)[:_SAMPLE_BYTES]
    name = None
    if mostly_invalid or not (valid or _NOT_TEXT.search(sample)):
        name = _guess(data[:_SAMPLE_BYTES] if mostly_invalid else sample)
    if name is not None:
        return _decode_as(path, data, name)
    if mostly_invalid and len(invalid) > 1:
        raise _binary(path, "binary data")
    return _decode_as(path, data, "utf-8")


def _guess(sample: bytes) -> str | None:
    """The likeliest encoding: Windows-1252 where it gives accents of Western Europe among plain
    letters, which statistics on short texts mistake for its relatives; else by statistics."""
    try:
        western = sample.decode("cp1252")
    except UnicodeDecodeError:
        western = ""
    accents = [char for char in western if not char.isascii()]
    num_letters = sum(char.isalpha() for char in western)
    usual = sum(char in _WESTERN for char in accents)
    if accents and usual >= 0.9 * len(accents) and len(accents) < 0.4 * num_letters:
        return "cp1252"
    best = from_bytes(sample).best()
    return None if best is None or best.encoding in ("utf_8", "ascii") else best.encoding


def _utf16_order(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: every second byte of Latin text is zero."""
    sample = data[: _SAMPLE_BYTES // 2 * 2]
    if len(sample) < 4:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) / 2
    if odd > 0.6 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.6 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None


def _gunzip(path: Path, data: bytes) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as handle:
            while chunk := handle.read(16 * 1024**2):
                size += len(chunk)
                if size > MAX_FILE_BYTES:
                    raise _too_large(path)
                if size > _MIN_BOMB and size > _MAX_RATIO * len(data):
                    raise DataError(
                        "E0339",
                        f"{path} unpacks to more than {_MAX_RATIO} times its size",
                        why="No text that is worth learning from is that repetitive; it may be made"
                        " to fill the memory",
                        hint="unpack it yourself if you trust it, and give the file without .gz",
                    )
                chunks.append(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            "E0321",
            f"{path} is a damaged gzip file: {error}",
            hint=f"fetch it again; `gzip -t '{path}'` must say nothing",
        ) from error
    return b"".join(chunks)


def _binary(path: Path, kind: str) -> DataError:
    return DataError(
        "E0320",
        f"{path} is {kind}, not a data file",
        hint="give CSV, TSV, JSON, JSONL, Parquet or plain text, each plain or .gz"
        " (a spreadsheet: save it as CSV)",
    )


def _too_large(path: Path) -> DataError:
    return DataError(
        "E0322",
        f"{path} is larger than {MAX_FILE_BYTES // 1024**3} GiB",
        hint="cut it into smaller files and give their folder",
    )
