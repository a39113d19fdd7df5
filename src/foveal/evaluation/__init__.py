"""Predicting, measuring and showing."""
