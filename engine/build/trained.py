"""A trained network out of a run's folder."""

import sys
from pathlib import Path

from paddle import nn

from data import Preparation
from engine.build.data import build_data, build_loaders
from engine.build.model import build_model
from engine.config import Config
from engine.errors import InputError
from engine.run.checkpoint import read_weights, stem_of
from engine.run.folder import read_preparation
from engine.terminal import printable
from engine.train.running_statistics import make_precise
from models import load_weights
from models.norm import batch_norms
from ops import BatchRenorm


def load_trained(config: Config, weights: str | None = None) -> tuple[nn.Layer, Preparation]:
    """(model in evaluation mode, preparation) out of a run's folder.

    `weights` is the path of a checkpoint, or the name of one in the folder; None: best, or latest where there is
    no best. Averaged weights are preferred. Raises InputError unless every array fits.
    """
    folder = config.folder
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
    if report.missing or report.reshaped or report.other_norms:
        raise InputError(f"{stem}: does not fit this config's model: {report}")
    if report.remarks:
        print(printable(f"{stem}: {'; '.join(report.remarks)}"), file=sys.stderr)
    model.eval()
    return model, preparation


def set_precise(config: Config, model: nn.Layer, rank: int = 0, ranks: int = 1) -> None:
    """Give a trained model's BN what `bn_running_statistics: precise` gives it at the end of training.

    Raises InputError where there is no BN, or BRN.
    """
    norms = batch_norms(model)
    if any(isinstance(norm, BatchRenorm) for norm in norms):
        raise InputError("--precise: is not for brn, which is trained with the statistics that evaluate it")
    if not norms:
        raise InputError(f"--precise: is not for model.norm {config.model.norm}; it replaces bn's running statistics")
    train_loader, loader = build_loaders(config, *build_data(config), rank, ranks)
    images, per_pass = config.bn_precise_images, loader.images // ranks
    make_precise(model, None, train_loader, config.schedule.epochs - 1, images=images, images_per_pass=per_pass)
    model.eval()
