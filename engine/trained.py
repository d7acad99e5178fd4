"""A trained model out of its run's folder."""

import sys
from pathlib import Path

from engine.build import build_model
from engine.config import Config
from engine.errors import InputError
from engine.run.checkpoint import read_weights, stem_of
from engine.run.folder import read_preparation
from models import load_weights


def load_trained(config: Config, folder: Path, weights=None):
    """(model in evaluation mode, preparation) of a run's folder.

    `weights` is the path of a checkpoint, or the name of one in the folder; None: best, or latest where there is
    no best. Averaged weights are preferred. Raises InputError unless every array fits.
    """
    preparation = read_preparation(folder)
    candidates = [Path(weights), folder / weights] if weights else [folder / "best", folder / "latest"]
    stems = [stem_of(candidate) for candidate in candidates]
    stem = next((stem for stem in stems if Path(f"{stem}.pdparams").exists()), None)
    if stem is None:
        wanted = f"{stems[-1]}.pdparams: no such file" if weights else f"{folder}: has neither best.pdparams nor latest"
        there = sorted(file.stem for file in folder.glob("*.pdparams"))
        raise InputError(f"{wanted}; " + (f"there are {', '.join(there)}" if there else "no checkpoint is there"))
    model = build_model(config, preparation)
    state = read_weights(stem)
    try:
        report = load_weights(model, state)
    except ValueError as error:
        raise InputError(f"{stem}: {error}") from None
    if report.missing or report.reshaped:
        raise InputError(f"{stem}: does not fit this config's model: {report}")
    if report.remarks:
        print(f"{stem}: {'; '.join(report.remarks)}", file=sys.stderr)
    model.eval()
    return model, preparation
