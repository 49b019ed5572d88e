"""Kinds of tasks: each file one way to ask a model and to count its answers."""
