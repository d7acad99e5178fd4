"""Processes that would outlive their parent, also where that is killed before they come to ask about it."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing tells a process there that its parent is gone")

ORPHAN = """
import multiprocessing, os, time

from data.orphans import end_with_parent

parent = os.getpid()

def child():
    print(os.getpid(), flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    end_with_parent(parent, {number})
    print("lives on", flush=True)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_before_its_child_asks(number):
    code = ORPHAN.format(number=int(number))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert said == ""
