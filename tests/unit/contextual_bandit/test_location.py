"""Location as features."""

from __future__ import annotations

import pytest

from contextual_bandit.location import location_features


@pytest.mark.parametrize(
    ("kilometres", "band"),
    [
        (0, "walk"),
        (0.99, "walk"),
        (1, "near"),
        (4.99, "near"),
        (5, "drive"),
        (19.99, "drive"),
        (20, "far"),
        (9e6, "far"),
    ],
)
def test_the_distance_to_the_store_is_a_band(kilometres: float, band: str) -> None:
    assert location_features("seattle", kilometres) == {"region": "seattle", "store_distance": band}


def test_what_is_not_known_is_left_out() -> None:
    assert location_features(None) == {}
    assert location_features("seattle") == {"region": "seattle"}
