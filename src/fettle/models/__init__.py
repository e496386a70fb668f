"""Pretrained models: found, checked, loaded, adapted, run forward and saved. Needs torch."""
