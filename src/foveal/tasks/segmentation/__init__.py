"""Segmentation: which pixels does a sentence mean?"""
