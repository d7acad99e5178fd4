"""Classifying images: errors, pictures with answers, names of what is on picture files, the exported form."""

from collections.abc import Iterator, Sequence

from data import Dataset
from data.check import Survey
from engine.check_data.findings import Finding
from engine.tasks.class_findings import class_counts, class_findings
from engine.tasks.task import Measure


class Classification:
    """See `engine.tasks.task.Task`."""

    measures = (Measure("top1_error", "top-1 error"),)

    def findings(self, datasets: Sequence[Dataset], surveys: Sequence[Survey]) -> Iterator[Finding]:
        return class_findings(datasets, surveys)

    def class_counts(self, datasets: Sequence[Dataset]) -> list[dict]:
        return class_counts(datasets)
