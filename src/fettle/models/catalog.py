"""The architectures that fettle trains, and what differs between them.

In: nothing. Out: the table ``ARCHITECTURES``, keyed by the ``model_type`` of config.json, and where
the bundled starter lies. Must not know: files, weights, torch.

Every entry is built as a toy model in tests/unit/test_models_architectures.py, which checks
padding, losses, pooling, LoRA and generation; a type is listed only when it passes there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

STARTER = "starter"
STARTER_DIRECTORY = Path(__file__).resolve().parent.parent / "starter"


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


_ENCODER = Architecture("encoder")
_DECODER = Architecture("decoder")

ARCHITECTURES: dict[str, Architecture] = {
    "albert": _ENCODER,
    "bert": _ENCODER,
    "camembert": _ENCODER,
    "deberta-v2": Architecture("encoder", attention="eager"),
    "distilbert": _ENCODER,
    "electra": _ENCODER,
    "modernbert": _ENCODER,
    "mpnet": Architecture("encoder", attention="eager"),
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "cohere": Architecture("decoder", classifies=False, plain_head=False),
    "gemma": _DECODER,
    "gemma2": Architecture("decoder", attention="eager", plain_head=False),
    "gemma3_text": Architecture("decoder", plain_head=False),
    "gpt2": _DECODER,
    "gpt_neo": Architecture("decoder", attention="eager"),
    "gpt_neox": _DECODER,
    "granite": Architecture("decoder", classifies=False, plain_head=False),
    "llama": _DECODER,
    "mistral": _DECODER,
    "olmo2": _DECODER,
    "olmo3": _DECODER,
    "phi": _DECODER,
    "phi3": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "smollm3": _DECODER,
    "stablelm": _DECODER,
    "starcoder2": _DECODER,
}
