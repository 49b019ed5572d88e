"""Readers: one file per input format, found by their registration."""
