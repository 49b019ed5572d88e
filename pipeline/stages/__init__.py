"""Stages: one file per kind of work, found by their registration."""
