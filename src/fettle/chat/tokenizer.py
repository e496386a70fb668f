"""A tokenizer as Hugging Face stores it, without transformers.

In: a directory with tokenizer.json (and tokenizer_config.json, special_tokens_map.json, a chat
template, where there are any). Out: token ids that equal those of transformers' AutoTokenizer, with
character ranges where the loss mask needs them. Must not know: messages, templates, torch.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
import tokenizers.models

from fettle.errors import BaseModelError, DataError, FettleError
from fettle.records.run_directory import write_atomic

NAMED_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
"""The named special tokens of transformers; chat templates see each that is set."""

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
COPIED_FILES = (
    "tokenizer.json",
    CONFIG_FILE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.json",
    TEMPLATE_FILE,
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids with the half-open character range that each came from."""

    ids: list[int]
    starts: list[int]
    ends: list[int]

    def moved(self, first: int, by: int) -> "Encoded":
        """The tokens from index ``first`` on, their ranges moved by ``by`` characters."""
        return Encoded(
            self.ids[first:],
            [max(0, start + by) for start in self.starts[first:]],
            [max(0, end + by) for end in self.ends[first:]],
        )

    def kept(self, count: int) -> "Encoded":
        """The first ``count`` tokens."""
        return Encoded(self.ids[:count], self.starts[:count], self.ends[:count])

    def followed_by(self, other: "Encoded") -> "Encoded":
        """Both, one after the other."""
        return Encoded(self.ids + other.ids, self.starts + other.starts, self.ends + other.ends)


