"""Table 8 and figure 7: what the frames of a clip and the clips per worker do."""

import pytest
from sweep_folders import CONFIG, IMAGES, NORM, drawn

from engine.errors import InputError
from engine.report.drawings import DRAWINGS, check_figures
from engine.report.page import write_report
from engine.report.results import read_sweep
from engine.run.measure import TOP1_ERROR

FRAMES, SHUFFLED = "data.frames", "data.shuffled"
CLIPS = CONFIG | {
    "model": {**CONFIG["model"], "name": "i3d"},
    "data": {"name": "garment_clips", "train_clips": 4000, "validation_clips": 1000, "frames": 8, "shuffled": False},
}
GRIDS = [
    {NORM: ["bn", "gn"], FRAMES: [8], IMAGES: [8, 4], "seed": [0, 1]},
    {NORM: ["bn", "gn"], FRAMES: [16], IMAGES: [4], "seed": [0, 1]},
]


def error_of(values):
    worse = 0.1 * (values[NORM] == "bn") * (values[IMAGES] == 4)
    return 0.2 + worse - 0.05 * (values[FRAMES] == 16) + 0.02 * values["seed"]


def table_8(folder):
    (ours, papers), caption = DRAWINGS["table_8"].draw(read_sweep(folder))
    return ours, papers, caption


def test_table_8_has_short_clips_before_long_ones_many_before_few_and_bn_beside_gn(make_sweep):
    folder = make_sweep(GRIDS, ["table_8"], error=error_of, config=CLIPS)
    ours, papers, caption = table_8(folder)
    assert ours == [
        ["frames", "8", "8", "16"],
        ["clips per worker", "8", "4", "4"],
        ["BN", "79.00 ± 1.41", "69.00 ± 1.41", "74.00 ± 1.41"],
        ["GN", "79.00 ± 1.41", "79.00 ± 1.41", "84.00 ± 1.41"],
        ["GN − BN", "+0.00", "+10.00", "+10.00"],
    ]
    assert papers[:2] == [["frames", "32", "32", "64"], ["clips per worker", "8", "4", "4"]]
    assert [cell.strip("*") for cell in papers[3]] == ["GN, the paper", "73.0", "72.8", "74.5"]
    assert caption.startswith("Validation top-1 accuracy in percent") and "composed clips" in caption
    write_report(folder)
    assert "| GN − BN | +0.00 | +10.00 | +10.00 |" in (folder / "report.md").read_text()


def test_sets_of_values_that_make_clips_longer_are_columns_too(make_sweep):
    lengths = [{"8 frames": {FRAMES: 8, "data.stride": 2}}, {"16 frames": {FRAMES: 16, "data.stride": 1}}]
    grids = [{NORM: ["bn", "gn"], "clip": length, IMAGES: [4], "seed": [0]} for length in lengths]
    ours, _, _ = table_8(make_sweep(grids, ["table_8"], error=lambda values: 0.2, config=CLIPS))
    assert ours == [["frames", "8", "16"], ["clips per worker", "4", "4"], ["BN", "80.00", "80.00"],
                    ["GN", "80.00", "80.00"], ["GN − BN", "+0.00", "+0.00"]]


def test_a_control_has_a_row_of_its_own_and_what_is_missing_is_said(make_sweep):
    grids = [grid | {SHUFFLED: [False]} for grid in GRIDS]
    grids.append({NORM: ["gn"], FRAMES: [8], IMAGES: [8], SHUFFLED: [True], "seed": [0, 1]})
    states = {"norm=bn,frames=16,images_per_worker=4,seed=1,shuffled=False": "failed"}
    ours, _, _ = table_8(make_sweep(grids, ["table_8"], error_of, states, config=CLIPS))
    rows = {row[0]: row[1:] for row in ours}
    assert rows["GN, frames shuffled"] == ["79.00 ± 1.41", "", ""]
    assert rows["BN, frames in order"][2] == "75.00 (1 of 2)"
    assert "GN, frames shuffled − BN, frames in order" not in rows


def test_table_8_wants_clips_of_several_lengths():
    with pytest.raises(InputError, match="^figures: table_8 needs the axis data.frames with 2 values or more$"):
        check_figures(["table_8"], {IMAGES: [8, 4], FRAMES: [8]}, measures=[TOP1_ERROR])
    check_figures(["table_8"], {IMAGES: [8, 4], FRAMES: [8, 16]}, measures=[TOP1_ERROR])


def test_figure_7_has_bn_left_gn_right_and_a_curve_for_each_number_of_the_shortest_clips(make_sweep):
    control = {NORM: ["bn", "gn"], FRAMES: [8], IMAGES: [8], SHUFFLED: [True], "seed": [0, 1]}
    folder = make_sweep([*(grid | {SHUFFLED: [False]} for grid in GRIDS), control], error=error_of, config=CLIPS)
    panels, (left, right), caption = drawn(folder, "figure_7")
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"{norm}, 8 frames, frames in order" for norm in ("BN", "GN")
    ]
    assert left.keys() == right.keys() == {"8", "4"}
    assert left["4"][1][-1] == pytest.approx(31) and left["8"][1][-1] == right["4"][1][-1] == pytest.approx(21)
    assert "a curve for each number of clips per worker" in caption
    with pytest.raises(InputError, match="figure_7 needs the axis batch.images_per_worker with 2 values or more"):
        check_figures(["figure_7"], {IMAGES: [8], FRAMES: [8]})


def test_figure_7_of_one_number_of_clips_for_each_length(make_sweep):
    sizes = ((8, 8), (16, 4))
    grids = [{NORM: ["bn", "gn"], FRAMES: [frames], IMAGES: [clips], "seed": [0]} for frames, clips in sizes]
    _, (left, right), _ = drawn(make_sweep(grids, error=error_of, config=CLIPS), "figure_7")
    assert left.keys() == right.keys() == {"8"}


def test_a_report_on_clips_speaks_of_clips(make_sweep):
    folder = make_sweep(GRIDS, ["figure_1", "table_2"], error=error_of, config=CLIPS)
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "| clips per worker | 8 | 4 |" in text and "against clips per worker" in text
    assert "| clips per worker | workers | clips per step |" in text and "images per worker" not in text
