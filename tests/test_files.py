"""A disk that is full, read-only or gone while a run writes: one line, status 1, and nothing that was saved is lost."""

import builtins
import errno
import io
import os
import pathlib
import signal
import stat
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from conftest import ROOT, train_here, write_sweep
from test_train_resume import assert_same, final_state

from engine.command import command
from engine.errors import DISK_REFUSED, DiskError
from engine.files import write_text
from engine.run import checkpoint
from engine.run.locks import alone, claim, is_claimed, share
from engine.sweep import pool
from engine.sweep.definition import load_sweep

OPTIONS = ["-o", "schedule.name=step", "schedule.epochs=3", "ema_decay=0.5", "record.histograms=true"]


class Refusing(io.FileIO):
    """A file on a disk without room."""

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(patch, wanted, kind=errno.ENOSPC):
    """From now on files whose path ends like `wanted`, and are opened for writing, take nothing."""
    original = builtins.open

    def opened(file, mode="r", *arguments, **more):
        if isinstance(file, (str, os.PathLike)) and os.fspath(file).endswith(wanted) and set(mode) & set("wax+"):
            raw = Refusing(file, mode.replace("b", "").replace("t", ""))
            binary = io.BufferedWriter(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")
        return original(file, mode, *arguments, **more)

    patch.setattr(builtins, "open", opened)
    patch.setattr(io, "open", opened)
    if sys.version_info < (3, 11):  # pathlib keeps an open of its own there
        patch.setattr(pathlib._NormalAccessor, "open", staticmethod(opened))


@pytest.mark.parametrize(
    "file",
    [
        "metrics.jsonl", "train.log", "vdlrecords.train.log", "latest.pdparams.new.part", "latest.pdopt.new.part",
        "latest.pdema.new.part", "latest.pdstates.new.part", "result.json.part",
    ],
)
def test_a_full_disk_is_one_line_and_nothing_is_lost(tiny, tmp_path, monkeypatch, file):
    folder = tmp_path / "output" / "tiny"
    train_here("-c", tiny, *OPTIONS, "schedule.epochs=1")
    before = final_state(folder)
    with monkeypatch.context() as patch, pytest.raises(DiskError) as raised:
        refuse(patch, file)
        train_here("-c", tiny, *OPTIONS, "-r", "auto")
    message = str(raised.value)
    assert file.removesuffix(".part").removesuffix(".new") in message and "No space left" in message
    assert message.endswith(DISK_REFUSED)
    assert not [*folder.glob("*.part"), *folder.glob("*.new")]
    if file.startswith("latest"):
        assert_same(before, final_state(folder))
    train_here("-c", tiny, *OPTIONS, "-r", "auto")
    train_here("-c", tiny, *OPTIONS, "name=whole")
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "output" / "whole" / "metrics.jsonl").read_bytes()
    assert_same(final_state(tmp_path / "output" / "whole"), final_state(folder))