class Tokenizer:
    """Text to token ids and back. Use ``Tokenizer.load``."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        named: Mapping[str, str],
        chat_template: str | None,
        directory: Path,
    ) -> None:
        # Length is our own business: rows are cut or refused in data/tokenize, never here.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.directory = directory
        self.named_tokens: dict[str, str] = dict(named)
        self.chat_template = chat_template
        self.bos_token = named.get("bos_token")
        self.eos_token = named.get("eos_token")
        self.pad_token = named.get("pad_token")
        self.unk_token = named.get("unk_token")
        self.bos_id = self.token_id(self.bos_token)
        self.eos_id = self.token_id(self.eos_token)
        self.unk_id = self.token_id(self.unk_token)
        pad_id = self.token_id(self.pad_token)
        # Padding is always masked, so any id does when neither is named.
        self.pad_id: int = next((i for i in (pad_id, self.eos_id) if i is not None), 0)
        added = backend.get_added_tokens_decoder()
        self.added_tokens: dict[str, int] = {token.content: index for index, token in added.items()}
        self.special_tokens: tuple[str, ...] = tuple(
            token.content for _, token in sorted(added.items()) if token.special
        )
        self._added_ids = frozenset(self.added_tokens.values())
        # Such a token is found before anything else looks at the text, whatever surrounds it: the
        # ids on its left do not depend on the text on its right.
        self.anchor_ids = frozenset(
            index
            for index, token in added.items()
            if not (token.normalized or token.lstrip or token.rstrip or token.single_word)
        )
        self._special = token_pattern(self.special_tokens)
        newline = self.encode("\n", add_special_tokens=False)
        # What follows an unknown newline may melt into it.
        self._newline = [] if _unknown_id(backend, self.unk_token) in newline else newline

    @classmethod
    def load(cls, directory: str | Path) -> "Tokenizer":
        """Read a tokenizer from a model directory.

        Args:
            directory: folder with tokenizer.json.

        Returns:
            The tokenizer, with the template that the directory brings, if any.

        Raises:
            BaseModelError: E0560 there is no tokenizer.json, E0561 a file can't be read.
        """
        folder = Path(directory)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BaseModelError(
                "E0560",
                f"{folder} has no tokenizer.json",
                why="fettle reads only this format of tokenizers",
                hint='make one with stock transformers: python -c "from transformers import'
                f" AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')\"",
            )
        try:
            backend = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except FettleError:  # Ctrl-C may arrive right here
            raise
        except Exception as error:  # the Rust side raises bare Exception
            raise _unreadable(path, error) from error
        config = _read_object(folder / CONFIG_FILE)
        # As in transformers: the older map counts only where the config does not list the tokens.
        if "added_tokens_decoder" not in config:
            config = {**config, **_read_object(folder / "special_tokens_map.json")}
        named = {name: text for name in NAMED_TOKENS if (text := _token_text(config.get(name)))}
        padding = backend.padding
        if padding is not None:
            named.setdefault("pad_token", padding["pad_token"])
        try:
            _add_missing(backend, config, named.values())
        except (TypeError, ValueError, AttributeError) as error:
            raise _unreadable(folder / CONFIG_FILE, error) from error
        return cls(backend, named, _find_template(folder, config), folder)

    # --- names ---------------------------------------------------------------------------------

    def token_id(self, token: str | None) -> int | None:
        """The id of one token; None for None and for a string that is no token."""
        return None if token is None else self._backend.token_to_id(token)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id: the rows that an embedding needs at least."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    def tokens_from(self, first_id: int) -> dict[str, int]:
        """The tokens whose id is at least this, added ones included."""
        vocabulary = self._backend.get_vocab(with_added_tokens=True)
        return {token: index for token, index in vocabulary.items() if index >= first_id}

    @cached_property
    def affixes(self) -> tuple[list[int], list[int]]:
        """The ids that the post-processor puts before and after a text (such as [CLS], [SEP])."""
        bare = self.encode("a", add_special_tokens=False)
        full = self.encode("a", add_special_tokens=True)
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        return [], []

    @property
    def adds_bos(self) -> bool:
        """Whether a plain text gets the bos token in front."""
        return self.bos_id is not None and self.affixes[0][:1] == [self.bos_id]

    def is_added(self, index: int) -> bool:
        """Whether this id is an added token (special or not), found as a whole in text."""
        return index in self._added_ids

    # --- text to ids ---------------------------------------------------------------------------

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids; tokens' own strings in the text become those tokens.

        Args:
            text: any text.
            add_special_tokens: let the post-processor add its own ([CLS], bos, ...).

        Returns:
            The ids that transformers' tokenizer gives.
        """
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def encode_plain(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a user's text: the strings of special tokens in it stay ordinary text.

        Args:
            text: any text.
            add_special_tokens: put the post-processor's own tokens around it.
        """
        return self.encode_many([text], add_special_tokens)[0]

    def encode_many(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[int]]:
        """``encode_plain`` of many texts, in parallel.

        Args:
            texts: users' texts.
            add_special_tokens: put the post-processor's own tokens around each.

        Returns:
            One list of ids for each text, in order.
        """
        before, after = self.affixes if add_special_tokens else ([], [])
        clean = [i for i, text in enumerate(texts) if not self._special.search(text)]
        encodings = self._backend.encode_batch_fast(
            [texts[i] for i in clean], add_special_tokens=False
        )
        bodies = {i: list(encoding.ids) for i, encoding in zip(clean, encodings, strict=True)}
        return [
            before + (bodies[i] if i in bodies else self._encode_split(text)) + after
            for i, text in enumerate(texts)
        ]

    def encode_offsets(self, text: str) -> Encoded:
        """Token ids with character ranges, from the start of a text, without affixes."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        offsets = encoding.offsets
        return Encoded(
            list(encoding.ids), [start for start, _ in offsets], [end for _, end in offsets]
        )

    def encode_next(self, text: str) -> Encoded:
        """Token ids with character ranges of a text that follows another.

        Encoded behind a newline, which is taken off again, so that a tokenizer of the
        SentencePiece kind puts no space in front (as transformers does for marked chats).
        """
        count = len(self._newline)
        if count:
            encoded = self.encode_offsets("\n" + text)
            if encoded.ids[:count] == self._newline:
                return encoded.moved(count, -1)
        return self.encode_offsets(text)

    def encode_as_text(self, text: str) -> list[int]:
        """Token ids of a text that follows another, with no added token found in it.

        Args:
            text: typically the string of a control token, out of a user's message.

        Raises:
            DataError: E0707, the vocabulary can spell the text only as that token.
        """
        ids = self._without_added(text)
        if not self._added_ids.isdisjoint(ids):
            # A unigram vocabulary may hold the whole string as one piece; single characters can't.
            ids = [index for character in text for index in self._without_added(character)]
        if not self._added_ids.isdisjoint(ids):
            raise DataError(
                "E0707",
                f"{text!r} in a message can't be told apart from the control token",
                why="this tokenizer makes the control token out of plain text too",
                hint="remove it from the row",
            )
        return ids

    def _without_added(self, text: str) -> list[int]:
        count = len(self._newline)
        if count:
            ids = self._pipeline("\n" + text)
            if ids[:count] == self._newline:
                return ids[count:]
        return self._pipeline(text)

    def _pipeline(self, text: str) -> list[int]:
        backend = self._backend
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        words = [text]
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in backend.model.tokenize(word)]

    def _encode_split(self, text: str) -> list[int]:
        ids: list[int] = []
        done = 0
        for match in self._special.finditer(text):
            if match.start() > done:
                piece = text[done : match.start()]
                ids += self.encode_next(piece).ids if done else self.encode(piece, False)
            ids += self.encode_as_text(match.group())
            done = match.end()
        if done < len(text):
            ids += self.encode_next(text[done:]).ids
        return ids

    # --- ids to text ---------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids."""
        return self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    # --- files ---------------------------------------------------------------------------------

    def save_into(self, directory: str | Path, chat_template: str | None) -> None:
        """Copy the tokenizer into a model directory so that stock transformers loads it.

        Args:
            directory: an existing folder.
            chat_template: template source to save with it; None keeps what the base brought.

        Raises:
            MachineError: E0401, the disk refused.
        """
        target = Path(directory)
        for name in COPIED_FILES:
            source = self.directory / name
            if source.is_file():
                write_atomic(target / name, source.read_bytes())
        if chat_template is None:
            return
        write_atomic(target / TEMPLATE_FILE, chat_template)
        config = _read_object(target / CONFIG_FILE)
        if config.pop("chat_template", None) is not None:  # one truth only
            text = json.dumps(config, indent=2, ensure_ascii=False)
            write_atomic(target / CONFIG_FILE, text + "\n")


