"""Training: objectives, the loop, checkpoints."""

from fettle.verbs import callable_as_verb

callable_as_verb(__name__)
