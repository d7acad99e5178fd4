"""Fetching: checksums, no network, good files left alone. No test here leaves the machine."""

import hashlib
import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from data import DataError
from data.sources import SOURCES, fetch

ROOT = Path(__file__).resolve().parents[1]


def served(tmp_path, content=b"pictures"):
    path = tmp_path / "server" / "file.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    return path.as_uri(), hashlib.sha256(content).hexdigest()


def test_fetches_once_and_keeps_a_good_file(tmp_path):
    address, sha256 = served(tmp_path)
    path = fetch(address, sha256, tmp_path / "new" / "folder")
    assert path.read_bytes() == b"pictures" and [path] == list(path.parent.iterdir())
    before = path.stat()
    (tmp_path / "server" / "file.gz").unlink()
    assert fetch(address, sha256, path.parent) == path and path.stat() == before


def test_wrong_checksum_leaves_nothing_behind_and_overwrites_nothing(tmp_path):
    address, _ = served(tmp_path)
    folder = tmp_path / "folder"
    with pytest.raises(DataError, match="file.gz: SHA-256 is .* wanted 00; the download"):
        fetch(address, "00", folder)
    assert not list(folder.iterdir())
    (folder / "file.gz").write_bytes(b"my own")
    with pytest.raises(DataError, match="folder.*file.gz: SHA-256 is .* move it away"):
        fetch(address, hashlib.sha256(b"pictures").hexdigest(), folder)
    assert (folder / "file.gz").read_bytes() == b"my own"


def test_no_network_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(*arguments, **settings):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DataError, match="cannot be fetched to .*Name or service not known.*without a network") as error:
        fetch(*SOURCES["cifar10"][0], tmp_path)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_the_command_ends_with_status_2_and_one_line(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"something else")  # so that no network is needed to fail
    command = [sys.executable, str(ROOT / "tools" / "fetch_data.py"), "cifar10", "--to", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "SHA-256" in done.stderr


def test_a_download_without_end_and_a_pipe_in_its_place_end(tmp_path, monkeypatch):
    address, sha256 = served(tmp_path)
    monkeypatch.setattr("data.sources.LARGEST", 7)
    with pytest.raises(DataError, match="file.gz: sends more than 7 bytes"):
        fetch(address, sha256, tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())
    os.mkfifo(tmp_path / "folder" / "file.gz")
    with pytest.raises(DataError, match="file.gz: is a pipe, wanted an ordinary file"):
        fetch(address, sha256, tmp_path / "folder")
