"""Extractors, one file each: `pipeline.extract` finds them here."""