def token_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest first; for none it never matches."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _unknown_id(backend: tokenizers.Tokenizer, named: str | None) -> int | None:
    """The id of the unknown token, as the config or the model names it."""
    model = backend.model
    by_token = (tokenizers.models.BPE, tokenizers.models.WordLevel, tokenizers.models.WordPiece)
    unknown = named or (model.unk_token if isinstance(model, by_token) else None)
    return None if unknown is None else backend.token_to_id(unknown)


def _add_missing(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], named: Iterable[str]
) -> None:
    """Make the config's tokens known to the backend, as transformers does on loading."""
    known = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder") or {}
    fields = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for _, token in sorted(listed.items(), key=lambda item: int(item[0])):
        if token["content"] not in known:
            flags = {name: token[name] for name in fields if name in token}
            backend.add_tokens([tokenizers.AddedToken(token["content"], **flags)])
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    extra_tokens = extra.values() if isinstance(extra, dict) else extra
    wanted = [*named, *(text for item in extra_tokens if (text := _token_text(item)))]
    for text in wanted:
        if text not in known or not known[text].special:
            token = tokenizers.AddedToken(text, special=True, normalized=False)
            backend.add_special_tokens([token])


def _token_text(value: object) -> str | None:
    """The string of a token that a config spells as a string or as an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _find_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    path = folder / TEMPLATE_FILE
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    template = config.get("chat_template")
    if template is None:
        template = _read_object(folder / "chat_template.json").get("chat_template")
    if isinstance(template, list):  # several templates by name
        by_name = {
            item.get("name"): item.get("template") for item in template if isinstance(item, dict)
        }
        template = by_name.get("default")
    return template if isinstance(template, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(value, dict):
        raise _unreadable(path, ValueError("not a JSON object"))
    return value


def _unreadable(path: Path, error: Exception) -> BaseModelError:
    return BaseModelError(
        "E0561",
        f"{path} can't be read as a tokenizer file: {error}",
        hint="download the base again, or save its tokenizer again with stock transformers",
    )
