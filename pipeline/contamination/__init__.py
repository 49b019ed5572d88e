"""Decontamination: which documents hold what evaluation sets ask, and where."""
