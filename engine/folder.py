"""The folder of a run: may it be used, what describes the run in it, and where to find it again."""

import dataclasses
import json
from pathlib import Path

import yaml

from data import Preparation
from engine.config import Config, load_config
from engine.environment import describe
from engine.errors import InputError
from engine.files import write_text, writing_into
from engine.locks import claim
from engine.yaml_text import read_yaml

PREPARATION_FILE = "preparation.json"  # class names and how a picture becomes an input
# What a run cannot change on its way,
FIXED = ("seed", "model", "data", "batch", "ema_decay", "bn_precise_images", "optimizer.name")
FREE = ("data.root", "batch.workers_per_pass")  # but for where the data lie and what memory there is


def check_folder(config: Config, *, resume: bool) -> list[str]:
    """Raise InputError where the run's folder holds a run and `resume` is False, or a run that is not this one.

    Returns what may differ and does, as texts.
    """
    if not (config.folder / "config.yaml").exists():
        return []
    claim(config.folder)
    if not resume:
        raise InputError(f"{config.folder}: already holds a run; continue it with -r auto, or choose -o name=...")
    changes = []
    for key, was, is_now in changes_since(config):
        if key.startswith(FIXED) and key not in FREE:
            raise InputError(f"{config.folder}: its run has {key}: {was}, this config {is_now}; choose -o name=...")
        changes.append(f"changed since it began: {key}: {was} -> {is_now}")
    return changes


def changes_since(config: Config) -> list[tuple]:
    """(key, before, now) of every value that is not what it was when the run in the config's folder began."""
    written = config.folder / "config.yaml"
    if not written.exists():
        return []
    try:
        before = yaml.safe_load(load_config(written).to_yaml())  # with the defaults of keys that are newer than it
    except InputError:
        before = read_yaml(written)
    return list(differences(before, yaml.safe_load(config.to_yaml())))


def make_folder(config: Config, preparation) -> None:
    """Make the run's folder with config.yaml, env.json and preparation.json."""
    with writing_into(config.folder):
        claim(config.folder)
        write_text(config.folder / "config.yaml", config.to_yaml())
        write_text(config.folder / "env.json", json.dumps(describe(), indent=2) + "\n")
        write_preparation(config.folder, preparation)


def differences(before, now, at=()):
    """(dotted key, before, now) of every value that differs."""
    if isinstance(now, dict):
        before = before if isinstance(before, dict) else {}
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), (*at, key))
    elif before != now:
        yield ".".join(at), before, now


def run_folder(config_path, config: Config) -> Path:
    """Where the weights of a config lie: beside it when it is a run's own config.yaml, else its output folder."""
    beside = Path(config_path).parent
    return beside if (beside / PREPARATION_FILE).exists() else config.folder


def write_preparation(folder: Path, preparation) -> None:
    """What inference needs beside the weights."""
    text = json.dumps(dataclasses.asdict(preparation), indent=2, ensure_ascii=False)
    write_text(folder / PREPARATION_FILE, text + "\n")


def read_preparation(folder: Path) -> Preparation:
    """The class names and picture preparation that training wrote into a folder. Raises InputError."""
    path = folder / PREPARATION_FILE
    try:
        return Preparation(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected a folder that tools/train.py made") from None
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error})") from None
