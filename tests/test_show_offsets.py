"""What deformable layers look at: by hand, against the gradient, and as a user asks for it."""

import csv
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from conftest import TINY, is_one_line, run_tool
from paddle import nn
from PIL import Image
from test_tasks_detection_journey import TINY as DETECTOR
from visualdl import LogReader

from data import Preparation
from engine.build import build_data, build_model, load_trained
from engine.config import load_config
from engine.errors import InputError
from engine.run import checkpoint
from engine.run.folder import write_preparation
from engine.show_offsets.bins import bins_figure, look_at_bins
from engine.show_offsets.dilation import dilation_caption, dilation_table, dilations, effective_dilation, on_black
from engine.show_offsets.figures import offset_figure, sample_offsets
from engine.show_offsets.sampling import (
    choose_layers,
    collect,
    look,
    object_pixels,
    offsets_of_zero,
    receptive_fields,
    short,
    stacked_points,
    stride_of,
    telling_positions,
)
from models import Classifier, mask_rcnn, resnet
from ops import DeformConv2D

CENTRE, RIGHT = 4, 5  # taps, row by row


class Stack(nn.Layer):
    """Deformable layers and nothing else, called as a model is. Weights are positive, so that no path cancels."""

    def __init__(self, strides, *, dilations=None, **rest):
        super().__init__()
        dilations = dilations or [1] * len(strides)
        self.layers = nn.LayerList([
            DeformConv2D(
                1, 1, 3, stride=stride, padding=dilation, dilation=dilation, bias_attr=False,
                weight_attr=nn.initializer.Constant(1.0), **rest,
            )
            for stride, dilation in zip(strides, dilations, strict=True)
        ])
        self.eval()

    def forward(self, batch):
        x = batch["image"]
        for layer in self.layers:
            x = layer(x)
        return x

    def move(self, layer, tap, dy, dx):
        """Move one tap of a layer by the same offset at all positions."""
        change(self.layers[layer].offset.bias, slice(2 * tap, 2 * tap + 2), (dy, dx))


def change(parameter, where, value):
    values = parameter.numpy().copy()
    values[where] = value
    parameter.set_value(values)


def image(height, width):
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 1, height, width)).astype(np.float32))


def grid(rows, columns):
    return {(float(y), float(x)) for y in rows for x in columns}


def points_of(model, position, pixels):
    points, modulation = stacked_points(collect(model, pixels), position)
    assert len(points) == len(modulation)
    return points


def test_offsets_of_zero_are_the_regular_grid():
    points = points_of(Stack([1, 1, 1]), (5, 8), image(11, 17))
    assert len(points) == 9**3 and set(map(tuple, points)) == grid(range(2, 9), range(5, 12))
    places, count = np.unique(points, axis=0, return_counts=True)
    (corner,), (middle,) = (count[(places == place).all(axis=1)] for place in ([2, 5], [5, 8]))
    assert corner == 1 and middle == 49  # one path goes 3 x (up, left); 7 of 27 ways along an axis end where they began


def test_strides():
    """From a position p of the top, p * 2 below; a tap there is one step of that layer's input."""
    model, pixels = Stack([1, 2, 2]), image(24, 41)
    layers = collect(model, pixels)
    assert [(layer.stride_in, layer.stride_out) for layer in layers] == [(1, 1), (1, 2), (2, 4)]
    assert [layer.shape for layer in layers] == [(24, 41), (12, 21), (6, 11)]
    points = stacked_points(layers, (3, 5))[0]
    assert set(map(tuple, points)) == grid(range(12 - 4, 12 + 5), range(20 - 4, 20 + 5))  # 2 + 1 + 1 pixels either way


def test_one_offset_moves_exactly_its_points():
    model, pixels = Stack([1, 1]), image(11, 15)
    model.move(1, RIGHT, 2, -1)  # of the top layer: a whole 3 x 3 of the layer below goes along
    points = points_of(model, (5, 7), pixels).reshape(3, 3, 3, 3, 2)  # taps of the lower layer, then of the top
    plain = np.stack(np.meshgrid(range(-1, 2), range(-1, 2), indexing="ij"), axis=-1)
    expected = np.array([5, 7]) + plain[:, :, None, None] + plain
    expected[:, :, 1, 2] += (2, -1)
    np.testing.assert_array_equal(points, expected)


