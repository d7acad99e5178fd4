"""How the folder of a run that another machine trains comes home."""

import os
from pathlib import Path

from engine.files import written_whole
from engine.run import checkpoint
from engine.run.folder import RESULT_FILE
from engine.run.saving import PREVIOUS
from engine.sweep.node import News


def bring_home(folder: Path, known: dict[str, tuple], news: News) -> None:
    """Write what is new of a run to its folder, and remove what was `known` and is no longer there. Raises DiskError.

    In the order in which a run itself writes, so that a kill may come at any moment of it: records, then checkpoints,
    each as one and `latest` before its copies, and last what says that the run is finished.
    """
    checkpoints, others = {}, {}
    for path, content in news.contents.items():
        stem, ending = os.path.splitext(path)
        if ending in checkpoint.ENDINGS:
            checkpoints.setdefault(stem, {})[ending] = content
        else:
            others[path] = content
    result = others.pop(RESULT_FILE, None)
    for path, content in others.items():
        _write(folder / path, content)
    for stem in sorted(checkpoints, key=lambda stem: (stem != PREVIOUS, stem != "latest", stem == "best")):
        checkpoint.save(folder / stem, checkpoints[stem])
    gone = sorted(known.keys() - news.there.keys(), key=lambda path: not path.endswith(checkpoint.ENDINGS[-1]))
    for path in gone:  # of a checkpoint first what makes it one
        (folder / path).unlink(missing_ok=True)
    if result is not None:
        _write(folder / RESULT_FILE, result)


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_bytes(content)
