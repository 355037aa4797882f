"""The 95 % interval of an accuracy (Wilson 1927)."""

import math

_Z = 1.959963984540054  # of the normal distribution, two-sided


def wilson(share: float, points: int) -> tuple[float, float]:
    """Returns the interval of a share seen on some points.

    Args:
      share: in [0, 1]; need not be a whole number of points, as where it is an average over
        several D' on the same points. Those are not independent, so they don't count as more.
      points: at least 1.
    """
    z2 = _Z**2 / points
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return (low if share > 0 else 0.0), (high if share < 1 else 1.0)  # exactly, not to rounding