def test_a_fraction_goes_to_the_nearest_position_below_and_stays_in_the_lowest_layer():
    model, pixels = Stack([1, 1]), image(11, 15)
    model.move(1, CENTRE, 0.6, 0.4)
    model.move(0, CENTRE, 0.25, -0.5)
    points = points_of(model, (5, 7), pixels).reshape(9, 9, 2)
    np.testing.assert_allclose(points[CENTRE, CENTRE], (6.25, 6.5))
    np.testing.assert_allclose(points[CENTRE, 0], (4.25, 5.5))
    np.testing.assert_allclose(points[0, CENTRE], (5, 6))


def test_what_lies_beyond_the_border_leads_no_further():
    model, pixels = Stack([1, 1]), image(6, 7)
    points = points_of(model, (0, 0), pixels)
    assert len(points) == 4 * 9 and set(map(tuple, points)) == grid(range(-1, 3), range(-1, 3))
    model.move(1, CENTRE, 50, 0)
    assert len(points_of(model, (0, 0), pixels)) == 3 * 9


@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 1), (2, 2, 1)])
def test_the_gradient_reaches_the_sampling_points_and_no_other_pixel(strides):
    """Two ways to the same: the points, and the receptive field of a stack with nothing else in it."""
    model, pixels = Stack(strides, version=1), image(29, 38)
    model.move(0, RIGHT, 1, 2)
    model.move(1, 0, -2, 0)
    model.move(2, CENTRE, 3, -1)
    position = (3, 4)
    points = points_of(model, position, pixels)
    (field,) = receptive_fields(model, pixels.numpy()[0], "layers.2", [position])
    reached = {(y, x) for y, x in map(tuple, points.astype(int)) if 0 <= y < 29 and 0 <= x < 38}
    assert {tuple(map(int, place)) for place in np.argwhere(field > 1e-6)} == reached


@pytest.mark.parametrize("stem", ["small", "medium", "imagenet"])
def test_a_position_lies_in_the_middle_of_its_receptive_field(stem):
    """p * s, not (p + 0.5) * s - 0.5: here the latter would be 0.5 to 3.5 pixels off."""
    paddle.seed(0)
    network = resnet(depth=18, width=4, in_channels=1, stem=stem, norm="none", zero_init_last_norm=False)
    pixels = image(192, 192)
    pixels.stop_gradient = False
    features = network(pixels)["c3"]
    stride = stride_of(pixels.shape[2:], features.shape[2:])
    y, x = features.shape[2] // 2, features.shape[3] // 2 - 1
    (gradient,) = paddle.grad(features[0, :, y, x].sum(), pixels)
    reached = np.argwhere(gradient.numpy()[0, 0])
    np.testing.assert_array_equal((reached.min(axis=0) + reached.max(axis=0)) / 2, (y * stride, x * stride))


def test_strides_of_sizes_that_halve_badly():
    assert [stride_of((28, 28), (size, size)) for size in (28, 14, 7, 4, 2)] == [1, 2, 4, 8, 16]
    assert stride_of((224, 100), (7, 4)) == 32


def test_modulation_is_the_product_along_the_stack():
    for modulation, per_logit in (("2sigmoid", 2 / (1 + np.exp(-1))), ("sigmoid", 1 / (1 + np.exp(-1)) / 0.5)):
        model = Stack([1, 1], modulation=modulation)
        np.testing.assert_allclose(stacked_points(collect(model, image(7, 9)), (3, 4))[1], 1)  # relative to the start
        change(model.layers[0].offset.bias, 18 + RIGHT, 1)
        change(model.layers[1].offset.bias, 18 + CENTRE, 1)
        products = stacked_points(collect(model, image(7, 9)), (3, 4))[1].reshape(9, 9)
        expected = np.ones((9, 9))
        expected[RIGHT] *= per_logit
        expected[:, CENTRE] *= per_logit
        np.testing.assert_allclose(products, expected, rtol=1e-6)
    (layer,) = collect(Stack([1], version=1), image(7, 9))
    assert (layer.modulation == 1).all()


def test_deformable_groups_each_have_their_points():
    layer = DeformConv2D(4, 2, 3, padding=1, deformable_groups=2)
    change(layer.offset.bias, 18 + 2 * CENTRE, 3)  # of the second group

    class Model(nn.Layer):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, batch):
            return self.layer(batch["image"])

    points, modulation = stacked_points(collect(Model(), paddle.randn([1, 4, 8, 9])), (2, 6))
    assert points.shape == (18, 2) and modulation.shape == (18,)
    assert points[CENTRE].tolist() == [2, 6] and points[9 + CENTRE].tolist() == [5, 6]


