"""Write a model directory in LitGPT's format, with the adapter's A matrices beside the weights.

Run once, outside of any measurement: `python convert_litgpt.py HF_DIR ADAPTER_DIR NAME OUT`.
LitGPT keeps q, k and v in one matrix, and one A for each of the three below the other.
"""

import shutil
import sys
from pathlib import Path

import torch
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
from safetensors.torch import load_file

PLACES = {
    "attn.proj": "self_attn.o_proj",
    "mlp.fc_1": "mlp.gate_proj",
    "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}
WEIGHTS = "lit_model.pth"


def convert(source: Path, adapter: Path, name: str, out: Path) -> None:
    """Convert a checkpoint and put the adapter's initial A matrices into it."""
    staged = out.with_suffix(".part")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(source, staged)
    convert_hf_checkpoint(staged, model_name=name, dtype="float32")
    weights = torch.load(staged / WEIGHTS, mmap=False, weights_only=True)
    initial = load_file(adapter / "adapter_model.safetensors")
    layers = sum(1 for key in initial if key.endswith("self_attn.q_proj.lora_A.weight"))
    for layer in range(layers):
        before = f"base_model.model.model.layers.{layer}"
        parts = [initial[f"{before}.self_attn.{part}_proj.lora_A.weight"] for part in "qkv"]
        weights[f"transformer.h.{layer}.attn.qkv.lora_A"] = torch.cat(parts)
        for theirs, place in PLACES.items():
            weights[f"transformer.h.{layer}.{theirs}.lora_A"] = initial[
                f"{before}.{place}.lora_A.weight"
            ]
    torch.save(weights, staged / WEIGHTS)
    (staged / "model.safetensors").unlink()
    staged.rename(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
