"""What one text may ask of memory."""

MOST_WORDS = 11_000_000
"""Words of one text that are looked at: with tables two thirds full, what the signals keep of them stays below 1 GB."""
