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


def test_packages_for_export_are_no_condition_for_anything_else():
    lines = (ROOT / "requirements-export.txt").read_text(encoding="utf-8").splitlines()
    extras = {line.split(">")[0] for line in lines if line[:1] != "#"}
    assert {"onnx", "onnxruntime", "safetensors"} <= extras
    for path in (path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong = {name.split(".")[0] for name in names} & extras
            assert not wrong, f"{path.relative_to(ROOT)}: {', '.join(wrong)} comes by engine.tasks.export.extras.extra"


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
    # Files of others, weights, are read in a room of their own: no run leaves them, and models know of no files.
    assert len({path.stem for path in ENGINE.iterdir()} - {"__init__", "__pycache__"}) <= 19
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


def lacking_annotations(path):
    """A line for every public function and method that lacks some, with what lacks them."""
    place = path.relative_to(ROOT)
    for node, is_method in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
        arguments = [*node.args.posonlyargs, *node.args.args]
        if is_method and not any(getattr(each, "id", "") == "staticmethod" for each in node.decorator_list):
            arguments = arguments[1:]
        arguments += [*node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
        bare = [argument.arg for argument in arguments if argument.annotation is None]
        if node.returns is None and node.name != "__init__":
            bare.append("its result")
        if bare:
            yield f"{place}:{node.lineno} {node.name}: {', '.join(bare)}"


def public_functions(body, in_class=False):
    """(function, whether it is a method) of a module's or a class's body; nested ones are their function's own."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, in_class=True)
        if isinstance(node, ast.FunctionDef) and (in_class and node.name.startswith("__") or node.name[0] != "_"):
            yield node, in_class


def test_what_lacks_annotations_is_found(tmp_path, monkeypatch):
    (tmp_path / "ops.py").write_text("""
def whole(x: int, *more: int, y: int = 0, **rest: int) -> int: return lambda z: z
def bare(x, *more, y=0, **rest):
    def nested(z): return z
def _own(x): return x
class Kept:
    field: int = 0
    def __init__(self, x: int): pass
    def __call__(self, x): return x
    @staticmethod
    def made(x: int): return x
class _Own:
    def bare(self, x): return x
""")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert list(lacking_annotations(tmp_path / "ops.py")) == [
        "ops.py:3 bare: x, y, more, rest, its result", "ops.py:9 __call__: x, its result", "ops.py:11 made: its result",
    ]


def test_public_functions_say_what_they_take_and_give():
    files = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]
    lacking = [line for path in files for line in lacking_annotations(path)]
    assert not lacking, "without annotations:\n" + "\n".join(lacking)
