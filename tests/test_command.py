"""How a command ends; the statuses of bad input and signals are in the tests of the tools."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

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
