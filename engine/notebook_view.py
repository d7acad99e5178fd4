"""What a notebook's cell shows while something trains: a bar, and curves that are drawn anew in their place."""

import io
import uuid
from typing import NamedTuple

from IPython.display import Image, display
from tqdm.auto import tqdm

from engine.config import Config
from engine.files import read_lines
from engine.run.result import METRICS_FILE, parse_record

POINTS = 40  # of a training curve; more is noise
STROKES = ["-", "--", ":", "-."]


class WatchedRun(NamedTuple):
    name: str
    config: Config
    steps: int  # when it is finished

    def records(self):
        """The lines of its metrics.jsonl by now; the last can be half written."""
        path = self.config.folder / METRICS_FILE
        lines = read_lines(path) if path.exists() else []
        return [
            parse_record(line, f"{path}: line {number}").model_dump(exclude_unset=True)
            for number, line in lines if line.endswith("\n")
        ]

    def images(self, steps):
        """That it has trained on after so many steps."""
        return min(steps, self.steps) * self.config.batch.images_per_step


class View:
    """Shows how runs come along. Use it as a context; `look` may be called as often as one likes."""

    def __init__(self, title: str, runs: list[WatchedRun]):
        self.title, self.runs = title, runs
        self.records, self.shown = None, uuid.uuid4().hex

    def __enter__(self):
        total = sum(run.images(run.steps) for run in self.runs)
        self.bar = tqdm(total=total, desc=self.title, unit=" images", unit_scale=True, leave=False)
        self.look()
        return self

    def __exit__(self, *error):
        self.look()
        self.bar.close()

    def look(self):
        """Move the bar; draw the curves anew where something has come."""
        records = [run.records() for run in self.runs]
        self.bar.n = sum(run.images(of[-1]["step"]) for run, of in zip(self.runs, records, strict=True) if of)
        self.bar.refresh()
        if records != self.records:
            display(draw(self.title, self.runs, records), display_id=self.shown, update=self.records is not None)
            self.records = records


def draw(title: str, runs: list[WatchedRun], records: list[list[dict]]) -> Image:
    """Errors by epoch, a colour for each value of a sweep's first axis, a stroke for each of the others'."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # a $ in a name is a $
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        colours, strokes = (list(dict.fromkeys(run.name.partition(",")[part] for run in runs)) for part in (0, 2))
        for run, of in zip(runs, records, strict=True):
            first, _, others = run.name.partition(",")
            look = {"color": f"C{colours.index(first)}", "linestyle": STROKES[strokes.index(others) % len(STROKES)]}
            axes.plot(*_points(run, of, "train"), **look, linewidth=0.8, alpha=0.5)
            axes.plot(*_points(run, of, "eval"), **look, marker="o", label=run.name)
        epochs = max(run.config.schedule.epochs for run in runs)
        axes.set(title=title, xlabel="epoch", ylabel="error, %", xlim=(0, 1.02 * epochs))
        if len(runs) <= 12:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="validation (thin: training)")
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=90)
    return Image(png.getvalue(), format="png")


def _points(run, records, kind):
    """(epochs, errors in percent); of "train" the means of some records each, so that there are not too many."""
    records = [record for record in records if record["kind"] == kind]
    size = -(-len(records) // POINTS) if kind == "train" else 1
    parts = [records[start : start + size] for start in range(0, len(records), max(1, size))]
    epochs = [part[-1]["step"] / run.steps * run.config.schedule.epochs for part in parts]
    return epochs, [100 * sum(record["top1_error"] for record in part) / len(part) for part in parts]
