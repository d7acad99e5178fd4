"""The short form of tests/faults.sh: some of its faults, once each, and that it tells what is lost."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import ROOT
from faults.table import Row, make_row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is done to processes is Linux's")


def test_some_faults_once_each_lose_nothing(tmp_path):
    names = ["kill-run-classification", "kill-runner", "stop-checkpoint", "quota"]
    done = subprocess.run(
        [sys.executable, "-m", "faults", "--only", *names, "--times", "1", "--keep", tmp_path], cwd=ROOT / "tests",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, timeout=300,
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-4:-2] for line in done.stdout.splitlines()[1:]] == [["1", "nothing"]] * len(names)


def test_what_is_lost_is_told():
    def lose(subject: None, chance: None, times: int) -> Iterator[str]:
        yield from ["", "metrics.jsonl", ""][:times]

    result = make_row(Row("something", lose, 3), lambda row: None, 0, None)
    assert (result.times, result.lost) == (3, ["metrics.jsonl"]) and "3  1: metrics.jsonl" in str(result)
    assert make_row(Row("something", lose, 3), lambda row: None, 0, 1).lost == []
