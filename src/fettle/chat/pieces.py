"""A rendered chat to token ids, such that a prompt's ids begin those of the whole chat.

In: text, the regions of it that a user wrote and that must stay text, and the places where an
answer starts. Out: ids with character ranges. Must not know: messages, templates.
"""

from collections.abc import Sequence

from fettle.chat.tokenizer import Encoded, Tokenizer

Region = tuple[int, int]
"""Half-open character range."""


def encode_pieces(
    tokenizer: Tokenizer, text: str, plain: Sequence[Region], cuts: Sequence[int]
) -> Encoded:
    """Token ids of a rendered chat.

    For every cut c, the result begins with ``encode_pieces(text[:c])`` (with the same regions and
    earlier cuts): what a server sends as the prompt is what training saw before the answer.
    Where the tokenizer splits there by itself, the ids are those of the whole text in one go.

    Args:
        tokenizer: the tokenizer.
        text: the rendered chat.
        plain: sorted disjoint regions to encode as text, with no control token found in them.
        cuts: sorted positions at which answers start.

    Returns:
        ids and character ranges in ``text``.
    """
    done = Encoded([], [], [])
    position = 0
    for start, end in [*plain, (len(text), len(text))]:
        inner = [cut for cut in cuts if position < cut < start]
        done = done.followed_by(_encode_part(tokenizer, text, position, inner, start))
        if end > start:
            ids = tokenizer.encode_as_text(text[start:end])
            done = done.followed_by(Encoded(ids, [start] * len(ids), [end] * len(ids)))
        position = end
    return done


def _encode_part(
    tokenizer: Tokenizer, text: str, start: int, cuts: Sequence[int], end: int
) -> Encoded:
    """Encode text[start:end] step by step: each step ends at a cut and keeps the ids before it."""
    done = Encoded([], [], [])
    base, base_index, before = start, 0, start
    for stop in [*cuts, end]:
        if stop == before:
            continue
        # From the last anchor on, text[base:stop] in one go gives what the whole text would give.
        block = _encode_from(tokenizer, text, base, stop)
        kept = len(done.ids) - base_index
        if block.ids[:kept] == done.ids[base_index:]:
            done = done.kept(base_index).followed_by(block)
        else:  # the tokenizer would merge across the cut
            done = done.followed_by(_encode_from(tokenizer, text, before, stop))
            base, base_index = before, base_index + kept
        anchor = _last_anchor(tokenizer, done, base_index)
        if anchor is not None:
            base, base_index = done.starts[anchor], anchor
        before = stop
    return done


def _encode_from(tokenizer: Tokenizer, text: str, start: int, end: int) -> Encoded:
    if start == 0:
        return tokenizer.encode_offsets(text[:end])
    return tokenizer.encode_next(text[start:end]).moved(0, start)


def _last_anchor(tokenizer: Tokenizer, encoded: Encoded, first: int) -> int | None:
    for index in range(len(encoded.ids) - 1, first, -1):
        if encoded.ids[index] in tokenizer.anchor_ids:
            return index
    return None
