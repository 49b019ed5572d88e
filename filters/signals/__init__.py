"""Signals: one file per family, found by their registration."""
