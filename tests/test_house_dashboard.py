"""VisualDL over the folder of a sweep, seen in a real browser.

The README's pictures are what the same tests see of a larger sweep:

    DASHBOARD_LOGDIR=output/figure1 DASHBOARD_PICTURES=results/dashboard python -m pytest tests/test_house_dashboard.py
"""

import csv
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import run_tool, write_sweep
from PIL import Image
from visualdl import LogReader

browsing = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
SECONDS = 120  # to wait for anything, on a machine that has much else to do


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a sweep whose runs wrote all that they can."""
    if "DASHBOARD_LOGDIR" in os.environ:
        return Path(os.environ["DASHBOARD_LOGDIR"])
    folder = tmp_path_factory.mktemp("dashboard")
    path = write_sweep(folder, axes="{norm: [bn, gn]}")
    done = run_tool(
        "sweep.py", "-c", path, "--jobs", "2",
        "-o", "model.deformable_stages=[c5]", "record.offsets=1", "record.histograms=true",
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "output" / "small"


@pytest.fixture(scope="module")
def runs(sweep):
    """The folders of its runs, and what VisualDL reads in each."""
    return {file.parent.parent: LogReader(file_path=str(file)) for file in sweep.rglob("vdlrecords*")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where the pictures of what was seen go."""
    return Path(os.environ.get("DASHBOARD_PICTURES") or tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def address(sweep, tmp_path_factory):
    """Of VisualDL, at work on the sweep's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    options = ["--logdir", sweep, "--host", host, "--port", str(port), "--disable-telemetry"]
    log = tmp_path_factory.mktemp("visualdl") / "log"
    with log.open("w") as said:
        command = [sys.executable, "-m", "visualdl.server.app", *options]
        server = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                socket.create_connection((host, port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield f"http://{host}:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(scope="module")
def page(address):
    """VisualDL's first page in a browser, in which nothing may go wrong, and which asks nothing of another server."""
    faults, asked = [], set()
    with browsing.sync_playwright() as playwright:
        flags = ["--disable-gpu", "--disable-quic"]  # playwright adds the others that a test wants
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=1000 * SECONDS)
        page = browser.new_page(viewport={"width": 1400, "height": 800}, locale="en-US")
        page.set_default_timeout(1000 * SECONDS)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("response", lambda response: faults.append(response.url) if response.status >= 400 else None)
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        yield page
        browser.close()
    assert not faults
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []


def wait_until(page, holds):
    """Let the page go on until `holds()`."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)


def colours_of(element):
    """The colours, (red, green, blue), that are seen in an element of the page."""
    picture = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
    return {colour for _, colour in picture.getcolors(picture.width * picture.height)}


def keep(page, picture):
    """Write what is seen once nothing moves; VisualDL shows its errors as toasts, of which there may be none."""
    assert page.locator(".Toastify__toast--error").all_inner_texts() == []
    page.mouse.move(1, 700)  # to where it points at nothing
    page.locator("#nprogress").wait_for(state="detached")
    seen = [b""]
    wait_until(page, lambda: seen.append(page.screenshot()) or seen[-1] == seen[-2])
    picture.write_bytes(seen[-1])


def test_scalars_of_all_runs_lie_over_each_other(page, runs, pictures):
    page.get_by_text("Scalars", exact=True).click()
    dots = page.locator(".run-item i")
    wait_until(page, lambda: dots.count() == len(runs))
    names = [name.partition(" (")[0] for name in page.locator(".run-item").all_inner_texts()]
    assert sorted(names) == sorted(", ".join(re.findall("=([^,]*)", run.name)) for run in runs)
    colours = dots.evaluate_all("dots => dots.map(dot => dot.style.backgroundColor.match(/\\d+/g).map(Number))")
    page.locator("h3", has_text="epoch").click()  # closes what is open
    page.locator("h3", has_text="eval").click()
    chart = page.locator("canvas").first
    wait_until(page, lambda: set(map(tuple, colours)) <= colours_of(chart))
    keep(page, pictures / "scalars.png")


def test_hyper_parameters_stand_beside_the_errors(page, sweep, runs, pictures):
    page.get_by_text("Hyper Parameters", exact=True).click()
    rows = page.get_by_role("row")
    wait_until(page, lambda: rows.count() == 1 + len(runs))
    heads, *lines = [row.split("\n") for row in rows.all_inner_texts()]
    shown = [dict(zip(heads, line, strict=True)) for line in lines]
    found = [(row["model/norm"], round(float(row["eval/top1_error"]), 6)) for row in shown]
    with (sweep / "results.csv").open() as file:
        finished = [row for row in csv.DictReader(file) if row["state"] == "finished"]
    written = [(row["norm"], round(float(row["top1_error_last"]), 6)) for row in finished]
    assert sorted(found) == sorted(written)
    keep(page, pictures / "hyper_parameters.png")


def test_histograms(page, runs, pictures):
    page.get_by_text("Histogram", exact=True).click()
    charts = page.locator("canvas")  # of the group that is open: weights and biases of the last layer
    wait_until(page, lambda: charts.count() == 2 * len(runs))
    wait_until(page, lambda: any(max(colour) - min(colour) > 100 for colour in colours_of(charts.first)))
    keep(page, pictures / "histograms.png")


def test_pictures_of_samples_and_offsets(page, runs, pictures):
    page.locator("nav .nav-text", has_text="Samples").hover()
    page.locator("[role=menu] a[href$=image]").click()
    groups = sorted({tag.partition("/")[0] for log in runs.values() for tag in log.get_tags()["image"]})
    heads, seen = page.locator("h3"), page.locator("article img")

    def all_loaded():
        return seen.count() and seen.evaluate_all("all => all.every(one => one.naturalWidth)")

    wait_until(page, lambda: heads.all_inner_texts() == groups)
    for number, group in enumerate(groups):
        if number:  # the first is open
            heads.nth(number - 1).click()
            heads.nth(number).click()
        wait_until(page, all_loaded)
        keep(page, pictures / f"{group}.png")
    small, steps = seen.count(), {str(log.get_data("image", f"{group}/sample_0")[-1].id) for log in runs.values()}
    seen.first.click()  # large
    for _ in range(20):  # to the newest
        page.keyboard.press("ArrowRight")
    wait_until(page, lambda: page.locator(".step-slider > span").last.inner_text() in steps)
    wait_until(page, lambda: seen.count() == small + 1 and all_loaded())
    keep(page, pictures / f"{group}_large.png")