def test_a_rename_that_is_refused_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    contents = {".pdparams": {"w": 1}, ".pdopt": {"v": 1}, ".pdstates": {"step": 1}}
    checkpoint.save(tmp_path / "latest", contents)

    def refusing(source, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for action in (
        lambda: checkpoint.save(tmp_path / "latest", {**contents, ".pdstates": {"step": 2}}),
        lambda: checkpoint.copy(tmp_path / "latest", tmp_path / "best"),
        lambda: write_text(tmp_path / "result.json", "{}"),
    ):
        with monkeypatch.context() as patch, pytest.raises(DiskError, match="Read-only file system"):
            patch.setattr(os, "replace", refusing)
            action()
        assert checkpoint.load(tmp_path / "latest")[".pdstates"] == {"step": 1}
        assert not [*tmp_path.glob("*.part"), *tmp_path.glob("result.json")]


class Disk:
    """What a folder may be after a power failure, at every moment while this is in place: `states`, {name: bytes} each.

    A file has what it had when it was synced last, or nothing. Of the names that were given since the folder was
    synced, the disk may know none, one, all but one, or all.
    """

    def __init__(self, folder, patch):
        self.synced = {path.stat().st_ino: path.read_bytes() for path in folder.iterdir()}
        self.names = {path.name: path.stat().st_ino for path in folder.iterdir()}
        self.held = [open(path, "rb") for path in folder.iterdir()]  # noqa: SIM115  no file gets the number of one that is gone
        self.given, self.states = [], []
        for name in ("replace", "link", "fsync"):
            patch.setattr(os, name, getattr(self, name)(getattr(os, name)))

    def replace(self, original):
        def replace(source, target):
            original(source, target)
            self._give({os.path.basename(source): None, os.path.basename(target): os.stat(target).st_ino})

        return replace

    def link(self, original):
        def link(source, target):
            original(source, target)
            self._give({os.path.basename(target): os.stat(target).st_ino})

        return link

    def fsync(self, original):
        def fsync(file):
            original(file)
            if stat.S_ISDIR(os.fstat(file).st_mode):
                self.names, self.given = self._after(self.given), []
            else:
                self.held.append(os.fdopen(os.dup(file), "rb"))
                self.synced[os.fstat(file).st_ino] = os.pread(file, 10**6, 0)

        return fsync

    def _give(self, names):
        self.given.append(names)
        one = [[names] for names in self.given]
        all_but_one = [[*self.given[:i], *self.given[i + 1 :]] for i in range(len(self.given))]
        for given in (self.given, [], *one, *all_but_one):
            self.states.append({name: self.synced.get(file, b"") for name, file in self._after(given).items()})

    def _after(self, given):
        names = dict(self.names)
        for change in given:
            names |= change
        return {name: file for name, file in names.items() if file is not None}


def test_a_power_failure_leaves_a_whole_checkpoint_and_whole_files(tmp_path, monkeypatch):
    """Whatever of a folder's names the disk knows by then."""

    def contents(step):
        return {".pdparams": {"w": step}, ".pdopt": {"v": step}, ".pdstates": {"step": step}}

    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint.save(folder / "latest", contents(1))
    write_text(folder / "config.yaml", "name: first\n")
    with monkeypatch.context() as patch:
        disk = Disk(folder, patch)
        write_text(folder / "config.yaml", "name: later\n")
        checkpoint.copy(folder / "latest", folder / "previous")
        checkpoint.save(folder / "latest", contents(2))
        checkpoint.copy(folder / "latest", folder / "previous")
    seen = set()
    for number, state in enumerate(disk.states):
        after = tmp_path / str(number)
        after.mkdir()
        for name, content in state.items():
            (after / name).write_bytes(content)
        assert (after / "config.yaml").read_text() in ("name: first\n", "name: later\n")
        for stem in ("latest", "previous"):
            for ready in (lambda stem: None, checkpoint.recover):  # as a reader finds it, and as a run goes on
                ready(after / stem)
                if checkpoint.exists(after / stem):
                    found = {next(iter(held.values())) for held in checkpoint.load(after / stem).values()}
                    assert len(found) == 1, (stem, sorted(state))
                    seen.add((stem, *found))
        assert checkpoint.exists(after / "latest")
    assert seen == {("latest", 1), ("latest", 2), ("previous", 1), ("previous", 2)}


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()  # as good as one of another user's
    for action in (lambda: claim(tmp_path), lambda: is_claimed(tmp_path), lambda: share(tmp_path / ".lock")):
        with pytest.raises(DiskError, match=r"\.lock: cannot be written \("):
            action()
    with pytest.raises(DiskError), alone(tmp_path / ".lock"):
        pass


@pytest.mark.parametrize("wrong", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_serves(tmp_path, monkeypatch, wrong):
    def refuse(*_):
        raise OSError(wrong, os.strerror(wrong))

    monkeypatch.setattr("engine.run.locks.fcntl.lockf", refuse)
    assert not is_claimed(tmp_path)


def test_memory_that_is_used_up_is_one_line(capsys):
    def main():
        raise MemoryError("(ResourceExhausted) Fail to alloc memory of 9 size.\n  [Hint: Expected]\n")

    with pytest.raises(SystemExit) as ended:
        command(main)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: memory is used up ((ResourceExhausted) Fail to alloc memory of 9 size.); ")
    assert not line.endswith(DISK_REFUSED)  # a sweep tries it again: another program may have had it


def end_of(body):
    code = f"import errno, os, sys\nfrom engine.command import command\ndef main():\n    {body}\ncommand(main)\n"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_a_command_ends_in_one_line_and_status_1():
    done = end_of("raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), '/there/file')")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"error: /there/file: Disk quota exceeded; {DISK_REFUSED}"
    done = end_of("open('/there/is/nothing')")  # a bug
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_place_where_one_may_not_go_is_bad_input_and_a_process_that_one_may_not_end_a_bug(capsys):
    def main(*path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), *path)

    with pytest.raises(SystemExit) as ended:
        command(partial(main, "/closed/x"))
    assert ended.value.code == 2 and capsys.readouterr().err == "error: /closed/x: Permission denied\n"
    with pytest.raises(PermissionError):
        command(main)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_log_on_a_full_disk_hides_neither_status_nor_reason():
    code = "import sys\nfrom engine.command import command\ncommand(lambda: print('a line'))\n"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: standard output")
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=full)
        assert done.returncode == 1


def test_a_run_of_a_sweep_whose_disk_refuses_is_not_tried_again(tmp_path):
    (run,) = load_sweep(write_sweep(tmp_path, "{seed: [0]}")).runs
    refused = f"error: x: full; {DISK_REFUSED}"
    ends = ("error: the loss is nan", 1, False), (refused, -signal.SIGKILL, False), (refused, 1, True)
    for last_line, status, failed in ends:  # what was killed had no last word: the line is an earlier start's
        work = pool.Pool([run], SimpleNamespace(alone=False, poll=lambda started, status=status: pool.End(status)))
        run.config.folder.mkdir(parents=True, exist_ok=True)
        (run.config.folder / pool.CONSOLE_FILE).write_text(f"starting\n{last_line}\n")
        job = work.jobs[0]
        job.started, job.tries, job.held = object(), 1, SimpleNamespace(close=lambda: None)
        work._attend(job)
        assert (job.state == "failed") is failed
    assert "not tried again" in job.last_lines and job.last_lines == (run.config.folder / "failed.txt").read_text()
