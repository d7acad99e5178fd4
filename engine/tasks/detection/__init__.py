"""Finding objects, with or without their masks.

    task.py                 what the rest of engine asks: see engine.tasks.task.Task
    scores.py               what answers are worth, gathered over batches and devices
    average_precision.py    AP as COCO has it
    results.py              answers in pixels of the stored picture, as COCO writes them
    drawing.py              pictures with their objects
    findings.py, sheet.py   what check_data says and shows of objects
    coco_files.py           any set as COCO's files
"""

from engine.tasks.detection.task import Detection

__all__ = ["Detection"]
