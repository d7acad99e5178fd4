"""What all commands share: -c and -o, and how a command ends."""

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from data import DataError
from data.user_path import user_path
from engine.errors import DISK_REFUSED, DiskError, Diverged, InputError, PeerLost, Stopped
from engine.files import REFUSALS
from engine.terminal import one_line
from ops.native import NativeError


class Parser(argparse.ArgumentParser):
    """Wrong arguments are bad input too: one line."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def config_parser(description: str, *, weights: bool = False) -> Parser:
    """A parser with -c FILE and -o key=value ..., and -w for the commands that use a trained model."""
    parser = Parser(description)
    parser.add_argument(
        "-c", "--config", type=typed_path, required=True, metavar="FILE", help="a YAML file of configs/ or of a run"
    )
    parser.add_argument(
        "-o", "--override", nargs="+", action="extend", default=[], metavar="key=value", help="values over the file's"
    )
    if weights:
        parser.add_argument(
            "-w", "--weights", type=typed_path, metavar="NAME|PATH", help="best (default), latest, epoch_N or a path"
        )
    return parser


def typed_views(text: str) -> dict[str, int]:
    """The `type` of --views, such as 10x3: the settings of a data section that it stands for."""
    clips, _, crops = text.partition("x")
    if not (clips.isdecimal() and 0 < int(clips[:9]) and crops in ("1", "3")):
        raise argparse.ArgumentTypeError(f"{text}: expected clips x crops, such as 10x3 or 4x1; crops are 1 or 3")
    return {"test_clips": int(clips), "test_crops": int(crops)}


def typed_path(text: str) -> str:
    """The `type` of every argument that is a path: `~` is the home there too, as in configs."""
    try:
        return user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main`, which may return a status, and turn the ends that are no bugs into one line and a status.

    Bad input is 2, a diverged training 1, so is a disk that is full or gone, memory that is used up, another process of
    the run that is lost, SIGTERM 143, Ctrl-C 130, a closed terminal 129, nobody left to read what is printed (`| head`)
    141; a bug keeps its traceback.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files and classes may be in any script, or in none
    logging.lastResort.setFormatter(_OneLine())  # what data and ops have to say
    try:
        status = main()
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        if _is_read(sys.stdout):  # it was another pipe
            raise
        _end(128 + signal.SIGPIPE)
    except (InputError, DataError, NativeError) as error:
        _end(2, f"error: {one_line(error)}")
    except (Diverged, PeerLost) as end:
        _end(1, f"error: {one_line(end)}")
    except Stopped as stopped:
        _end(stopped.status, one_line(stopped))
    except MemoryError as error:
        _end(1, f"error: {_no_memory(error)}")
    except KeyboardInterrupt:
        _end(128 + signal.SIGINT, "stopped by SIGINT")
    except PermissionError as error:
        if error.filename is None:  # no file, but another process, say
            raise
        _end(2, f"error: {one_line(f'{error.filename}: {error.strerror}')}")
    except OSError as error:
        if not isinstance(error, DiskError) and error.errno not in REFUSALS:
            raise
        _end(1, f"error: {one_line(error if isinstance(error, DiskError) else _named(error))}")


def _end(status, line=None):
    """Leave with a line, where somebody can still be told: the terminal may be closed, the disk of a log full."""
    with contextlib.suppress(OSError):
        if line:
            print(line, file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # Python flushes once more at the end
    sys.exit(status)


def _no_memory(error):
    """Paddle's complaint goes on for pages; its first line says what could not be had."""
    said = one_line((str(error).strip().splitlines() or ["nothing more is given"])[0])
    return f"memory is used up ({said}); smaller passes take less, such as batch.workers_per_pass=1"


def _named(error):
    return f"{error.filename or 'standard output, or another file'}: {error.strerror}; {DISK_REFUSED}"


class _OneLine(logging.Formatter):
    def formatMessage(self, record):
        return one_line(super().formatMessage(record))


def _is_read(stream):
    poll = select.poll()
    poll.register(stream, 0)  # errors are told unasked
    return not poll.poll(0)
