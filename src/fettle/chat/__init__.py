"""Messages to token ids and back: one tokenizer, one renderer, for training and for serving."""
