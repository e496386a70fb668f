"""Whether training rows are like the rows that a model will meet: start with ``represent``."""
