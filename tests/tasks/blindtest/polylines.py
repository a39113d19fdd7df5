"""Where polylines meet, in exact arithmetic: a puzzle's truth must not depend on rounding."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

Number = int | Fraction
Point = tuple[Number, Number]


def orientation(p: Point, q: Point, r: Point) -> Number:
    """Twice the signed area of the triangle pqr: zero where the three are on one line, else its sign tells the turn."""
    return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])


def meeting_point(p: Point, q: Point, r: Point, s: Point) -> Point | None:
    """The one point that the segments pq and rs share, their ends included, or None where they share none.

    Raises:
        ValueError: They share a stretch, or one of them is a single point.
    """
    if p == q or r == s:
        raise ValueError(f"a segment from {p if p == q else r} to itself has no direction")
    at_p, at_q = orientation(r, s, p), orientation(r, s, q)
    at_r, at_s = orientation(p, q, r), orientation(p, q, s)
    if at_p == at_q == 0:
        low, high = max(min(p, q), min(r, s)), min(max(p, q), max(r, s))
        if low < high:
            raise ValueError(
                f"the segments share the stretch from {low} to {high}; their meeting points have no number"
            )
        return low if low == high else None
    if at_p * at_q > 0 or at_r * at_s > 0:
        return None
    share = Fraction(at_p) / (at_p - at_q)
    return p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])


def count_intersections(a: Sequence[Point], b: Sequence[Point]) -> int:
    """In how many different points two polylines meet.

    Crossing and touching count alike, at vertices and at the lines' ends too, and a point counts once, however many
    segments run through it. (BlindTest counts segment by segment, so that two lines that share a vertex would meet
    twice there; its generator never makes such lines.)

    Args:
        a: Vertices of one line with integer or rational coordinates, in any unit; consecutive ones differ.
        b: Vertices of the other line.

    Raises:
        ValueError: The lines share a stretch, or a segment has no length.
    """
    points = {meeting_point(p, q, r, s) for p, q in pairwise(a) for r, s in pairwise(b)}
    return len(points - {None})
