"""Readers of data that several tasks share, one for each kind of file."""
