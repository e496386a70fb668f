"""The report and the model card: what a person reads about a run, written from its files alone."""

from fettle.report.model_card import write_card
from fettle.report.report import write_report
from fettle.verbs import callable_as_verb

__all__ = ["write_card", "write_report"]

callable_as_verb(__name__)
