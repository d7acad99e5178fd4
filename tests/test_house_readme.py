"""The front page and the pages of docs/: short, the same commands in both languages, no link that leads nowhere, and
every command runs as it stands there, only shorter.
"""

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
PAGES = [(*READMES,), *((page, ROOT / "docs" / "cn" / page.name) for page in sorted((ROOT / "docs").glob("*.md")))]
BEGINNINGS = ("python ", "bash ", "visualdl ")
TINY_NETWORK = "model.width=4 model.norm_groups=2 schedule.epochs=1 schedule.warmup_epochs=0 checkpoint.keep=0"
TINY_SET = "data.train_images=64 data.validation_images=16"
TINY_CLIPS = "data.train_clips=16 data.validation_clips=10"
SHORTER = {  # what is added to a command, by its beginning; the first that fits
    "python tools/sweep.py -c configs/sweeps/deformable.yaml":
        f"--only deformable_stages=c3+c4+c5 deformable_version=2 warp=1.0 seed=0 -o {TINY_NETWORK} {TINY_SET}",
    "python tools/sweep.py -c configs/sweeps/clips.yaml":
        f"--only norm=gn frames=8 images_per_worker=2 seed=0 -o {TINY_NETWORK} {TINY_CLIPS}",
    "python tools/sweep.py": f"--only norm=gn images_per_worker=2 seed=0 -o {TINY_NETWORK} {TINY_SET}",
    "python tools/train.py -c configs/my_images.yaml -o data.root=FOLDER name=tuned pretrained":
        f"-o {TINY_NETWORK} model.depth=26 model.width=2",
    "python tools/train.py -c configs/my_images.yaml": f"-o {TINY_NETWORK}",
    "python tools/train.py -c configs/detection/my_objects.yaml": f"-o {TINY_NETWORK}",
    "python tools/check_data.py -c configs/detection/scenes.yaml": f"-o {TINY_SET}",
    "python tools/write_coco.py": f"-o {TINY_SET}",
    "python tools/train.py -c configs/video/my_videos.yaml": f"-o {TINY_NETWORK}",
    "python tools/train.py -c configs/video/": f"-o {TINY_NETWORK} {TINY_CLIPS}",
    "python tools/train.py": f"-o {TINY_NETWORK} {TINY_SET}",
    "python tools/bench.py": "--quick",
}
STANDS_FOR = {
    "VIDEO_OR_FOLDER": "videos/a", "VIDEOS": "videos",
    "PICTURE_OR_FOLDER": "pictures/a", "FOLDER": "pictures", "FILE": "configs/warped.yaml",
    "WEIGHTS.pdparams": "output/quickstart/best.pdparams",
    "WEIGHTS.pth": str(ROOT / "tests" / "weights" / "grouped.ema.pth"),
}
ELSEWHERE = {  # what another test runs
    "bash run.sh": "test_house_aistudio.py",
    "bash PROJECT/run.sh": "test_house_aistudio.py",
    "bash test.sh": None,  # this is it
    "bash tests/faults.sh": "test_tools_faults.py",
    "bash tests/with_paddle_2_6.sh": None,  # this is it too, with another Paddle
    "visualdl ": "test_house_dashboard.py",
    "python -m paddle.distributed.launch ": "test_train_distributed.py",
    "python tools/fetch_data.py ": "test_data_sources.py",
    "python tools/sweep.py -c configs/sweeps/imagenet_figure1.yaml --executor ray": "test_sweep_cluster.py",
}


def commands(path):
    """All commands of a page in their order, each once, in one line and without what is optional."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = [block.splitlines() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [re.sub(r"\s+#.*|\s*\[--\w+\]", "", line).strip() for line in [*sum(blocks, []), *inline]]
    return list(dict.fromkeys(" ".join(line.split()) for line in found if line.startswith(BEGINNINGS)))


def all_commands():
    """The commands of the English pages in their order, each once."""
    return list(dict.fromkeys(command for english, _ in PAGES for command in commands(english)))


def test_both_languages_have_the_same_pages_and_commands():
    assert {page.name for page in (ROOT / "docs" / "cn").iterdir()} == {page.name for page, _ in PAGES[1:]}
    assert len(all_commands()) > 25
    for english, chinese in PAGES:
        assert sorted(commands(english)) == sorted(commands(chinese)), english.name


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_front_page_stays_short(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 140
    assert max(map(len, lines)) <= 110


def anchors(page):
    """What a link into a page can name: its headings as GitHub calls them, and anchors of its own."""
    text = page.read_text(encoding="utf-8")
    headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-")
                for line in text.splitlines() if line.startswith("#")]
    return {*headings, *re.findall(r'<a id="([^"]+)">', text)}


def test_every_link_leads_somewhere():
    for page in (*(page for pair in PAGES for page in pair), ROOT / "RESULTS.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                path, _, anchor = link.partition("#")
                target = page.parent / path if path else page
                assert target.exists(), f"{page.name}: {link}"
                assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


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
        for video in range(10):
            frames = folder / "videos" / label / f"v{video}"
            frames.mkdir(parents=True)
            for number in range(1, 5):
                shade = (20 * video, 255 * (label == "a"), 40 * number)
                Image.new("RGB", (20, 24), shade).save(frames / f"img_{number:05}.png")
    return folder


@pytest.mark.ci
def test_every_command_runs(workplace):
    """In the pages' order, but those that use what others made come last."""
    mine = [command for command in all_commands() if not is_run_elsewhere(command)]
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
