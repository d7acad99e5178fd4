import pytest

from engine.config import load_config
from engine.errors import InputError


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture
def base(tmp_path):
    return write(
        tmp_path, "base.yaml",
        "data: {name: synthetic, classes: 5}\nmodel: {depth: 18, name: resnet}\nschedule: {milestones: [3, 6, 9]}\n",
    )


def test_defaults_are_the_papers_recipe(base):
    config = load_config(base)
    assert config.name == "base" and config.batch.images_per_step == 256 and config.lr == 0.1
    assert config.optimizer.weight_decay == 1e-4 and config.optimizer.decay_norm_and_bias and config.optimizer.nesterov
    assert config.model.norm == "gn" and config.model.norm_groups == 32 and config.model.zero_init_last_norm


def test_child_wins_lists_are_replaced_and_other_data_starts_anew(base, tmp_path):
    child = write(
        tmp_path, "child.yaml",
        "_BASE_: base.yaml\ndata: {classes: 7}\nmodel: {width: 8}\nschedule: {milestones: [4]}\n",
    )
    config = load_config(child)
    assert (config.data.classes, config.model.depth, config.model.width) == (7, 18, 8)
    assert config.schedule.milestones == (4,)
    other = write(tmp_path, "other.yaml", "_BASE_: [base.yaml, child.yaml]\ndata: {name: cifar10, root: /x}\n")
    assert load_config(other).data.name == "cifar10"


def test_the_rate_follows_the_images_of_a_step(base):
    for images, lr in ((32, 0.1), (16, 0.05), (8, 0.025), (4, 0.0125), (2, 0.00625)):
        assert load_config(base, [f"batch.images_per_worker={images}"]).lr == lr  # the paper's 0.1 N / 32
    assert load_config(base, ["optimizer.reference_images_per_step=null", "optimizer.base_lr=0.3"]).lr == 0.3


@pytest.mark.parametrize(
    ("protocol", "given", "workers", "images", "lr"),
    [
        ("paper", ["batch.workers=null"], 8, 16, 0.00625),
        ("paper", ["batch.workers=4"], 4, 8, 0.003125),
        ("norm_batch", ["batch.workers=null", "batch.images_per_step=64"], 32, 64, 0.025),
        ("norm_batch", ["batch.workers=32", "batch.images_per_step=64"], 32, 64, 0.025),
        ("single", ["batch.workers=null"], 1, 2, 0.1 * 2 / 256),
    ],
)
def test_protocols_say_what_a_step_is(base, tmp_path, protocol, given, workers, images, lr):
    config = load_config(base, [f"batch.protocol={protocol}", "batch.images_per_worker=2", *given])
    assert (config.batch.protocol, config.batch.workers, config.batch.images_per_step) == (protocol, workers, images)
    assert config.lr == pytest.approx(lr)
    assert load_config(write(tmp_path, "again.yaml", config.to_yaml())) == config


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch.protocol=norm_batch"], "batch: protocol norm_batch wants images_per_step"),
        (["batch.protocol=norm_batch", "batch.images_per_step=48"], "48 images per step do not divide into workers"),
        (["batch.protocol=norm_batch", "batch.images_per_step=64", "batch.workers=8"], "makes workers 2, not 8"),
        (["batch.protocol=single", "batch.workers=8"], "protocol single makes workers 1, not 8"),
        (["batch.images_per_step=64", "batch.workers=8"], "protocol paper makes images_per_step 256, not 64"),
    ],
)
def test_a_batch_against_its_protocol_is_refused(base, overrides, words):
    with pytest.raises(InputError, match=words):
        load_config(base, overrides)


def test_a_sweep_is_no_run(base, tmp_path):
    with pytest.raises(InputError, match="use tools/sweep.py"):
        load_config(write(tmp_path, "many.yaml", "_BASE_: base.yaml\nsweep: {axes: {seed: [0, 1]}}\n"))


