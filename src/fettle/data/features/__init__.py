"""Features of texts that need no download, and linear models on them.

``hashed`` for many rows, ``features`` for the baselines of a verdict, ``linear`` for the models.
"""
