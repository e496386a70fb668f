"""Does the tokenizer fit the embedding?

In: a tokenizer and the base's facts. Out: nothing, or an error. Must not know: rows, tasks.
"""

from fettle.chat.tokenizer import Tokenizer
from fettle.errors import BaseModelError
from fettle.records.facts import BaseFacts


def check_vocabulary(tokenizer: Tokenizer, base: BaseFacts, template: str | None) -> None:
    """Refuse a tokenizer that gives ids for which the base has no row.

    More rows than tokens are usual (embeddings are padded to round numbers). Ids beyond the rows
    are let through only where no text can lead to them: special tokens that neither the template
    nor the tokenizer itself puts in (Gemma 3's text models carry one for images).

    Args:
        tokenizer: of the base.
        base: its ``vocab_size`` is the number of rows.
        template: source of the chat template in use; None = there is none.

    Raises:
        BaseModelError: E0538.
    """
    rows = base.vocab_size
    beyond = tokenizer.tokens_from(rows)
    used = {
        token
        for token in beyond
        if token not in tokenizer.special_tokens
        or token in tokenizer.named_tokens.values()
        or (template is not None and token in template)
    }
    before, after = tokenizer.affixes
    if not used and all(index < rows for index in (*before, *after)):
        return
    example = min(used or beyond, key=beyond.__getitem__)
    raise BaseModelError(
        "E0538",
        f"the tokenizer of the base {base.id} has ids up to {tokenizer.vocab_size - 1:,}, and the"
        f" embedding has {rows:,} rows",
        where=base.path,
        why=f"{len(beyond):,} tokens have no row, such as {example[:40]!r} with the id"
        f" {beyond[example]:,}",
        hint="take tokenizer.json from where the base was published; for tokens that you added,"
        " call transformers' model.resize_token_embeddings(len(tokenizer)) and save the model",
    )
