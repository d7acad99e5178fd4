"""Names that are not ours show on a terminal and steer nothing."""

import errno
import io
import json
import logging

import pytest

from engine.check_data.report import report_text
from engine.command import command
from engine.drawing import plain_table
from engine.errors import DiskError, InputError
from engine.run.record import RunRecord
from engine.terminal import json_text, one_line, printable

HOSTILE = "cat\n\nno problems found\x1b[2J\x9b1A\u202etac\u2028\udcff\x7f\r\b"
SHOWN = r"cat\n\nno problems found\x1b[2J\x9b1A\u202etac\u2028\udcff\x7f\r\x08"


def test_what_steers_is_shown():
    assert printable(HOSTILE) == SHOWN
    assert printable("猫 é ﷺ 👩‍👧 a\\b") == "猫 é ﷺ 👩‍👧 a\\b"  # letters of all kinds stay


def test_an_error_is_one_line_of_bounded_length():
    assert one_line(f"{HOSTILE}: no such file") == f"{SHOWN}: no such file"
    line = one_line(InputError("a" * 10**6 + "\n: expected another"))
    assert len(line) < 2010 and line.startswith("aaa") and " … " in line and line.endswith(r"\n: expected another")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_valid_in_every_locale(encoding, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    value = {"class": "é 猫" + HOSTILE}
    text = json_text(value, indent=2)
    assert json.loads(text.encode(encoding).decode(encoding)) == value
    assert ("猫" in text) == (encoding == "utf-8") and printable(text.replace("\n", "")) == text.replace("\n", "")


def test_a_disk_that_refuses_is_one_line_too(capsys):
    def main():
        raise DiskError(errno.ENOSPC, "No space left on device", f"/x/{HOSTILE}")

    with pytest.raises(SystemExit) as ended:
        command(main)
    assert ended.value.code == 1 and f"error: /x/{SHOWN}: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [InputError, ValueError])
def test_a_command_prints_one_line(kind, capsys):
    def main():
        logging.getLogger("data.x").warning("skipped %s", HOSTILE)
        raise kind(HOSTILE)

    with pytest.raises((SystemExit, ValueError)) as ended:
        command(main)
    if kind is InputError:
        assert ended.value.code == 2 and f"error: {SHOWN}\n" in capsys.readouterr().err
    else:
        assert ended.value.args == (HOSTILE,)  # a bug keeps its traceback


def test_the_data_report_cannot_be_forged():
    report = {
        "name": "x", "data": "image_folder", "sample": "picture", "sizes": {}, "findings": [
            {"kind": "problem", "text": f"uneven: 5 of {HOSTILE}", "items": [HOSTILE]}
        ],
        **{part: {"pictures": 1, "opened": 1, "origin": HOSTILE} for part in ("training", "validation")},
        "classes": [{"label": 0, "class": HOSTILE, "training": 1, "validation": 1}],
    }
    text = report_text(report)
    assert "no problems found" not in text.splitlines() and text.count(SHOWN) == 5
    assert all(line.isprintable() for line in text.splitlines())


def test_tables_and_logs_show_names(tmp_path):
    assert plain_table([["run", "error"], [HOSTILE, "1"]]).splitlines()[1].startswith(SHOWN)
    record = RunRecord(tmp_path)
    record.log(f"from x: 1 unexpected ({HOSTILE})")
    record.close()
    assert (tmp_path / "train.log").read_text().endswith(f"from x: 1 unexpected ({SHOWN})\n")
