"""Files -> raw rows: bytes, encodings, formats, and how columns are usually named.

Start with ``read``. What a column means is decided in ``meaning``.
"""
