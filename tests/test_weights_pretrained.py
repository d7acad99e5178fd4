"""What pretrained= and convert_weights.py make of a network in a file: norms, strides, prefixes, sizes, in words."""

import numpy as np
import paddle
import pytest

from engine.build import build_data, build_model, load_pretrained
from engine.config import load_config
from engine.errors import InputError
from engine.weights import read_network
from models import Classifier, find_network, resnet, to_torch_names
from models.weights.layout import FOLDED

DEEP = ["model.depth=26", "model.width=4"]
NORMS_LEFT = "norms left as they were, for the file's are of another kind (backbone."


def arrays(**changes):
    """The arrays of a thin ResNet with random gammas, betas and statistics."""
    random = np.random.default_rng(0)
    thin = {"depth": 18, "width": 4, "in_channels": 1, "stem": "small", "norm_groups": 4}
    model = Classifier(resnet(**{**thin, **changes}), 3)
    return {
        name: value.numpy() if value.ndim > 1 else random.uniform(0.5, 1, value.shape).astype("float32")
        for name, value in model.state_dict().items()
    }


def write(path, state):
    paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(path))
    return path


@pytest.fixture
def start(tiny, tmp_path):
    """(what is told, the arrays of the model before and after) of a start from arrays under some options."""

    def run(state, *options):
        path = state if not isinstance(state, dict) else write(tmp_path / "x.pdparams", state)
        config = load_config(tiny, ["model.width=4", f"pretrained={path}", *options])
        model = build_model(config, build_data(config)[0])
        before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
        told = load_pretrained(model, config)
        return told, before, {name: value.numpy() for name, value in model.state_dict().items()}

    return run


@pytest.mark.parametrize("norm", ["bn", "frozen_bn", "sync_bn"])
def test_batch_norm_is_taken_with_its_statistics(start, norm):
    state = arrays(norm="bn")
    told, _, after = start(to_torch_names(state), f"model.norm={norm}")
    assert told.endswith("(PyTorch's ResNet-18 of width 4, 3 classes; batch norm): 102 matched")
    for name, value in state.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


@pytest.mark.parametrize(("there", "here"), [("bn", "gn"), ("gn", "bn"), ("bn", "in"), ("gn", "sync_bn")])
def test_norms_of_another_kind_stay_as_they_were_unless_asked_for(start, there, here):
    state = arrays(norm=there)
    told, before, after = start(state, f"model.norm={here}")
    assert f"22 matched; 20 {NORMS_LEFT}" in told and "; pretrained_norms=any takes gamma and beta" in told
    for name, value in after.items():
        np.testing.assert_array_equal(value, (before if "norm" in name else state)[name], err_msg=name)
    told, _, after = start(state, f"model.norm={here}", "pretrained_norms=any")
    assert NORMS_LEFT not in told
    for name in after.keys() & state.keys():
        np.testing.assert_array_equal(after[name], state[name], err_msg=name)


def test_batch_norm_that_is_folded_is_for_frozen_batch_norm_alone(start):
    state = arrays(norm="bn")
    for name, value in state.items():
        if name.endswith(("_mean", "_variance")):
            state[name] = np.full_like(value, FOLDED if name.endswith("_variance") else 0)
    assert "102 matched" in start(state, "model.norm=frozen_bn")[0]
    for norm in ("bn", "sync_bn", "gn"):
        assert f"22 matched; 20 {NORMS_LEFT}" in start(state, f"model.norm={norm}")[0]


def test_group_norm_weights_are_refused_by_frozen_batch_norm(start):
    with pytest.raises(InputError, match="has no backbone.*norm.* that fits, .*frozen batch norm wants a BN network"):
        start(arrays(norm="gn"), "model.norm=frozen_bn")


@pytest.mark.parametrize("side", ["3x3", "1x1"])
def test_where_the_stride_is_is_asked_for_where_nothing_tells(start, side):
    state = arrays(depth=26, norm="gn")
    with pytest.raises(InputError, match="x.pdparams: does not tell which convolutions of its blocks have the stride"):
        start(state, *DEEP)
    other = {"3x3": "1x1", "1x1": "3x3"}[side]
    options = [*DEEP, f"pretrained_stride_in={side}"]
    assert ": 89 matched" in start(state, *options, f"model.stride_in={side}")[0]
    with pytest.raises(InputError, match=f"its {side} convolutions have the stride, in the model the {other}; say "):
        start(state, *options, f"model.stride_in={other}")


