"""Raw rows -> examples: which column is what, conversations, labels, numbers, row ids.

``detect`` finds the layout, ``normalize`` makes the examples.
"""
