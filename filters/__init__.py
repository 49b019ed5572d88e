"""Pure functions from text to numbers and spans, and rules over those numbers.

Nothing here reads a file of a corpus, knows Arrow or imports another part of Headrace. `contract` says what a
signal is; every module of `signals` holds one family; `rules` decides; `spans` edits.
"""
