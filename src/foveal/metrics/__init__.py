"""Intervals, calibration, confusion matrices and number formats: pure functions on arrays."""