def test_basic_blocks_have_no_such_choice(start):
    assert ": 62 matched" in start(arrays(norm="gn"), "model.stride_in=1x1")[0]


def test_where_the_stride_is_is_in_the_config_of_a_run(start, tmp_path):
    state = arrays(depth=26, norm="gn")
    (tmp_path / "config.yaml").write_text("model: {stride_in: 1x1}")
    assert ": 89 matched" in start(state, *DEEP, "model.stride_in=1x1")[0]
    with pytest.raises(InputError, match="its 1x1 convolutions have the stride, in the model the 3x3"):
        start(state, *DEEP)
    with pytest.raises(InputError, match="its 3x3 convolutions have the stride, in the model the 1x1"):
        start(to_torch_names(state), *DEEP, "model.stride_in=1x1")  # not of this run


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.backbone.", "encoder/"])
def test_a_prefix_is_taken_off(start, prefix):
    state = {prefix + name: value for name, value in to_torch_names(arrays(norm="bn")).items()}
    told, *_ = start(state, "model.norm=bn")
    assert ": 102 matched" in told and (not prefix or f"3 classes under {prefix};" in told)


def test_a_head_may_stand_beside_the_prefix():
    state = to_torch_names(arrays(norm="gn"))
    state = {name if name.startswith("fc.") else f"backbone.{name}": value for name, value in state.items()}
    assert find_network(state).state.keys() == arrays(norm="gn").keys()


@pytest.mark.parametrize("outer", ["", "module."])
def test_our_own_network_under_a_prefix(outer):
    state = arrays(norm="bn", depth=26, deformable_stages=("c5",))
    found = find_network({outer + name: value for name, value in state.items()})
    assert found.state.keys() == state.keys() and found.is_ours
    bare = {name.removeprefix("backbone."): value for name, value in state.items()}
    assert find_network({outer + name: value for name, value in bare.items()}).state.keys() == state.keys()


def test_of_several_networks_the_averaged_one_is_taken_and_others_are_not_chosen_among():
    first = to_torch_names(arrays(norm="bn"))
    second = {name: 2 * value for name, value in first.items()}
    for tree in ({"model": first, "model_ema": second}, {"ema": {"module": second}, "net": first}):
        np.testing.assert_array_equal(find_network(tree).state["fc.bias"], second["fc.bias"])
    with pytest.raises(ValueError, match="holds 2 networks, at student, teacher; save the one that is wanted"):
        find_network({"student": first, "teacher": second})
    with pytest.raises(ValueError, match="holds 2 networks, at encoder_k., encoder_q.; save"):
        find_network({f"encoder_{key}.{name}": value for name, value in first.items() for key in "qk"})
    with pytest.raises(ValueError, match="holds 9 networks beside each other; save"):
        find_network({f"{key}.{name}": value for name, value in first.items() for key in "abcdefghi"})
    with pytest.raises(ValueError, match=r"holds 2 networks, at \\x1b, b; save"):
        find_network({"\x1b": first, "b": second})


def test_a_file_of_which_nothing_fits_names_both_sides(start):
    told = (
        "x.pdparams: none of its 62 arrays fits the model: 0 matched; .*; "
        "the file has a ResNet-18 of width 8, the model is a ResNet-18 of width 4"
    )
    state = arrays(norm="gn", width=8, in_channels=2)
    with pytest.raises(InputError, match=told):
        start({**state, "fc.bias": np.ones(7, "float32")})
    with pytest.raises(InputError, match=r"none of its 1 arrays fits the model: .*1 unexpected \(features.0.weight\)"):
        start({"features.0.weight": np.ones(3, "float32")})


def test_another_depth_is_told_where_some_fits(start):
    told, *_ = start(arrays(norm="gn", depth=34))
    assert told.endswith("the file has a ResNet-34 of width 4, the model is a ResNet-18 of width 4")


