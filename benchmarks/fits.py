"""Straight lines through measured points: what a process gains per decision, and how a cost grows with a size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A line by least squares; ``standard_error`` is the slope's, nan through two points."""

    slope: float
    intercept: float
    standard_error: float


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line by ordinary least squares.

    Args:
        x: where was measured; at least two different places.
        y: what was found, one for each.

    Raises:
        ValueError: fewer than two different places, or another number of findings.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} places and {len(y)} findings")
    if len(set(x)) < 2:
        raise ValueError(f"a line needs two different places, got {sorted(set(x))}")
    n = len(x)
    middle_x, middle_y = math.fsum(x) / n, math.fsum(y) / n
    spread = math.fsum((one - middle_x) ** 2 for one in x)
    slope = math.fsum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    intercept = middle_y - slope * middle_x
    left = math.fsum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return Line(slope, intercept, math.sqrt(left / (n - 2) / spread) if n > 2 else math.nan)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> Line:
    """How a cost grows: its slope is e where cost is proportional to size to the power of e.

    0: the size does not matter; 1: in proportion; what is fixed in a cost makes it smaller.

    Args:
        sizes: above 0, at least two different ones.
        costs: above 0, one for each.

    Raises:
        ValueError: a size or cost that is not above 0, or too few.
    """
    unusable = [one for one in (*sizes, *costs) if not one > 0.0]
    if unusable:
        raise ValueError(f"sizes and costs must be above 0, got {unusable[0]!r}")
    return line_through([math.log(one) for one in sizes], [math.log(one) for one in costs])
