"""Packages on AI Studio that outlive a restart. Each notebook's first cell calls this before it imports the project.

What pip installs there is gone after a restart unless it lies in external-libraries, which has to be put on the path.
"""

import importlib
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def keep_packages(home: str | Path) -> None:
    """Put home/external-libraries on the path, also of commands that are started, and install there what is missing.

    Only what requirements.txt asks for and Python does not have is installed: Paddle is left alone, and so are the
    major versions of NumPy and protobuf that it was built for. Does nothing where there is no folder `home`. Raises
    subprocess.CalledProcessError where pip fails.
    """
    external = Path(home) / "external-libraries"
    if not external.parent.is_dir():
        return
    sys.path.insert(0, str(external))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(external), os.environ.get("PYTHONPATH")]))
    wanted = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    missing = [line for line in wanted if line and not _is_there(Requirement(line))]
    if missing:
        external.mkdir(exist_ok=True)
        constraints = external / "constraints.txt"  # pip -t copies dependencies even where they are there already
        constraints.write_text("".join(_same_major(name) for name in ("numpy", "protobuf")), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "-t", external, "-c", constraints]
        environment = {**os.environ, "PIP_USER": "0"}  # --user, where a pip.conf asks for it, and -t exclude each other
        subprocess.run([*pip, *missing], check=True, env=environment)
        importlib.invalidate_caches()


def _is_there(requirement):
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _same_major(name):
    try:
        return f"{name}=={version(name).partition('.')[0]}.*\n"
    except PackageNotFoundError:
        return ""
