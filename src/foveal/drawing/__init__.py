"""Figures, contact sheets, films, overlays and thumbnails: pictures made by Pillow."""
