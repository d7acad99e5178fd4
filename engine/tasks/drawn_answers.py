"""Copies of pictures with what was found in them, and a JSON of it all beside."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from data import read_picture
from engine.errors import InputError
from engine.files import write_text, writing_into, written_whole

ANSWERS = "answers.json"


def check_folder(folder: str | Path, pictures: Iterable[Path]) -> Path:
    """Raise InputError where one of the pictures lies in the folder itself: a drawn one could take its place."""
    folder = Path(folder)
    if any(picture.resolve().parent == folder.resolve() for picture in pictures):
        raise InputError(f"--draw {folder}: holds the pictures themselves; expected another folder")
    return folder


def draw_answers(
    answers: Iterable[dict], draw: Callable[[Image.Image, dict], Image.Image], folder: Path, max_pixels: int
) -> Iterator[dict]:
    """Draw each of `answers` into folder/NAME.png as it comes, and yield it with that name as "drawn".

    draw: as of `Task.drawing`. At the end folder/answers.json holds all of them. Pictures of one name get numbers
    behind it. Raises InputError.
    """
    told, taken = [], set()
    for answer in answers:
        if "error" not in answer:
            drawn = draw(read_picture(answer["file"], max_pixels, 0), answer)
            answer = {**answer, "drawn": _free(Path(answer["file"]).stem, taken)}
            with writing_into(folder), written_whole(folder / answer["drawn"]) as part:
                drawn.save(part, format="PNG")
        told.append(answer)
        yield answer
    with writing_into(folder):
        write_text(folder / ANSWERS, json.dumps(told, indent=2) + "\n")


def _free(stem, taken):
    """A name for a PNG that none of `taken` has, small and capital letters being one to some file systems."""
    names = (f"{stem}{f'_{number}' if number > 1 else ''}.png" for number in range(1, len(taken) + 2))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name
