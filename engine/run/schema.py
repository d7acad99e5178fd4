"""What a file of a folder may hold, which anybody can have made: types of values, and one line where one is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field

from engine.config.yaml_text import read_yaml
from engine.errors import InputError
from engine.files import read_lines
from engine.terminal import printable

MOST_LETTERS = 100_000  # of a text in a folder's files


def _as_text(value):
    return printable(value) if isinstance(value, str) else value


def _folder_name(text):
    if text in (".", "..") or "/" in text or text != printable(text):
        raise ValueError("expected the name of a folder")
    return text


Text = Annotated[str, Field(max_length=MOST_LETTERS), BeforeValidator(_as_text)]  # as it can be shown
FolderName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_folder_name)]
Count = Annotated[int, Field(ge=0, lt=10**15)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]  # as errors are
Score = Annotated[float, Field(ge=-1e100, le=1e100, allow_inf_nan=False)]  # of which squares can be taken
Seconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


def parse_json(text: str, where: Path | str) -> Any:
    """The value of a JSON text. Raises InputError, which begins with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: damaged ({error})") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, which is written as configs are. Raises InputError where there is none."""
    return read_yaml(path)


def checked(model: type[pydantic.BaseModel], values: Any, where: Path | str) -> pydantic.BaseModel:
    """The model of these values. Raises InputError for the first that is wrong, after `where`."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as failure:
        error = failure.errors(include_url=False)[0]
        at = printable(".".join(map(str, error["loc"])))
        raise InputError(f"{where}: {at or 'damaged'}: {printable(error['msg'])}") from None


def read_records(
    path: Path, model: type[pydantic.BaseModel], missing: str = "no such file"
) -> Iterator[pydantic.BaseModel]:
    """The model of each line of a file of JSON lines. Raises InputError, which names the line."""
    for number, line in read_lines(path, missing):
        where = f"{path}: line {number}"
        yield checked(model, parse_json(line, where), where)
