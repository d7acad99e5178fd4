"""The number that tells how good a network is: its name in files, its words on paper, and which way is better."""

from typing import Any, NamedTuple

from engine.run.schema import Fraction, Score


class Measure(NamedTuple):
    """A number that tells how good a network is."""

    name: str  # in metrics.jsonl, result.json and results.csv, such as top1_error
    words: str  # on paper, such as top-1 error
    percent: bool = True  # a fraction from 0 to 1 in code, shown in percent
    lower_is_better: bool = True

    def better(self, value: float, other: float) -> bool:
        return value < other if self.lower_is_better else value > other

    def text(self, value: float) -> str:
        """Such as `12.35 %` or `0.8712`."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4f}"


TOP1_ERROR = Measure("top1_error", "top-1 error")  # of folders from before there were others, which do not say it
MEDIAN_OF = 5  # evaluations, the last of a run
STATISTICS = ("median_last_5", "last", "best")  # of a run's evaluations: the first is the GN paper's


def value_type(measure: Measure) -> Any:
    """What a file may hold for it, as a type that pydantic checks."""
    return Fraction if measure.percent else Score


def columns(measure: Measure) -> list[str]:
    """The keys of result.json, and the columns of results.csv, that are a run's: one for each of STATISTICS."""
    return [f"{measure.name}_{statistic}" for statistic in STATISTICS]
