"""Pretrained models: found, checked, loaded, adapted, run forward and saved. Needs torch."""

import os

# oneDNN keeps every matrix product that it prepared, with its scratch memory, 1,024 of them.
# Without padding each step has a number of tokens of its own, and a small model came to twice the
# memory (docs/concepts/tried.md). It is read at the first product, so here is early enough.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
# Large tensors on huge pages, where Linux offers them: without, the pages of every step's new
# tensors are handed out one by one (MiniLM: a step takes 8 % longer). Read at the first allocation:
# a program that made tensors, or imported transformers, before it imported fettle goes without.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
