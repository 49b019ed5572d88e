"""Repairers, one file each: `pipeline.repair` finds them here."""
