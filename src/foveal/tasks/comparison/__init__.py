"""Pairwise comparison: which of two pictures has more of a rated quality, and the ranking that follows."""
