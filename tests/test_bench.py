import json

import pytest
from conftest import is_one_line, run_tool

from engine.bench.child import others, summary
from engine.bench.ops import exponent
from engine.bench.targets import Target, judge, what_bounds


def bench(path, *arguments):
    done = run_tool("bench.py", *arguments, "--quick", "--json", path)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.mark.ci
def test_ops_are_measured_beside_paddle_and_the_floor(tmp_path):
    report, text = bench(tmp_path / "ops.json", "ops", "--only", "gn_relu,conv,dcn,memory")
    assert {"paddle", "device_name", "commit", "date", "OMP_NUM_THREADS", "command"} <= set(report)
    norm, convolution, dcn, memory = report["sections"]
    for section in (norm, convolution, dcn):
        assert section["dtype"] == "float32" and section["threads"] == int(report["OMP_NUM_THREADS"])
        (row,) = section["rows"]
        assert {"ours", "Paddle"} <= set(row["times"]) and row["disagree"] == []
        for name, times in row["times"].items():
            assert 0 < times["forward_ms"] < times["forward_backward_ms"] == row["values"][name]
            assert times["samples"] >= 1
    assert norm["rows"][0]["floor_ms"]["forward_backward"] == 2.5 * norm["rows"][0]["floor_ms"]["forward"] > 0
    assert convolution["rows"][0]["gflops"]["ours"] > 0
    assert dcn["rows"][0]["gflops"]["convolution"] > 0
    assert min(memory["rows"][0]["values"].values()) > 0
    assert all(section["title"] in text for section in report["sections"])


@pytest.mark.ci
def test_norms_that_no_one_else_has_are_measured_beside_their_definitions(tmp_path):
    report, _ = bench(tmp_path / "norms.json", "ops", "--only", "brn,frn,evonorm_s0")
    assert len(report["sections"]) == 3
    for section in report["sections"]:
        (row,) = section["rows"]
        assert {"ours", "composed"} == set(row["times"]) and row["disagree"] == []


@pytest.mark.ci
def test_what_is_done_with_boxes_is_measured(tmp_path):
    report, text = bench(tmp_path / "boxes.json", "boxes")
    align, deformable, nms = (section["rows"][0] for section in report["sections"])
    assert align["values"]["ours"] > 0 and nms["values"]["ours"] > 0
    assert set(deformable["values"]) == {"ours", "composed", "RoIAlign"} and deformable["disagree"] == []
    assert "RoIAlign to 7 x 7 bins" in text and "NMS at 0.7" in text


@pytest.mark.ci
def test_a_step_is_the_same_network_whoever_computes_its_norms(tmp_path):
    report, text = bench(tmp_path / "step.json", "step", "--only", "ours,default,convolutions")
    (row,) = report["sections"][0]["rows"]
    assert set(row["values"]) == set(row["peaks"]) == {"ours", "default", "convolutions"} and row["disagree"] == []
    assert "Paddle's default settings" in text


@pytest.mark.ci
def test_a_detectors_step_is_measured(tmp_path):
    report, text = bench(tmp_path / "detection.json", "detection", "--only", "ours")
    (row,) = report["sections"][0]["rows"]
    assert list(row["values"]) == ["ours"] and row["values"]["ours"] > 0
    assert "Mask R-CNN" in text


@pytest.mark.parametrize(
    "arguments", [["ops", "--only", "gn,gm"], ["stop"], ["step", "--json", "no/such/folder/x.json"], ["ops", "--fast"]]
)
def test_a_wrong_argument_is_one_line(arguments):
    done = run_tool("bench.py", *arguments)
    assert done.returncode == 2 and is_one_line(done.stderr) and not done.stdout


def test_targets():
    rows = [
        {"values": {"ours": 2.0, "Paddle": 9.0}, "tensor_bytes": 9e6},
        {"values": {"ours": 2.0, "Paddle": 6.0}, "tensor_bytes": 9e6},
        {"values": {"ours": 2.0, "Paddle": 2.0}, "tensor_bytes": 1e6},
        {"values": {"ours": 2.0}, "tensor_bytes": 9e6},
    ]
    faster = judge(Target("Paddle", "ours", 4, at_least=True, large_only=True), rows)
    assert faster["ratios"] == [4.5, 3.0, 1.0, None] and faster["rows_missed_by"] == [0.0, 0.25, None, None]
    assert (faster["ratio"], faster["missed_by"]) == (3.0, 0.25)
    median = judge(Target("ours", "Paddle", 0.25, median=True), rows)
    assert median["ratio"] == pytest.approx(1 / 3) and median["missed_by"] == pytest.approx(1 / 3)
    assert judge(Target("ours", "PyTorch", 1), rows)["missed_by"] is None
    memory = judge(Target("ours", "Paddle", 2, of="peaks"), [{"values": {}, "peaks": {"ours": 3, "Paddle": 1}}])
    assert memory["ratio"] == 3 and memory["text"] == "peak memory of ours / Paddle ≤ 2"


def test_what_bounds_a_time():
    tiny = {"values": {"ours": 1.0}}
    norm = {"values": {"ours": 10.0}, "floor_ms": {"forward_backward": 6.0}}
    assert what_bounds(norm, tiny) == "bound by bytes, 60%; arithmetic 30%, calls 10%"
    convolution = {"values": {"ours": 10.0}, "gflops": {"ours": 20}}
    assert what_bounds(convolution, tiny) == "bound by arithmetic and layouts, 90%; calls 10% (20 GFLOP/s)"
    dcn = {"values": {"ours": 10.0, "convolution": 2.0}, "gflops": {"ours": 20, "convolution": 100}}
    assert what_bounds(dcn, tiny).startswith("bound by sampling, 70%; arithmetic 20%, calls 10%")


def test_medians_and_growth():
    blocks = [
        {"samples": [(0.001, 0.003), (0.002, 0.004)], "seconds": 1.0, "others": 0.5},
        {"samples": [(0.009, 0.090)], "seconds": 3.0, "others": 0.1},
    ]
    times = summary(blocks)
    assert (times["forward_ms"], times["forward_backward_ms"], times["samples"]) == (2.0, 4.0, 3)
    assert others(blocks) == pytest.approx(0.15)
    assert exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
