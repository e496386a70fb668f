"""Where every record ended and what was done to it: account, ledger, cleaned copies, and back.

``account`` writes and reads the files; ``copies`` and ``fixed`` make a cleaned copy; ``restore``
brings rows back; ``earlier`` and ``updates`` compare with an account of before.
"""
