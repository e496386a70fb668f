"""From raw files to rows with a split: read, understand, check, split, account for, tokenize."""
