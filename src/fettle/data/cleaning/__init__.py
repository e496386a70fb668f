"""What is done about faults: repairs of text, masks, policies by kind, waivers.

What was done is written down in ``account``.
"""
