"""Metrics of generated text, most of them kept libraries' own."""
