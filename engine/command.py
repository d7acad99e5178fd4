"""What all commands share: -c and -o, and how a command ends."""

import argparse
import logging
import os
import select
import signal
import sys

from data import DataError
from data.user_path import user_path
from engine.errors import Diverged, InputError, Stopped
from engine.terminal import one_line
from ops.native import NativeError


class Parser(argparse.ArgumentParser):
    """Wrong arguments are bad input too: one line."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        raise InputError(message)


def config_parser(description, *, weights=False):
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


def typed_path(text: str) -> str:
    """The `type` of every argument that is a path: `~` is the home there too, as in configs."""
    try:
        return user_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def command(main):
    """Run a command's `main`, which may return a status, and turn the ends that are no bugs into one line and a status.

    Bad input is 2, a diverged training 1, SIGTERM 143, Ctrl-C 130, nobody left to read what is printed (`| head`)
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at the end
        sys.exit(128 + signal.SIGPIPE)
    except (InputError, DataError, NativeError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Diverged as diverged:
        print(f"error: {one_line(diverged)}", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


class _OneLine(logging.Formatter):
    def formatMessage(self, record):
        return one_line(super().formatMessage(record))


def _is_read(stream):
    poll = select.poll()
    poll.register(stream, 0)  # errors are told unasked
    return not poll.poll(0)
