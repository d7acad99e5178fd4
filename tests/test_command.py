"""How a command ends; the statuses of bad input and signals are in the tests of the tools."""

import ast
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from engine.command import config_parser
from engine.errors import InputError

COMMAND = """
import os, sys
from engine.command import command

def main():
    {body}

command(main)
"""


@pytest.mark.parametrize("body", ["print('a line')", "print('a line'); return 1", "print('many lines\\n' * 10**6)"])
def test_nobody_is_left_to_read(body):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=body)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert b"BrokenPipe" not in process.stderr.read()  # Paddle may have words of its own
    assert process.wait() == 141


def test_another_broken_pipe_is_a_bug():
    body = "read, write = os.pipe(); os.close(read); os.write(write, b'x')"
    done = subprocess.run([sys.executable, "-c", COMMAND.format(body=body)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "BrokenPipeError" in done.stderr and "Traceback" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells")
def test_sigterm_is_not_left_to_paddle():
    """Its handler allocates memory: where the signal came amid an allocation, the process waited for ever."""
    code = "import engine, pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    (caught,) = (line.split()[1] for line in done.stdout.splitlines() if line.startswith("SigCgt"))
    assert not int(caught, 16) >> signal.SIGTERM - 1 & 1


def test_the_home_is_found_in_every_argument_that_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = config_parser("", weights=True)
    arguments = parser.parse_args(["--config=~/x.yaml", "-w", "best"])
    assert (arguments.config, arguments.weights) == ("/home/me/x.yaml", "best")
    with pytest.raises(InputError, match="-c/--config: ~no_such_user/x: there is no home of that user"):
        parser.parse_args(["-c", "~no_such_user/x"])
    for path in [*(ROOT / "tools").glob("*.py"), ROOT / "engine" / "command.py"]:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                said = {keyword.arg: ast.unparse(keyword.value).strip("'") for keyword in call.keywords}
                names = [said.get("metavar", ""), *(argument.value for argument in call.args)]
                is_path = {name.split("|")[-1] for name in names} & {"FILE", "DIR", "PATH", "FOLDER", "PICTURE", "--to"}
                assert not is_path or said.get("type") in ("typed_path", "user_path"), (path.name, names)


def test_a_wrong_argument_is_one_line():
    with pytest.raises(InputError, match="unrecognized arguments: -x\x1b"):  # a file's name, where a shell wrote *
        config_parser("").parse_args(["-c", "x.yaml", "-x\x1b"])
