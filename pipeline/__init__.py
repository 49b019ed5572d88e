"""Readers, stages, artifacts and engines: from raw bytes to a verified corpus."""
