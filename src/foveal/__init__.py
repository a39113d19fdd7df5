"""Foveal teaches vision-language models to see detail."""

__version__ = "0.1.0"
