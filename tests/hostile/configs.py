"""YAML files and overrides."""

from hostile.files import ESCAPES, RIGHT_TO_LEFT, SYNTHETIC, TINY, config, link, pipe, sparse, train, written


def of_text(text, name="x.yaml", *overrides):
    def make(folder):
        path = written(folder / name, text)
        return ["train.py", "-c", path, *(["-o", *overrides] if overrides else [])]

    return make


def override(*pairs):
    return lambda folder: train(folder, *pairs)


def section(text):
    """A config with more lines behind a whole one."""
    return lambda folder: ["train.py", "-c", config(folder, SYNTHETIC + text)]


def bases(folder):
    for number in range(40):
        written(folder / f"{number}.yaml", f"_BASE_: {number + 1}.yaml\n")
    return ["train.py", "-c", folder / "0.yaml"]


def wide_bases(folder):
    written(folder / "leaf.yaml", "seed: 1\n")
    for number in range(8):
        below = "leaf.yaml" if number == 7 else f"{number + 1}.yaml"
        written(folder / f"{number}.yaml", f"_BASE_: [{below}, {below}, {below}, {below}]\n")
    return ["train.py", "-c", folder / "0.yaml"]


def base_is(make):
    def case(folder):
        make(folder / "base.yaml")
        return ["train.py", "-c", written(folder / "x.yaml", "_BASE_: base.yaml\n")]

    return case


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
HUGE = (
    "model.width", "model.deformable_groups", "data.image_size", "schedule.epochs", "schedule.milestones.0",
    "optimizer.reference_images_per_step", "bn_precise_images", "evaluate_every_epochs", "reading.processes",
)
HUGE_OF_DETECTORS = (
    "fpn_channels", "head_channels", "box_head_features", "roi_sampling_ratio", "anchors_per_image", "rois_per_image",
    "detections_per_image",
)
CASES = {
    # the text
    "an empty file": (of_text(""), r"x\.yaml: expected a mapping of keys to values, found NoneType"),
    "a list": (of_text("- a\n- b\n"), r"x\.yaml: expected a mapping .* found list"),
    "a tag that makes an object": (of_text("a: !!python/object/apply:os.system [touch x]\n"), r"python/object/apply"),
    "a tag of its own": (of_text("a: !secret b\n"), r"!secret is no number, text, list or mapping"),
    "binary in YAML": (of_text("a: !!binary aGVsbG8=\n"), r"binary is no number"),
    "a key twice": (of_text(TINY + "seed: 1\nseed: 2\n"), r"key 'seed' is given twice"),
    "a key that is a list": (of_text("? [a, b]\n: c\n"), r"key of the kind sequence is no word"),
    "a key that is a number": (of_text("1: 2\n"), r"key '1' is no word"),
    "laughs": (of_text(LAUGHS), r"longer than .* aliases written out"),
    "an alias within itself": (of_text("a: &a [*a]\n"), r"\*a stands within itself"),
    "lists in each other": (of_text("a: " + "[" * 5000 + "]" * 5000), r"more than 32 lists and mappings"),
    "blocks in each other": (of_text("".join(" " * n + "a:\n" for n in range(200))), r"more than 32 lists"),
    "a merge of a number": (of_text("<<: 3\n"), r"<<: expected a mapping"),
    "many digits": (of_text("seed: " + "9" * 5000), r"no whole number of up to 100 digits"),
    "a half of a letter": (of_text('name: "\\ud800"\n'), r"x\.yaml: "),
    "a letter that is none": (of_text('name: "\\UFFFFFFFF"\n'), r"x\.yaml: not valid YAML"),
    "two documents": (of_text("a: 1\n---\nb: 2\n"), r"expected a single document"),
    "a tab as indent": (of_text("a:\n\tb: 1\n"), r"not valid YAML: .*cannot start any token"),
    "an open quote": (of_text('a: "b\n'), r"not valid YAML"),
    "a version of the future": (of_text(f"%YAML {'9' * 5000}.1\n---\na: 1\n"), r"not valid YAML"),
    "bytes of no text": (of_text(b"name: \xff\xfe\xfa\n"), r"cannot be read as a YAML config"),
    "UTF-16": (of_text("name: x\n".encode("utf-16")), r"x\.yaml: "),
    "a picture": (of_text(b"\x89PNG\r\n\x1a\n" + bytes(100)), r"x\.yaml: "),
    "NULs": (of_text(bytes(1000)), r"x\.yaml: not valid YAML"),
    "larger than a config": (lambda folder: ["train.py", "-c", sparse(folder / "x.yaml", 10**12)], r"is larger than"),
    "escapes in a key": (of_text(f'"{ESCAPES.encode("unicode_escape").decode()}": 1\n' + SYNTHETIC), r"\\x1b.*unknown"),
    "a key of 100,000 letters": (of_text(f"{SYNTHETIC}? {'k' * 100_000}\n: 1\n"), r"k … k+: unknown key"),
    # the file
    "no config there": (lambda folder: ["train.py", "-c", folder / "none.yaml"], r"none\.yaml: no such file"),
    "a folder for a config": (lambda folder: ["train.py", "-c", folder], r"is a folder; expected an ordinary file"),
    "a pipe for a config": (lambda folder: ["train.py", "-c", pipe(folder / "x.yaml")], r"is a pipe, socket or device"),
    "a device for a config": (lambda folder: ["train.py", "-c", "/dev/zero"], r"/dev/zero: is a pipe, socket or dev"),
    "a link to itself": (lambda folder: ["train.py", "-c", link(folder / "x", "x")], r"x: cannot be read"),
    "a name longer than any": (lambda folder: ["train.py", "-c", folder / ("x" * 300)], r"-c/--config: .*too long"),
    "a path longer than any": (lambda folder: ["train.py", "-c", "x/" * 3000], r"-c/--config: x/x/.*too long"),
    "escapes in the file's name": (
        lambda folder: ["train.py", "-c", written(folder / f"{ESCAPES}.yaml", "seed: x\n")],
        r"\\x1b\]0;owned\\x07\\x1b\[2J\.yaml",
    ),
    "a name from right to left": (
        lambda folder: ["train.py", "-c", written(folder / RIGHT_TO_LEFT, SYNTHETIC)], r"\\u202egnp",
    ),
    "a name of two lines": (lambda folder: ["train.py", "-c", folder / "a\nerror: b"], r"a\\nerror: b: no such file"),
    "a home of nobody": (lambda folder: ["train.py", "-c", "~nobody-is-called-so/x"], r"there is no home of that user"),
    "a base that leads back": (base_is(lambda path: link(path, "x.yaml")), r"_BASE_ leads back to this file"),
    "a base that is a pipe": (base_is(pipe), r"base\.yaml: is a pipe"),
    "a base that is not there": (base_is(lambda path: None), r"base\.yaml: no such file"),
    "a base of 1 TB": (base_is(lambda path: sparse(path, 10**12)), r"base\.yaml: is larger than"),
    "bases of bases": (bases, r"is the base of a base of a base"),
    "bases that multiply": (wide_bases, r"builds on more than 64 files"),
    "a base that is a mapping": (of_text("_BASE_: {a: b}\n"), r"_BASE_: expected a path or a list of paths, got \{'a'"),
    "a base with a NUL": (of_text('_BASE_: "a\\0b"\n'), r"_BASE_: .*NUL"),
    "a base that is long": (of_text(f"_BASE_: {'b' * 400}\n"), r"_BASE_: b+….*too long"),
    # values
    "a name that leads out": (override("name=../../out"), r"name: .*got '\.\./\.\./out'"),
    "an absolute name": (override("name=/tmp/out"), r"name: .*got '/tmp/out'"),
    "a name that is hidden": (override("name=.ssh/authorized"), r"name: .*got '\.ssh"),
    "a name with escapes": (override(f"name={ESCAPES}"), r"name: .*characters that do not show"),
    "a name with a NUL": (override('name="a\\0b"'), r"name: .*'a\\x00b'|name: a\\x00b"),
    "a name of 5,000 letters": (override(f"name={'n/' * 2500}n"), r"name: n/n/.*too long"),
    "a name that is too long": (override(f"name={'n' * 256}"), r"name: n+….*too long; expected names of 255 bytes"),
    "no name": (override("name=''"), r"name: "),
    "an output of nobody's home": (override("output=~nobody-is-called-so/x"), r"output: .*no home of that user"),
    "an output with a NUL": (override("output=a\0b"), r"output: .*NUL"),
    "an output below a file": (
        lambda folder: train(folder, f"output={written(folder / 'file', 'kept')}/below", "name=x"),
        r"cannot be written",
    ),
    "an output below a device": (override("output=/dev/null/x"), r"/dev/null.*cannot be written"),
    "a seed beyond": (override("seed=99999999999"), r"seed: .*got 99999999999"),
    "a seed below 0": (override("seed=-1"), r"seed: .*got -1"),
    "a seed that is a list": (override("seed=[1]"), r"seed: should be a valid integer, got \[1\]"),
    "a rate that is no number": (override("optimizer.base_lr=.nan"), r"base_lr: .*finite"),
    "a rate without end": (override("optimizer.base_lr=.inf"), r"base_lr: .*finite"),
    "a rate beyond any float": (override("optimizer.base_lr=1e999"), r"base_lr: .*finite"),
    "a rate below 0": (override("optimizer.base_lr=-1"), r"base_lr: .*got -1"),
    "a share beyond 1": (override("ema_decay=1.5"), r"ema_decay: .*got 1\.5"),
    "epochs by half": (override("schedule.epochs=1.5"), r"epochs: .*got 1\.5"),
    "epochs of a word": (override("schedule.epochs=many"), r"epochs: .*got 'many'"),
    "no epochs": (override("schedule.epochs=0"), r"epochs: .*got 0"),
    "a network of no name": (override("model.name=resnext"), r"model\.name: expected one of .*got 'resnext'"),
    "a network that is a list": (override("model=[1, 2]"), r"model: "),
    "a network that is null": (override("model=null"), r"model: "),
    "a depth of none": (override("model.depth=19"), r"depth"),
    "a width below": (override("model.width=-8"), r"width"),
    "a norm of none": (override("model.norm=zn"), r"model\.norm: .*got 'zn'"),
    "groups that do not divide": (override("model.norm_groups=3"), r"norm_groups|groups"),
    "a stage that there is not": (override("model.deformable_stages=[c9]"), r"deformable_stages"),
    "stages that are a mapping": (override("model.deformable_stages={a: 1}"), r"deformable_stages"),
    "a key of no section": (override("optimizer.base_lrr=1"), r"unknown key; did you mean base_lr\?"),
    "a key of a number": (override("seed.0=1"), r"seed"),
    "a key of 100 parts": (override(".".join("a" * 100) + "=1"), r"expected key=value"),
    "an index beyond": (override("schedule.milestones.99=1"), r"expected an index from 0 to 2"),
    "an index of many digits": (override(f"schedule.milestones.{'9' * 400}=1"), r"expected an index from 0 to 2"),
    "an override without a value": (override("seed"), r"-o seed: expected key=value"),
    "an override without a key": (override("=3"), r"-o =3: expected key=value"),
    "an override of laughs": (override("model={a: &a [1], b: [*c]}"), r"not a YAML value"),
    "an override of 600,000 letters": (override("seed=" + "9" * 600_000), r"-o seed=9+ … 9+: "),
    "an override with escapes": (override(f"seed={ESCAPES}"), r"seed=\\x1b"),
    "an override of a key of no text": (override("\udcff=1"), r"-o \\udcff=1: is no UTF-8 text"),
    "an override of a value of no text": (override("name=\udcff"), r"-o name=\\udcff: is no UTF-8 text"),
    "a dangling comment": (override("seed=3 # four"), r"YAML would leave out"),
    "data of no name": (override("data.name=x"), r"data\.name: expected one of"),
    "data that are a text": (override("data=x"), r"data: "),
    **{f"{key} of 31 bits": (override(f"{key}={2**31}"), rf"{key[:-2]}.*less than or .*2147483648") for key in HUGE},
    **{f"{key} of 67 bits": (override(f"{key}={10**20 - 1}"), rf"{key[:-2]}.*less than or .*9{{20}}") for key in HUGE},
    **{
        f"{key} of 31 bits": (override("model.name=mask_rcnn", f"model.{key}={2**31}"), rf"{key}: .*got 2147483648")
        for key in HUGE_OF_DETECTORS
    },
    "a step of 31 bits": (override(f"batch.images_per_worker={2**30}"), r"images_per_step should be less than .*got"),
    "pictures of no side": (override("data.image_size=0"), r"image_size"),
    "pictures of a huge side": (override("data.image_size=200000"), r"data: Unable to allocate \d+\. GiB"),
    "classes below 2": (override("data.classes=1"), r"classes|class"),
    "an expectation of no metric": (override("expect.top1=1"), r"expect.*_below or _above"),
    "an expectation of nothing": (override("expect={}"), r"expect"),
    "a step that does not divide": (override("batch.images_per_step=7"), r"makes images_per_step 8, not 7"),
    "offsets of nothing": (override("record.offsets=3"), r"want deformable layers"),
    "a huge batch": (override("batch.images_per_worker=99999999999999999999"), r"images_per_worker|images per step"),
    "a convolution that there is not": (override("record.responses=conv9_9"), r"record\.responses.*conv9_9"),
    "weights that are not there": (override("pretrained=none.pdparams"), r"none\.pdparams: no such file"),
    "weights with a NUL": (override("pretrained=a\0b"), r"pretrained: .*NUL"),
    "a sweep for a run": (section("sweep: {axes: {seed: [0, 1]}}\n"), r"describes a sweep of many runs"),
    "resume from a place that is not there": (
        lambda folder: [*train(folder), "-r", folder / "none"], r"-r .*none: no checkpoint there",
    ),
    "resume with escapes": (lambda folder: [*train(folder), "-r", ESCAPES], r"-r \\x1b.*no checkpoint there"),
    "an argument of no tool": (lambda folder: [*train(folder), f"--{ESCAPES}"], r"unrecognized arguments: --\\x1b"),
    "no argument": (lambda folder: ["train.py"], r"required: -c/--config"),
    "a full set of no name": (lambda folder: ["fetch_data.py", f"imagenet{ESCAPES}"], r"\\x1b|\\\\x1b"),
    "a full set in a file": (
        lambda folder: ["fetch_data.py", "cifar10", "--to", written(folder / "cifar-10-python.tar.gz", "x").parent],
        r"cifar-10-python\.tar\.gz: SHA-256 is",
    ),
    "a bench of nothing": (lambda folder: ["bench.py", "ops", "--only", ESCAPES], r"--only \\x1b"),
    "a bench into nowhere": (lambda folder: ["bench.py", "ops", "--json", folder / "a/b"], r"--json .*expected a file"),
}
