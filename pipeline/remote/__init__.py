"""Stores that lie elsewhere: read by ranges through fsspec, again when that fails, and kept in a bounded cache."""
