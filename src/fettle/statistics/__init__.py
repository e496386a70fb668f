"""Paired tests, intervals and power: numbers in, numbers out.

Must not know: predictions, metrics, plans, files.
"""
