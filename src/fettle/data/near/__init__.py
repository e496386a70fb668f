"""Near duplicates: rows that nearly say the same, contain each other or belong together.

Start with ``clusters``; ``pairs`` finds, the other files are its parts.
"""

from fettle.data.near.clusters import Clusters, Link, clusters, shown_text
from fettle.data.near.pairs import Found, Pair, find

__all__ = ["Clusters", "Found", "Link", "Pair", "clusters", "find", "shown_text"]
