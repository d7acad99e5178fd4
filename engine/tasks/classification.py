"""Classifying images: errors, pictures with answers, names of what is on picture files, the exported form."""

from engine.tasks.task import Measure


class Classification:
    """See `engine.tasks.task.Task`."""

    measures = (Measure("top1_error", "top-1 error"),)
