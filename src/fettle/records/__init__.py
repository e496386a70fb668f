"""The values that pass between stages: plain, frozen, free of torch."""
