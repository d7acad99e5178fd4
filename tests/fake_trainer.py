"""A stand-in for tools/train.py that imports nothing: it steps, saves at each step, resumes and can be told how to end.

Its steps are the lines of metrics.jsonl, the last one's number is all that a checkpoint holds. At SIGTERM it saves and
ends. FAKE in its environment says how many steps=, how many seconds= each takes and how many megabytes= it keeps, and
exit=STATUS if it ends badly.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

told = dict(part.split("=") for part in os.environ.get("FAKE", "").split(",") if part)
options = dict(part.split("=", 1) for part in sys.argv[sys.argv.index("-o") + 1 :]) if "-o" in sys.argv else {}
folder = Path(sys.argv[sys.argv.index("-c") + 1]).parent
if "output" in options:
    assert folder.is_relative_to(options["output"])
stopped, kept = [], []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
steps = int(told.get("steps", 3))
record, mark = folder / "metrics.jsonl", folder / "latest.pdstates"
done = int(mark.read_text()) if mark.exists() else 0
lines = record.read_text().splitlines()[:done] if record.exists() else []
print(f"from step {done}", flush=True)
for step in range(done + 1, steps + 1):
    kept.append(b"x" * (int(told.get("megabytes", 0)) * 2**20))
    time.sleep(float(told.get("seconds", 0)))
    lines.append(json.dumps({"kind": "train", "epoch": 1, "step": step, "loss": 1 / step}))
    record.write_text("".join(line + "\n" for line in lines))
    for ending in (".pdparams", ".pdopt", ".pdstates"):
        (folder / f"latest{ending}.new").write_text(str(step))
    for ending in (".pdparams", ".pdopt", ".pdstates"):
        os.replace(folder / f"latest{ending}.new", folder / f"latest{ending}")
    if stopped:
        sys.exit(143)
if "exit" in told:
    sys.exit(int(told["exit"]))
errors = dict.fromkeys(("top1_error_median_last_5", "top1_error_last", "top1_error_best"), 0.25)
numbers = dict.fromkeys(("workers", "images_per_worker", "images_per_step", "seed", "parameters"), 4)
(folder / "result.json").write_text(json.dumps({
    "name": "fake", **errors, **numbers, "best_epoch": 1, "epochs": 1, "steps": steps, "norm": "gn", "lr": 0.1,
    "protocol": "paper", "evaluation_statistics": None, "multiply_adds": 5, "train_seconds": 1.0,
}))
