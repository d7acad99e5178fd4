"""The rooms and the arrows between them."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "ops": {"ops"},
    "data": {"data"},
    "models": {"models", "ops"},
    "engine": {"engine", "models", "data", "ops"},
    "tools": {"engine", "models", "data", "ops"},
}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            assert node.level == 0, f"{path}: relative import; rooms are named in full"
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in {*MAY_IMPORT, "tests", "notebooks"})


def test_no_arrow_points_back():
    for room, allowed in MAY_IMPORT.items():
        files = list((ROOT / room).rglob("*.py"))
        assert files, f"{room} is empty"
        for path in files:
            wrong = set(imported_rooms(path)) - allowed
            assert not wrong, f"{path.relative_to(ROOT)} imports from {', '.join(wrong)}"


def test_no_file_is_a_drawer_for_everything():
    names = {path.stem for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py")}
    assert not names & {"utils", "util", "misc", "common", "helpers", "helper", "base"}


def test_commands_stay_short():
    for path in (ROOT / "tools").glob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 80, f"{path.name} has {lines} lines: let it call what belongs into engine/"
