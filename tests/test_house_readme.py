"""The READMEs: both have the same commands, and every command runs as it stands there, only shorter."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

READMES = [ROOT / "README.md", ROOT / "README_cn.md"]
BEGINNINGS = ("python ", "bash ", "visualdl ")
TINY_NETWORK = "model.width=4 model.norm_groups=2 schedule.epochs=1 schedule.warmup_epochs=0 checkpoint.keep=0"
TINY_SET = "data.train_images=64 data.validation_images=16"
SHORTER = {  # what is added to a command, by its beginning; the first that fits
    "python tools/sweep.py -c configs/sweeps/deformable.yaml":
        f"--only deformable_stages=c3+c4+c5 deformable_version=2 warp=1.0 seed=0 -o {TINY_NETWORK} {TINY_SET}",
    "python tools/sweep.py": f"--only norm=gn images_per_worker=2 seed=0 -o {TINY_NETWORK} {TINY_SET}",
    "python tools/train.py -c configs/my_images.yaml": f"-o {TINY_NETWORK}",
    "python tools/train.py": f"-o {TINY_NETWORK} {TINY_SET}",
    "python tools/bench.py": "--quick",
}
STANDS_FOR = {
    "PICTURE_OR_FOLDER": "pictures/a", "FOLDER": "pictures", "FILE": "configs/warped.yaml",
    "WEIGHTS.pdparams": "output/quickstart/best.pdparams",
}
ELSEWHERE = {  # what another test runs
    "bash run.sh": "test_house_aistudio.py",
    "bash PROJECT/run.sh": "test_house_aistudio.py",
    "bash test.sh": None,  # this is it
    "bash tests/with_paddle_2_6.sh": None,  # this is it too, with another Paddle
    "visualdl ": "test_house_dashboard.py",
    "python -m paddle.distributed.launch ": "test_train_distributed.py",
    "python tools/fetch_data.py ": "test_data_sources.py",
}


def commands(path):
    """All commands of a README in their order, each once, in one line and without what is optional."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = [block.splitlines() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [re.sub(r"\s+#.*|\s*\[--\w+\]", "", line).strip() for line in [*sum(blocks, []), *inline]]
    return list(dict.fromkeys(" ".join(line.split()) for line in found if line.startswith(BEGINNINGS)))


def test_both_readmes_have_the_same_commands():
    first, second = map(commands, READMES)
    assert len(first) > 15
    assert sorted(first) == sorted(second)


def is_run_elsewhere(command):
    for beginning, test in ELSEWHERE.items():
        if command.startswith(beginning):
            assert test is None or (ROOT / "tests" / test).exists()
            return True
    return False


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which a command finds what it would find in the project's, but writes nothing there."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("configs", "tools", "data", "results"):
        (folder / name).symlink_to(ROOT / name)
    for label in "ab":
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(20):
            shade = (3 * number, 255 * (label == "a"), number)
            Image.new("RGB", (20, 24), shade).save(folder / "pictures" / label / f"{number}.png")
    return folder


def test_every_command_runs(workplace):
    """In the README's order, but those that use what others made come last."""
    mine = [command for command in commands(READMES[0]) if not is_run_elsewhere(command)]
    for command in sorted(mine, key=lambda command: "output/" in command):
        more = next((more for beginning, more in SHORTER.items() if command.startswith(beginning)), "")
        words = shlex.split(command if "--dry-run" in command else f"{command} {more}")
        for name, meant in STANDS_FOR.items():
            words = [re.sub(rf"\b{re.escape(name)}$", meant, word) for word in words]
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=workplace, capture_output=True, text=True, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    shutil.rmtree(workplace / "output")
