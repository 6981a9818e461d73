"""Arithmetic on what was measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median


def percentile_ms(values_ns: Sequence[int], percent: float) -> float:
    """The value that so many percent do not exceed, in milliseconds; 0 for none."""
    if not values_ns:
        return 0.0
    ranked = sorted(values_ns)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] / 1e6


def median_ratio(mine: Sequence[float], others: Sequence[float]) -> float | None:
    """How many times as much as another, by rounds: the median of each round's ratio, so that what disturbed a whole
    round counts for both. `None` where there is nothing to compare with."""
    ratios = [one / other for one, other in zip(mine, others, strict=False) if other > 0]
    return median(ratios) if ratios else None


def by_role(used: Mapping[str, float]) -> dict[str, float]:
    """What processes `router-0`, `router-1`, … used, summed up under `router`."""
    roles: dict[str, float] = {}
    for name, value in used.items():
        role = name.rstrip("0123456789").rstrip("-") or name
        roles[role] = roles.get(role, 0.0) + value
    return roles
