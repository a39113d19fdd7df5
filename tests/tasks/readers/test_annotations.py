from __future__ import annotations

import pytest

from foveal.errors import UserError
from foveal.tasks.readers.annotations import are_shares, check_pixels


def test_shares_are_told_from_pixels() -> None:
    assert are_shares([0, 0.5, 1]) and are_shares([0.2, 0.4])
    assert not any(are_shares(values) for values in ([], [0, 1, 1, 0], [0.5, 1.5], [-0.2, 0.5], [0.5, 20]))
    check_pixels([0, 0, 1, 1], "x")
    with pytest.raises(
        UserError, match=r"a\.json: all points lie within 0 and 1, as shares of the picture's sides, where"
    ):
        check_pixels([0.1, 0.9], "a.json")
