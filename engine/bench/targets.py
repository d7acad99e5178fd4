"""What tools/bench.py is judged by: a ratio of two measured values and its bound, and what holds a missed one back."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Target:
    """`over` / `under`, two of a row's values, is to be at most (or at least) `bound` in each row, or in the median."""

    over: str
    under: str
    bound: float
    at_least: bool = False
    median: bool = False
    large_only: bool = False  # rows of tensors above LARGE bytes
    of: str = "values"  # which of a row's dictionaries; "peaks" are bytes

    def __str__(self) -> str:
        words = f"{self.over} / {self.under} {'≥' if self.at_least else '≤'} {self.bound:g}"
        return f"peak memory of {words}" if self.of == "peaks" else words


LARGE = 8e6


def judge(target: Target, rows: Sequence[Mapping]) -> dict:
    """The target with each row's ratio, their worst or median, and by which fraction that misses the bound (0: met).

    None for the ratio where one of the two was not measured, or the target is not meant for the row.
    """
    meant = [not target.large_only or row.get("tensor_bytes", 0) >= LARGE for row in rows]
    ratios = [ratio_of(target, row) for row in rows]
    judged = [ratio for ratio, counts in zip(ratios, meant, strict=True) if counts and ratio is not None]
    result = {**asdict(target), "text": str(target), "ratios": ratios, "ratio": None, "missed_by": None}
    result["rows_missed_by"] = [
        _missed_by(target, ratio) if counts else None for ratio, counts in zip(ratios, meant, strict=True)
    ]
    if judged:
        worst = min(judged) if target.at_least else max(judged)
        result["ratio"] = statistics.median(judged) if target.median else worst
        result["missed_by"] = _missed_by(target, result["ratio"])
    return result


def ratio_of(target: Target, row: Mapping) -> float | None:
    over, under = (row.get(target.of, {}).get(name) for name in (target.over, target.under))
    return over / under if over and under else None


def _missed_by(target, ratio):
    if ratio is None:
        return None
    return max(0.0, 1 - ratio / target.bound if target.at_least else ratio / target.bound - 1)


def what_bounds(row: Mapping, tiny: Mapping) -> str:
    """What our time on a row is made of, in words, by what was measured in the same run."""
    ours = row["values"]["ours"]
    shares = {"calls": tiny["values"]["ours"] / ours}
    if "floor_ms" in row:
        shares["bytes"] = row["floor_ms"]["forward_backward"] / ours
        rest, note = "arithmetic", ""
    elif "convolution" not in row["values"]:
        rest, note = "arithmetic and layouts", f" ({row['gflops']['ours']:.0f} GFLOP/s)"
    else:
        shares["arithmetic"] = min(1.0, row["values"]["convolution"] / ours)
        rest = "sampling"
        note = f" ({row['gflops']['ours']:.0f} GFLOP/s, the plain convolution {row['gflops']['convolution']:.0f})"
    shares[rest] = max(0.0, 1 - sum(shares.values()))
    first, *others = sorted(shares, key=shares.get, reverse=True)
    others = ", ".join(f"{name} {shares[name]:.0%}" for name in others)
    return f"bound by {first}, {shares[first]:.0%}; {others}{note}"
