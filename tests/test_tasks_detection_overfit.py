"""Eight scenes learned by heart, through both doors: written as COCO's files, read, and trained by tools/train.py."""

import json
import os

import pytest
from conftest import ROOT, train_here

from data import garment_scenes
from engine.tasks.detection.coco_files import write_coco

pytest.importorskip("pycocotools")


@pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="takes two minutes: set SLOW_TESTS=1")
def test_eight_scenes_are_learned_by_heart(tmp_path):
    scenes, _ = garment_scenes(8, 1, fresh=False)
    write_coco((scenes, scenes), tmp_path / "scenes")
    data = {"name": "coco", "root": str(tmp_path / "scenes"), "train": "annotations/instances_train.json",
            "validation": "annotations/instances_val.json", "flip": False, "resize_short": 128, "resize_long": 128}
    train_here("-c", ROOT / "configs" / "detection" / "scenes.yaml", "-o", "name=overfit", f"output={tmp_path}",
               f"data={json.dumps(data)}", "schedule.epochs=150", "evaluate_every_epochs=150", "reading.processes=0")
    result = json.loads((tmp_path / "overfit" / "result.json").read_text())
    assert result["box_ap50_last"] >= 0.9 and result["mask_ap50_last"] >= 0.9, result
