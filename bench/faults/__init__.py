"""Injectors of known faults: clean rows in, dirty rows with an answer key out.

One module for each family of faults. They are written before the detectors and know nothing of
them; ``bench.detection`` compares what a detector says with the answer key.
"""
