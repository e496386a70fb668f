"""Models at work: labels, losses, representations and generated text. Needs torch."""
