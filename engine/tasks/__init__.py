"""What differs between classifying, detecting and clips: the rest of engine asks a run's task, and knows none."""

from engine.tasks.classification import Classification
from engine.tasks.clips import Clips
from engine.tasks.detection import Detection
from engine.tasks.task import Measure, Scores, Task
from models import MODELS

TASKS: dict[str, Task] = {  # by the word that a network's head calls its own
    "classification": Classification(),
    "detection": Detection(masks=False),
    "instance_segmentation": Detection(masks=True),
    "clips": Clips(),
}


def task_of(model_name: str) -> Task:
    """The task of the networks that `model.name` stands for."""
    _, head = MODELS[model_name]
    return TASKS[head.task]


__all__ = ["TASKS", "Measure", "Scores", "Task", "task_of"]
