"""From two arms' predictions to a verdict.

Must not know: how predictions are made (no torch), how a report looks.
"""
