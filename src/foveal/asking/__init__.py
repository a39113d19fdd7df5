"""Asking a model about pictures: one asker for local and served models."""
