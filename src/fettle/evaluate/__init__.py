"""From two arms' predictions to a verdict.

Must not know: how predictions are made (no torch), how a report looks.
"""

from fettle.verbs import callable_as_verb

callable_as_verb(__name__)
