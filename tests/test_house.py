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


ENGINE = ROOT / "engine"
# Behind the door there is no config any more.
WITHOUT_CONFIG = ("train", "tasks", "report")
WHOLE = ("house", "tools")  # prefixes of tests that are of no room of engine


def engine_rooms():
    """Room of engine (a folder, or a file on top) -> the rooms that it imports from."""
    arrows = {}
    for path in ENGINE.rglob("*.py"):
        own = path.relative_to(ENGINE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "engine" and own != "__init__":
                modules = [f"engine.{alias.name}" for alias in node.names] if node.module == "engine" else [node.module]
                arrows.setdefault(own, set()).update(module.split(".")[1] for module in modules)
    return {own: rooms - {own} for own, rooms in arrows.items()}


def test_engine_has_few_rooms_and_no_circle():
    arrows = engine_rooms()
    assert len({path.stem for path in ENGINE.iterdir()} - {"__init__", "__pycache__"}) <= 18
    left = set(arrows)
    while left:
        last = {room for room in left if not arrows[room] & left}
        assert last, f"these import each other: {sorted(left)}"
        left -= last


def test_config_stops_at_the_door():
    for room in WITHOUT_CONFIG:
        assert "config" not in engine_rooms()[room], f"engine/{room} imports engine.config"


def test_files_have_one_topic():
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("*.py"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines"


def test_tests_are_named_by_their_rooms():
    rooms = {*MAY_IMPORT, *WHOLE, *(path.stem for path in ENGINE.iterdir())}
    for path in (ROOT / "tests").glob("test_*.py"):
        topic = path.stem.removeprefix("test_")
        assert any(topic == room or topic.startswith(f"{room}_") for room in rooms), f"{path.name} names no room"