def paddle_clas(state):
    """PaddleClas' names: blocks are counted through all stages, and begin with a projection in each."""
    named, starts = {}, {2: 0, 3: 2, 4: 4, 5: 6}
    for name, value in state.items():
        part = name.removeprefix("backbone.").split(".")
        if part[0] == "stem":
            name = f"stem.0.{'conv' if part[1] == 'conv' else 'bn'}.{part[2]}"
        elif part[0] != "fc":
            block = starts[int(part[0][1])] + int(part[1])
            layer = "short" if part[2] == "shortcut" else f"conv{int(part[2][-1]) - 1}"
            name = f"blocks.{block}.{layer}.{'conv' if 'conv' in part[-2] else 'bn'}.{part[-1]}"
        named[name] = value
    return named


def test_paddle_clas_counts_blocks_through_all_stages(start):
    state = arrays(norm="bn", depth=26)
    told, _, after = start(paddle_clas(state), *DEEP, "model.norm=bn")
    assert "(PaddleClas' ResNet-26 of width 4, 3 classes; batch norm; its 3x3 convolutions have the stride): 1" in told
    assert ": 147 matched" in told
    for name, value in state.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_paddle_clas_vd_networks_are_refused(start):
    state = {**paddle_clas(arrays(norm="bn", depth=26)), "stem.1.conv.weight": np.ones((4, 4, 3, 3), "float32")}
    with pytest.raises(InputError, match="x.pdparams: is a ResNet-vd"):
        start(state, *DEEP, "model.norm=bn")


def test_the_group_norm_authors_names(start):
    state = {name.replace("bn", "gn"): value for name, value in to_torch_names(arrays(norm="gn", depth=26)).items()}
    told, *_ = start(state, *DEEP)
    assert "(the GN authors' PyTorch ResNet-26 of width 4, 3 classes; norms without statistics" in told
    assert ": 89 matched" in told


def test_a_linear_layer_of_paddle_vision_is_not_turned():
    turned = np.ones((32, 3))
    state = {
        name.replace("running_mean", "_mean").replace("running_var", "_variance"): value
        for name, value in to_torch_names(arrays(norm="bn")).items()
    }
    assert find_network({**state, "fc.weight": turned}).state["fc.weight"].shape == (32, 3)
    # Without statistics the names are PyTorch's too; then it counts what Paddle leaves in its files.
    state = {**to_torch_names(arrays(norm="gn")), "fc.weight": turned}
    assert find_network(state).state["fc.weight"].shape == (3, 32)
    assert find_network(state, prefer="paddle.vision's").state["fc.weight"].shape == (32, 3)


def test_a_converted_file_is_the_same_network_and_tells_where_the_stride_is(tmp_path, run_here):
    state = arrays(depth=26, norm="bn", in_channels=3, stem="imagenet")
    half = {f"module.{name}": value.astype("float16") for name, value in to_torch_names(state).items()}
    source = write(tmp_path / "torch.pth", {**half, "module.neck.w": np.ones(1)})
    target = tmp_path / "ours.pdparams"
    done = run_here("convert_weights.py", source, "-o", target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{source}: PyTorch's ResNet-26 of width 4, 3 classes under module.; batch norm; "
        "its 3x3 convolutions have the stride",
        "left out, for no network here has such entries: 1 (module.neck.w)",
        f"{target}: 147 arrays in float32; start from them with pretrained={target}",
    ]
    network, stride_in = read_network(target)
    assert stride_in == "3x3" and network.is_ours
    model = Classifier(resnet(depth=26, width=4, norm="bn"), 3)
    missing, _ = model.set_state_dict(paddle.load(str(target)))
    assert not missing
    for name, value in state.items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), value.astype("float16"), err_msg=name)


NOBODYS = "has 1 arrays of no network that is known, 1 (features.0.weight); expected a ResNet"
ASKED = "does not tell which convolutions of its blocks have the stride: say --stride-in"


@pytest.mark.parametrize(
    ("state", "name", "complaint"),
    [
        ({"features.0.weight": np.ones(3, "float32")}, "out.pdparams", NOBODYS),
        ({"conv1.weight": np.ones(3, "float32")}, "out.pth", "out.pth: expected a name that ends in .pdparams"),
        (None, "out.pdparams", ASKED),
    ],
)
def test_what_is_not_converted_is_one_line_and_nothing_is_written(tmp_path, run_here, state, name, complaint):
    write(tmp_path / "x.pdparams", state or arrays(depth=26, norm="bn"))
    done = run_here("convert_weights.py", tmp_path / "x.pdparams", "-o", tmp_path / name)
    assert done.returncode == 2 and complaint in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pdparams"]
