"""Messages to token ids and back: one tokenizer, one renderer, for training and for serving."""

from fettle.verbs import callable_as_verb

callable_as_verb(__name__)