def test_offsets_of_zero_only_inside():
    model, pixels = Stack([1, 2]), image(9, 12)
    model.move(0, CENTRE, 1.5, 0)
    change(model.layers[1].offset.bias, slice(18, None), 2)
    before = model({"image": pixels}).numpy()
    with offsets_of_zero(model):
        for layer in collect(model, pixels):
            assert (layer.points == layer.grid).all() and (layer.modulation == 1).all() and layer.mean_length == 0
    layers = collect(model, pixels)
    assert layers[0].mean_length == pytest.approx(1.5 / 9) and layers[1].mean_length == 0
    np.testing.assert_array_equal(model({"image": pixels}).numpy(), before)


def test_effective_dilation():
    """The regular grid's is its dilation; taps pushed apart by half add half; of one tap moved, its own pairs only."""
    for layer, dilation in zip(collect(Stack([1, 2], dilations=[1, 2]), image(9, 13)), (1, 2), strict=True):
        np.testing.assert_allclose(effective_dilation(layer), np.full((1, *layer.shape), dilation))
    model = Stack([1])
    for tap in range(9):
        model.move(0, tap, 0.5 * (tap // 3 - 1), 0.5 * (tap % 3 - 1))
    np.testing.assert_allclose(effective_dilation(collect(model, image(5, 6))[0]), np.full((1, 5, 6), 1.5))
    model = Stack([1])
    model.move(0, CENTRE, 0, 1)  # onto its right neighbour: pairs 2 and 0 across, the root of 2 up and down
    np.testing.assert_allclose(effective_dilation(collect(model, image(5, 6))[0]), (8 + 2 + 2 * np.sqrt(2)) / 12)


class Squares:
    """A loader of squares on black of 2, 4 and 6 pixels, in two batches; the brightness is 1, 2 and 3."""

    def __init__(self):
        self.image = np.zeros((3, 1, 10, 12), np.float32)
        for number in range(3):
            self.image[number, 0, 2 : 4 + 2 * number, 3 : 5 + 2 * number] = number + 1

    def epoch(self, epoch):
        for part in (slice(0, 2), slice(2, 3), slice(3, 3)):
            yield {"image": self.image[part], "label": np.zeros(len(self.image[part]), np.int64)}


def test_dilations_by_size_of_the_object():
    """Taps beside the centre go apart by the brightness of the pixel they stand around."""
    model = Stack([1], version=1)
    for tap in range(9):
        change(model.layers[0].offset.weight, (2 * tap + 1, 0, 1, 1), tap % 3 - 1)  # dx = brightness * (-1, 0, 1)
    found = dilations(model, Squares(), foreground=lambda image: image[:, 0] > 0)
    ((name, stride, plain, groups),) = found.rows
    assert (name, stride, plain, found.images) == ("layers.0", 1, 1.0, 3)
    wanted = {"small object": (1.5, 4), "medium object": (2, 16), "large object": (2.5, 36), "background": (1, 304)}
    for group, (mean, positions) in wanted.items():  # half of the pairs lie beside each other
        assert groups[group].mean == pytest.approx(mean) and groups[group].positions == positions
        assert groups[group].deviation == pytest.approx(0, abs=1e-6)
    everywhere = sum(mean * positions for mean, positions in wanted.values()) / 360
    assert groups["all positions"].mean == pytest.approx(everywhere) and groups["all positions"].positions == 360
    assert dilation_table(found)[1][3:6] == ["1.50 ± 0.00", "2.00 ± 0.00", "2.50 ± 0.00"]
    assert "not black" in dilation_caption(found)


def test_dilations_where_objects_are_not_known():
    found = dilations(Stack([1, 2]), Squares())
    assert [list(groups) for *_, groups in found.rows] == [["all positions"]] * 2
    assert [groups["all positions"].positions for *_, groups in found.rows] == [360, 90]
    assert "not known" in dilation_caption(found)


class Padded:
    """Pictures of 6 x 10 and 4 x 4 in one batch, or alone."""

    def __init__(self, *batches):
        self.batches, self.sizes = batches, np.array([[6, 10], [4, 4]])

    def epoch(self, number):
        image = np.zeros((2, 1, 32, 32), np.float32)
        for row, (height, width) in zip(image, self.sizes, strict=True):
            row[:, :height, :width] = np.arange(1, 1 + height * width).reshape(height, width)
        for rows in self.batches:
            yield {"image": image[rows], "size": self.sizes[rows]}


def test_dilations_count_no_pad_and_do_not_depend_on_the_batch():
    model = Stack([1], version=1)
    change(model.layers[0].offset.weight, (1, 0, 1, 1), 0.1)
    together, alone = dilations(model, Padded([0, 1])), dilations(model, Padded([0], [1]))
    assert together.rows == alone.rows and together.images == 2
    assert together.rows[0][3]["all positions"].positions == 6 * 10 + 4 * 4


def test_black_is_what_it_was_before_the_normalisation():
    preparation = Preparation(("a",), (1, 1, 3), (0.3,), (0.5,))
    pixels = (np.array([[[[0.0, 0.05, 0.2]]]]) - 0.3) / 0.5
    assert on_black(pixels, preparation).tolist() == [[[False, False, True]]]


def test_positions_are_chosen_from_the_picture():
    picture = np.full((3, 32, 48), -0.5, np.float32)
    picture[:, 6:25, 20:44] = 1.0
    (layer,) = collect(Stack([4]), paddle.to_tensor(picture[None, :1]))
    assert telling_positions(picture, layer) == {  # of 8 x 12, four pixels apart
        "centre of the object": (4, 8), "border of the object": (6, 11), "background": (0, 0),
    }
    assert list(telling_positions(np.zeros((1, 32, 48), np.float32), layer)) == ["centre of the picture"]


def test_a_figure_counts_the_points_on_the_object():
    """Three by three taps of a fixed grid around the middle of a square of three pixels, and around its corner."""
    picture = np.zeros((1, 9, 11), np.float32)
    picture[:, 3:6, 4:7] = 1
    np.testing.assert_array_equal(object_pixels(picture), picture[0] == 1)
    assert not object_pixels(np.ones((1, 9, 11), np.float32)).any()
    model, preparation = Stack([1]), Preparation(("a",), (1, 9, 11), (0.5,), (0.5,))
    for shown_picture, said in (
        (picture, ["9 of 9 on the object", "4 of 9 on the object", "0 of 9 on the object"]),
        (0 * picture, ["9 of 9 on the picture", "9 of 9 on the picture", "4 of 9 on the picture"]),
    ):
        view = look(model, shown_picture, choose_layers(model), [(4, 5), (3, 4), (0, 0)])
        panels = offset_figure(view, preparation, "x").axes[::4]
        assert [axes.texts[-1].get_text() for axes in panels] == said


def test_layers_are_chosen_by_part_of_their_name():
    network = resnet(depth=50, width=4, norm_groups=2, deformable_stages=("c4", "c5"))
    assert choose_layers(network) == ["c5.0.conv2", "c5.1.conv2", "c5.2.conv2"]
    assert choose_layers(network, ["c4"]) == ["c4.3.conv2", "c4.4.conv2", "c4.5.conv2"]
    assert choose_layers(network, ["c5.1", "c4.5.conv2"]) == ["c4.5.conv2", "c5.1.conv2"]
    assert short("backbone.c5.1.conv2") == "c5.1.conv2"
    with pytest.raises(InputError, match=r"c5.1.conv3: no such deformable layer; did you mean c5.1.conv2\?"):
        choose_layers(network, ["c5.1.conv3"])
    with pytest.raises(InputError, match="no deformable layers"):
        choose_layers(resnet(depth=18, width=4, norm_groups=2))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_figure_of_as_many_layers_as_there_are(count):
    model, preparation = Stack([1, 2, 1][:count]), Preparation(("a",), (1, 20, 27), (0.5,), (0.5,))
    view = look(model, image(20, 27).numpy()[0], choose_layers(model), [(4, 5), (0, 9)])
    assert [(one.y, one.x) for one in view.positions] == [(4, 5), (0, 9)]
    assert len(view.positions[0].deformed.points) == 9**count
    np.testing.assert_array_equal(view.positions[0].deformed.field, view.positions[0].plain.field)  # untrained
    assert len(offset_figure(view, preparation, "x").axes) == 8
    with pytest.raises(InputError, match="position 4,99: outside the"):
        look(model, view.image, choose_layers(model), [(4, 99)])


@pytest.fixture(scope="session")
def deformed(tmp_path_factory):
    """The folder of a finished run with DCN v2 in c4 and c5 that showed its offsets; to be read only."""
    folder = tmp_path_factory.mktemp("deformed")
    (folder / "tiny.yaml").write_text(TINY + f"output: {folder}\n")
    done = run_tool(
        "train.py", "-c", folder / "tiny.yaml", "-o", "model.deformable_stages=[c4,c5]", "record.offsets=2",
        "optimizer.offset_lr_multiplier=1",
    )
    assert done.returncode == 0, done.stderr
    return folder / "tiny"


def test_training_shows_the_offsets_grow(deformed):
    (file,) = (deformed / "vdl").iterdir()
    reader = LogReader(file_path=str(file))
    for number in range(2):
        assert [record.id for record in reader.get_data("image", f"offsets/sample_{number}")] == [6, 12]
    for layer in ("c4.0", "c4.1", "c5.0", "c5.1"):
        lengths = reader.get_data("scalar", f"offsets/mean_length/{layer}.conv2")
        assert [record.id for record in lengths] == [6, 12] and all(record.value > 0 for record in lengths)
    assert "offsets" not in (deformed / "metrics.jsonl").read_text()


class Pictures:
    """A data set of pictures of several sizes, as a detector has them."""

    preparation = Preparation(("a",), (3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    sides = [32, 48]

    def __len__(self):
        return len(self.sides)

    def batch(self, indices, *, seed, epoch):
        (index,) = indices
        return {"image": np.ones([1, 3, self.sides[index], 32], "float32")}


def test_training_shows_pictures_of_several_sizes():
    model = Classifier(resnet(depth=26, width=4, norm_groups=2, deformable_stages=("c5",)), 2)
    pictures, lengths = sample_offsets(model, SimpleNamespace(dataset=Pictures(), seed=0), 2)
    assert len(pictures) == 2 and set(lengths.values()) == {0.0}


def test_the_record_is_the_same_with_and_without_pictures(deformed, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY + f"output: {tmp_path}\n")
    run_tool(
        "train.py", "-c", tmp_path / "tiny.yaml", "-o", "model.deformable_stages=[c4,c5]",
        "optimizer.offset_lr_multiplier=1",
    )
    assert (tmp_path / "tiny/metrics.jsonl").read_bytes() == (deformed / "metrics.jsonl").read_bytes()


def test_pictures_of_offsets_want_deformable_layers(tiny):
    with pytest.raises(InputError, match=r"^-o record.offsets=2: record: offsets: 2 pictures want deformable layers"):
        load_config(tiny, ["record.offsets=2"])
    assert load_config(tiny, ["record.offsets=2", "model.deformable_stages=[c5]"]).record.offsets == 2


def test_the_tool_draws_and_writes(deformed, tmp_path):
    picture = tmp_path / "stripes.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (31, 17, 3), np.uint8)).save(picture)
    done = run_tool(
        "show_offsets.py", "-c", deformed / "config.yaml", "--image", picture, "--sample", 1,
        "--position", "0,1", "1,1", "--effective-dilation", "--output", tmp_path / "out",
    )
    assert done.returncode == 0, done.stderr
    names = ["effective_dilation.csv", "effective_dilation.md"]
    names += [f"offsets_{stem}.{kind}" for stem in ("stripes", "validation_image_1") for kind in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert all(name in done.stdout for name in names) and "c5.1.conv2" in done.stdout
    assert Image.open(tmp_path / "out/offsets_stripes.png").width == 1480
    with open(tmp_path / "out/effective_dilation.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [f"backbone.{name}.conv2" for name in ("c4.0", "c4.1", "c5.0", "c5.1")]
    assert all(row["group"] == "all positions" and 0.5 < float(row["mean"]) < 2 for row in rows)


def test_mistakes_are_one_line(deformed, trained, tmp_path, run_here):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = tmp_path / "good.png"
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(good)
    for folder, arguments, said in (
        (trained, ["--image", good], "no deformable layers"),
        (deformed, ["--image", good, "--layers", "c3"], "layer c3: no such deformable layer"),
        (deformed, ["--image", good, "--position", "2,0"], "position 2,0: outside the 2 x 2 positions of c5.1.conv2"),
        (deformed, ["--image", good, "--position", "middle"], "--position middle: expected y,x"),
        (deformed, ["--image", broken], f"{broken}: cannot be read as an image"),
        (deformed, ["--sample", "12"], "--sample 12: outside the validation set, 0 to 11"),
    ):
        done = run_here("show_offsets.py", "-c", folder / "config.yaml", "--output", tmp_path / "out", *arguments)
        assert done.returncode == 2 and is_one_line(done.stderr) and said in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()
    done = run_here("show_offsets.py", "-c", deformed / "config.yaml")
    assert done.returncode == 2 and "nothing to show" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def pooling(tmp_path_factory):
    """The folder of a detector's run as if trained: in both branches bin 5 lies 0.2 widths to the right of its place,
    in all others none is moved; the box branch counts it once and a half, the mask branch half."""
    pytest.importorskip("pycocotools")
    folder = tmp_path_factory.mktemp("pooling")
    (folder / "tiny.yaml").write_text(DETECTOR + f"output: {folder}\n")
    config = load_config(folder / "tiny.yaml", ["model.roi_pooling=modulated"])
    _, scenes = build_data(config)
    model = build_model(config, scenes)
    for pool, modulation in ((model.heads.box_pool, 1.5), (model.heads.mask_pool, 0.5)):
        bins = pool.output_size**2
        for level in pool.levels:
            change(level.offset.bias, 5, 2.0)  # times gamma, 0.1
            change(level.offset.bias, 2 * bins + 5, float(np.log(modulation / (2 - modulation))))
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(config.to_yaml())
    write_preparation(config.folder, scenes.preparation)
    checkpoint.save(config.folder / "best", {".pdparams": model.state_dict(), ".pdopt": {}, ".pdstates": {}})
    return config.folder


def test_bins_of_a_pooling_lie_where_its_offsets_say(pooling):
    model, preparation = load_trained(load_config(pooling / "config.yaml"))
    image = np.random.default_rng(0).normal(size=(3, 64, 90)).astype("float32")
    objects = look_at_bins(model, image)
    assert 1 <= len(objects) <= 3
    for each in objects:
        x1, y1, x2, y2 = each.box
        for bins, side, modulation in zip(each.bins, (7, 14), (1.5, 0.5), strict=True):
            row, column = np.divmod(np.arange(side**2), side)
            grid = np.stack([y1 + (row + 0.5) * (y2 - y1) / side, x1 + (column + 0.5) * (x2 - x1) / side], 1) - 0.5
            np.testing.assert_allclose(bins.grid, grid, atol=1e-3)
            moved = np.zeros((side**2, 2))
            moved[5, 1] = 0.2 * (x2 - x1)
            np.testing.assert_allclose(bins.points - bins.grid, moved, atol=1e-3)
            counts = np.ones(side**2)
            counts[5] = modulation
            np.testing.assert_allclose(bins.modulation, counts, atol=1e-4)
    figure = bins_figure(objects, image, preparation, "x")
    titles = [axis.get_title(loc="left") for axis in figure.axes[:4]]
    assert titles[0] == "box branch, fixed" and titles[3] == "mask branch, learned"


def test_the_tool_draws_bins_on_what_a_detector_finds(pooling, run_here, tmp_path):
    picture = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 90, 3), np.uint8)).save(picture)
    options = ["-c", pooling / "config.yaml", "--output", tmp_path / "out", "--image", picture]
    done = run_here("show_offsets.py", *options)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bins_noise.png", "bins_noise.svg"]
    done = run_here("show_offsets.py", *options, "-o", "model.score_threshold=1.0")
    assert done.returncode == 0 and done.stderr == "noise.png: nothing is found there, and so no bins are shown\n"
    done = run_here("show_offsets.py", *options, "--layers", "c5")
    assert done.returncode == 2 and is_one_line(done.stderr) and "no deformable layers" in done.stderr
    done = run_here("show_offsets.py", *options, "--effective-dilation")
    assert done.returncode == 2 and is_one_line(done.stderr) and "no deformable layers" in done.stderr


def test_a_detector_whose_bins_stay_is_one_line():
    model = mask_rcnn(resnet(depth=18, width=4, norm_groups=2), 2, fpn_channels=8, head_channels=8, norm_groups=2)
    with pytest.raises(InputError, match="no deformable layers; .*, or of a detector with model.roi_pooling="):
        choose_layers(model)
