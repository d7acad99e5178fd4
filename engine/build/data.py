"""Data of a config: its sets, labelled folders of anybody, and what reads them in steps."""

import inspect

from data import (
    DATASETS,
    ClipPreparation,
    DataError,
    Dataset,
    Loader,
    Preparation,
    find_archives,
    labelled_pictures,
    labelled_videos,
    unpack,
)
from engine.config import Config, arguments
from engine.config.feasible import check_division, check_feasible
from engine.errors import InputError
from engine.run.result import check_expected
from engine.tasks import task_of
from ops.native import cache_folder


def build_data(config: Config, **settings: int) -> tuple[Dataset, Dataset]:
    """The training and the validation set; archives in the place of `data.root` are unpacked into the user's cache.

    `settings` go before those of the data section. Raises InputError for one that the set does not have.
    """
    builder = DATASETS[config.data.name]
    values = _values(config, builder, settings)
    try:
        if values.get("root"):
            values["root"] = _unpacked(config, values["root"])
        return builder(**values)
    except DataError:
        raise
    except OSError as error:  # a folder that may not be read, lost+found for one
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, MemoryError) as error:
        raise InputError(f"data: {str(error) or 'memory is used up'}") from None


def build_labelled(config: Config, preparation: Preparation, root: str, **settings: int) -> Dataset:
    """The pictures or videos of a labelled folder, list or archive, whole and as a trained model's `preparation` says.

    Nothing of the data that the config names is asked for. Broken pictures: as it says, else they are skipped.
    `settings`: as of build_data. Raises InputError where they are none that the model's task is of.
    """
    builder = labelled_videos if isinstance(preparation, ClipPreparation) else labelled_pictures
    values = {} if builder is labelled_videos else {"on_corrupt_image": "skip"}
    values |= {**_values(config, builder, settings), "root": _unpacked(config, root), "preparation": preparation}
    dataset = builder(**values)
    task_of(config.model.name).check(dataset)
    return dataset


def _values(config, builder, settings):
    known = inspect.signature(builder).parameters
    if odd := [name for name in settings if name not in known]:
        raise InputError(f"{odd[0]}={settings[odd[0]]}: data.name {config.data.name} has no such setting")
    return {**arguments(config.data, builder), **settings}


def _unpacked(config, root):
    """The folder that the archives at `root` are unpacked to, or root itself where there are none."""
    if not find_archives(root):
        return root
    bounds = config.reading.max_unpacked_gb, config.reading.max_unpacked_files
    return str(unpack(root, cache_folder() / "data", *bounds))


def build_loaders(
    config: Config, train_set: Dataset, validation_set: Dataset, rank: int = 0, ranks: int = 1
) -> tuple[Loader, Loader]:
    """The seeded loaders of this device's share of each step, for a training that can learn."""
    check_feasible(config)
    task = task_of(config.model.name)
    for dataset in (train_set, validation_set):
        task.check(dataset)
    check_expected(config.expect, task.measures)
    check_division(config, ranks)
    train_loader = Loader(
        train_set, config.batch.images_per_step, train=True, seed=config.seed, rank=rank, ranks=ranks,
        processes=config.reading.processes,
    )
    return train_loader, build_validation_loader(config, validation_set, rank, ranks)


def build_validation_loader(config: Config, validation_set: Dataset, rank: int = 0, ranks: int = 1) -> Loader:
    """The loader of this device's share of the validation images, in their own order."""
    return Loader(
        validation_set, config.reading.evaluation_images * ranks, train=False, seed=config.seed, rank=rank, ranks=ranks,
        processes=config.reading.processes,
    )
