"""The architectures that fettle trains, and what differs between them.

In: nothing. Out: the table ``ARCHITECTURES``, keyed by the ``model_type`` of config.json, and where
the bundled starter lies. Must not know: files, weights, torch.

Every entry is built as a toy model in tests/unit/test_models_architectures.py, which checks
padding, losses, pooling, LoRA and generation; a type is listed only when it passes there. Those
with ``packing`` are checked in tests/equivalence/test_padding_free.py as well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STARTER = "starter"
RANDOM = "random:"
"""Before the directory of a base whose weights are to be drawn at random."""
STARTER_DIRECTORY = Path(__file__).resolve().parent.parent / "starter"

DROPOUTS = (
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "residual_dropout",
)
"""Keys of config.json by which a base drops something at random in training."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model's rows are computed in one line, without padding; see ``packed``.

    Names of modules are those inside the last of ``blocks``.
    """

    blocks: str | None = None
    """Where the list of blocks is in the body; None = the last one can't be treated by itself."""
    narrow: tuple[str, ...] = ()
    """The first part behind the last attention that adds in what came before it: it, and all that
    follows, can be computed for a few tokens alone."""
    scatter: tuple[str, ...] = ()
    """Parts that work token by token, and of whose result only that of the tokens that are read
    can reach them again."""
    head: str = "score"
    """The classifier's head, see ``heads``; score = a decoder's."""
    positions_after_pad: bool = False
    """Positions count from the pad token's id on, and pad tokens take none (RoBERTa)."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the code must know about one ``model_type``."""

    kind: Literal["encoder", "decoder"]
    attention: Literal["sdpa", "eager"] = "sdpa"
    """eager where transformers has no SDPA, or where SDPA would leave out a soft cap."""
    classifies: bool = True
    """Whether transformers has a sequence-classification model of it."""
    plain_head: bool = True
    """logits = lm_head(hidden state); False where the model scales or caps them afterwards."""
    packing: Packing | None = None
    """None where rows can't stand in one line: attention with biases or caps of its own, or none of
    transformers' attention interface."""


def _decoder(
    blocks: str, *scatter: str, plain_head: bool = True, classifies: bool = True
) -> Architecture:
    packing = Packing(blocks, scatter=scatter)
    return Architecture("decoder", classifies=classifies, plain_head=plain_head, packing=packing)


_LLAMA = ("layers", "self_attn.q_proj", "self_attn.o_proj", "mlp")
_DECODER = _decoder(*_LLAMA)


def _encoder(head: str, positions_after_pad: bool = False) -> Architecture:
    """An encoder whose blocks are built as BERT's are."""
    packing = Packing(
        "encoder.layer",
        narrow=("attention.output",),
        scatter=("attention.self.query",),
        head=head,
        positions_after_pad=positions_after_pad,
    )
    return Architecture("encoder", packing=packing)


ARCHITECTURES: dict[str, Architecture] = {
    # All its blocks share one set of weights.
    "albert": Architecture("encoder", packing=Packing(head="albert")),
    "bert": _encoder("pooler"),
    "camembert": _encoder("classifier", positions_after_pad=True),
    "deberta-v2": Architecture("encoder", attention="eager"),
    "distilbert": Architecture(
        "encoder",
        packing=Packing(
            "transformer.layer", ("sa_layer_norm",), ("attention.q_lin",), head="distilbert"
        ),
    ),
    "electra": _encoder("classifier"),
    "modernbert": Architecture(
        "encoder", packing=Packing("layers", scatter=("attn.Wo", "mlp"), head="modernbert")
    ),
    "mpnet": Architecture("encoder", attention="eager"),
    "roberta": _encoder("classifier", positions_after_pad=True),
    "xlm-roberta": _encoder("classifier", positions_after_pad=True),
    "cohere": _decoder(*_LLAMA, plain_head=False, classifies=False),
    "gemma": _DECODER,
    "gemma2": Architecture("decoder", attention="eager", plain_head=False),
    "gemma3_text": _decoder(*_LLAMA, plain_head=False),
    "gpt2": _decoder("h", "attn.c_proj", "mlp"),
    "gpt_neo": Architecture("decoder", attention="eager"),
    "gpt_neox": _decoder("layers", "attention.dense", "mlp"),
    "granite": _decoder(*_LLAMA, plain_head=False, classifies=False),
    "llama": _DECODER,
    "mistral": _DECODER,
    "olmo2": _DECODER,
    "olmo3": _DECODER,
    "phi": _decoder("layers", "self_attn.q_proj", "self_attn.dense", "mlp"),
    "phi3": _decoder("layers", "self_attn.o_proj", "mlp"),
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "smollm3": _DECODER,
    # Its layers do not hand keyword arguments down to the attention function.
    "stablelm": Architecture("decoder"),
    "starcoder2": _DECODER,
}