def test_overrides_are_yaml_and_reach_into_lists(base):
    config = load_config(base, ["optimizer.weight_decay=1e-4", "schedule.milestones.1=7", "pretrained=off"])
    assert load_config(base, ["data.name=synthetic"]).schedule.milestones == (3, 6, 9)
    assert config.optimizer.weight_decay == 1e-4  # YAML 1.1 would read a string
    assert config.schedule.milestones == (3, 7, 9)
    assert config.pretrained == "off"  # and a boolean here


def test_an_index_reaches_into_a_default_list(tmp_path):
    config = load_config(write(tmp_path, "plain.yaml", "data: {name: synthetic}\n"), ["schedule.milestones.0=20"])
    assert config.schedule.milestones == (20, 60, 90)


def test_what_is_written_is_read_as_the_same(base, tmp_path):
    config = load_config(base, ["optimizer.weight_decay=0.00005", "expect.top1_error_below=0.2"])
    assert load_config(write(tmp_path, "again.yaml", config.to_yaml())) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.base_lrr=1", ["-o optimizer.base_lrr=1: optimizer.base_lrr: unknown key; did you mean base_lr?"]),
        ("model.norm_group=8", ["model.norm_group: unknown key; did you mean norm_groups?"]),
        ("data.clases=8", ["data.clases: unknown key; did you mean classes?"]),
        ("modle.norm=gn", ["modle: unknown key; did you mean model?"]),
        ("model.norm=gm", ["model.norm", "'gn'", "got 'gm'"]),
        ("schedule.epochs=ten", ["schedule.epochs", "integer", "got 'ten'"]),
        ("schedule.epochs=0", ["schedule.epochs", "greater than 0"]),
        ("schedule.epochs=2.5", ["schedule.epochs", "integer"]),
        ("optimizer.nesterov=1", ["optimizer.nesterov", "boolean"]),
        ("optimizer.base_lr=.nan", ["optimizer.base_lr", "finite"]),
        ("optimizer.backbone_lr_multiplier=-0.1", ["optimizer.backbone_lr_multiplier", "greater than or equal to 0"]),
        ("model.frozen=[c6]", ["model.frozen.0", "'stem'", "'c5'", "got 'c6'"]),
        ("model.frozen=c2", ["model.frozen", "got 'c2'"]),
        ("data.name=imagenet", ["data.name", "image_folder", "got 'imagenet'"]),
        ("data.name=image_folder", ["data.root", "missing"]),
        ("schedule.milestones.3=1", ["schedule.milestones.3=1", "index from 0 to 2"]),
        ("schedule.milestones=5", ["schedule.milestones", "got 5"]),
        ("epochs", ["-o epochs", "key=value"]),
        ("a=[1", ["-o a=[1", "not a YAML value"]),
        ("model=gn", ["model", "got 'gn'"]),
        ("name=''", ["name"]),
        ("name=../x", ["name", "'../x'"]),
        ("seed=99999999999999999999999", ["seed"]),
        ("seed=!!set {a}", ["no number, text, list or mapping"]),
    ],
)
def test_bad_values_are_one_line_that_names_them(base, override, words):
    with pytest.raises(InputError) as caught:
        load_config(base, [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_file_that_gave_the_bad_value_is_named(base, tmp_path):
    child = write(tmp_path, "child.yaml", "_BASE_: base.yaml\nschedule: {epochs: 3}\n")
    base.write_text(base.read_text() + "batch: {wrokers: 4}\n")
    with pytest.raises(InputError, match="base.yaml: batch.wrokers: unknown key; did you mean workers?"):
        load_config(child)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {name: synthetic}\nseed: 1\nseed: 2\n", "'seed' is given twice"),
        ("data: [", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("_BASE_: missing.yaml\n", "missing.yaml: no such file"),
        ("_BASE_: bad.yaml\n", "leads back"),
        ("_BASE_: 5\n", "_BASE_: expected a path"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("1: 3\n", "is no word"),
        ("seed: 1\n", "data: missing"),
        ("data: {classes: 3}\n", "data.name: missing; expected one of"),
    ],
)
def test_bad_files(tmp_path, text, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        load_config(write(tmp_path, "bad.yaml", text))
