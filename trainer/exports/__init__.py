"""The tokens of a plan in the formats of other trainers."""
