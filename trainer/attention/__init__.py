"""Attention: which positions see which (`seen`, `patterns`), how it is computed (`layouts`), and its kinds."""
