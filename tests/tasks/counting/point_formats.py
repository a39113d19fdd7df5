"""How exactly points are written."""

from __future__ import annotations

from foveal.tasks.counting.pointing import BINS, CELLS, Form


def resolution(size: tuple[int, int], form: Form) -> tuple[float, float]:
    """How far a point that was written and read may be from the original, in x and in y, in pixels of the picture.

    Half a tenth of a percent of the side in ``percent`` and ``plain``, half a cell in ``bins`` and ``cells``.
    """
    half = {"bins": 0.5 / BINS, "cells": 0.5 / CELLS}.get(form, 0.0005)
    return size[0] * half, size[1] * half
