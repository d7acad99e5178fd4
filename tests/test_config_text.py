"""What a config's words are taken for, and what is refused before it takes time or memory."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import Config, load_config
from engine.config.sections import config_keys
from engine.config.yaml_text import parse_value
from engine.errors import InputError
from engine.terminal import one_line

PLAIN = "data: {name: synthetic}\n"


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return path


@pytest.mark.parametrize(
    "text", ["v1 #second try", "2024", "a: b", "on", "1e5", "true", "[", "*x", "!x", "&x", "{a}", "- a", "a\\b", "'"]
)
def test_a_text_is_taken_as_it_is_typed(plain, text):
    assert load_config(plain, [f"name={text}"]).name == text
    assert load_config(plain, [f"pretrained={text}"]).pretrained == text
    photos = [f"data.root={text} ", "data.name=image_folder"]  # in whatever order
    assert load_config(plain, photos).data.root == f"{text} "


def test_quotes_and_null_are_yaml_in_texts_too(plain):
    assert load_config(plain, ["name='a # b'"]).name == "a # b"
    assert load_config(plain, ['name="\\u732b"']).name == "猫"
    for nothing in ("null", ""):
        assert load_config(plain, [f"pretrained={nothing}", f"name={nothing}"]).pretrained is None
    for wrong in ("name='a'b'", 'pretrained="C:\\data"'):
        with pytest.raises(InputError, match="not a YAML value"):
            load_config(plain, [wrong])


@pytest.mark.parametrize("value", ["seed=3 #4", "schedule.milestones=[1, 2] # three", "model.norm=gn #", "model=#"])
def test_nothing_of_an_override_is_left_out(plain, value):
    with pytest.raises(InputError, match=f"-o {value.split('[')[0]}.*behind a #"):
        load_config(plain, [value])


@pytest.mark.parametrize("value", ["2024", "1.5", "true"])
def test_a_file_puts_such_texts_into_quotes(plain, value):
    """What was written (010, 1e5) cannot be told from what YAML makes of it, so it is not taken for a text."""
    plain.write_text(f"{PLAIN}name: {value}\n")
    with pytest.raises(InputError, match="plain.yaml: name: should be a valid string, got .*; a text .* wants quotes"):
        load_config(plain)
    plain.write_text(f"{PLAIN}name: '{value}'\n")
    assert load_config(plain).name == value


def test_the_home_is_found_for_every_path(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plain.write_text("_BASE_: ~/base.yaml\noutput: ~/runs\n")
    (tmp_path / "base.yaml").write_text("data: {name: image_folder, root: ~/photos, train: ~/train.txt}\n")
    config = load_config("~/plain.yaml", ["pretrained=~/w.pdparams"])
    assert (config.output, config.pretrained) == (str(tmp_path / "runs"), str(tmp_path / "w.pdparams"))
    assert (config.data.root, config.data.train) == (str(tmp_path / "photos"), str(tmp_path / "train.txt"))
    plain.write_text(config.to_yaml())
    monkeypatch.setenv("HOME", "/elsewhere")
    assert load_config(plain) == config  # a run's folder says which it was, whoever reads it
    assert load_config(plain, ["output=./~/runs"]).output == "./~/runs"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("output=~no_such_user/x", "output: ~no_such_user/x: there is no home of that user; ./~no_such_user/x is"),
        ("pretrained=a\0b", "pretrained: a\0b: holds a NUL character"),
        (f"output={'x' * 256}", "too long; expected names of 255 bytes at most"),
        (f"data.root={'猫' * 86}", "too long"),
        (f"output={'x/' * 2000}", "too long"),
        (f"name={'x' * 256}", "name: .*too long"),
        (f"name={'x/' * 500}x", "name: .*too long"),
        ("name=a ", "name: 'a ': has blanks at an end"),
        ("name=a/ b", "blanks at an end"),
        ("name=a\nb", "characters that do not show"),
        ("name=a\x1b[31m", "characters that do not show"),
        ("name=a\u202eb", "characters that do not show"),
        ("name=a\0", "characters that do not show"),
        ("name=\udcff", "is no UTF-8 text"),
        ("output=\udcff", "is no UTF-8 text"),
    ],
)
def test_what_no_file_can_be_called(plain, override, words):
    overrides = [override, "data.name=image_folder", *(["data.root=x"] * (not override.startswith("data")))]
    with pytest.raises(InputError, match=words) as caught:
        load_config(plain, overrides)
    assert one_line(caught.value).isprintable()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("=", "expected key=value"), (".=1", "expected key=value"), ("a..b=1", "expected key=value"),
        ("a." * 10**6 + "b=1", "expected key=value"),
        ("0=1", "0: unknown key"), ("seed.0=1", "seed: should be a valid integer"),
        ("schedule.milestones.²=1", "index from 0 to 2"), ("schedule.milestones.-1=1", "index from 0 to 2"),
        (f"schedule.milestones.{'9' * 5000}=1", "index from 0 to 2"),
        ("schedule.milestones.3=1", "index from 0 to 2"), ("schedule.milestones.0.x=1", "milestones: should be"),
        ("model.deformable_stages.0=c4", "no index, for nothing is in the list"),
        ("schedule.milestoness.0=1", "milestoness: unknown key; did you mean milestones"),
    ],
)
def test_keys_of_overrides(plain, override, words):
    with pytest.raises(InputError, match=words):
        load_config(plain, [override])


NINE = [(below, ", ".join([f"*{above}"] * 9)) for above, below in zip("abcdefgh", "bcdefghi", strict=True)]
ALIASES = "a: &a [x, x, x]\n" + "".join(f"{anchor}: &{anchor} [{above}]\n" for anchor, above in NINE)
MERGES = "a: &a {k: 1}\n" + "".join(f"{anchor}: &{anchor} {{<<: [{above}]}}\n" for anchor, above in NINE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ALIASES, "longer than 524,288 characters with its aliases"),
        (MERGES, "longer than 524,288 characters with its aliases"),
        (f"a: &a {'x' * 10**5}\nb: [{'*a, ' * 20}]\n", "longer than"),
        ("a: &a [*a]\n", r"\*a stands within itself"),
        ("a: &a {<<: *a}\n", r"\*a stands within itself"),
        ("a: " + "[" * 10**5, "more than 32 lists and mappings within each other"),
        ("a: " + "{b: " * 10**5, "more than 32"),
        ("- " * 1000 + "a", "more than 32"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(100)), "more than 32"),
        ("x" * 2**19 + "y", "is larger than a YAML config may be"),
        ("seed: !!int abc\n", "'abc' is no whole number"),
        (f"seed: {'9' * 5000}\n", "is no whole number of up to 100 digits"),
        ("seed: !!float abc\n", "'abc' is no number"), ("seed: !!bool abc\n", "'abc' is no boolean"),
        ("seed: !!timestamp 2001-01-01\n", "no number, text, list or mapping"),
        ("seed: !!binary aGk=\n", "no number, text, list or mapping"), ("seed: !!set {a}\n", "no number, text"),
        ("seed: !!omap [a: 1]\n", "no number, text"), ("seed: !mine 1\n", "no number, text"),
        ('name: "\\ud800"\n', "is no text"), ('name: "\\UFFFFFFFF"\n', "not valid YAML"),
        (f"%YAML {'9' * 5000}.1\n---\na: 1\n", "not valid YAML"),
        ("a:\n\t- b\n", "not valid YAML"), ("a: \0\n", "not valid YAML"), ("a: 1\n---\nb: 1\n", "not valid YAML"),
        ("{{a: 1}: 2}\n", "is no word"), ("!!str [a]: 1\n", "is no word"), ("null: 1\n", "is no word"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "is given twice"), ("<<: [1]\n", "expected a mapping or a list"),
        ("seed: .inf\n", "seed: should be"), ("seed: 2001-01-01\n", "seed: should be"),
        (f"{PLAIN}optimizer: {{base_lr: 1e999}}\n", "base_lr: should be a finite number"),
        ("a: 1\n".encode("utf-16"), "cannot be read as a YAML config"), (b"name: \xff\n", "cannot be read"),
        ("", "expected a mapping"), ("- 1\n", "expected a mapping"),
    ],
)
def test_bad_files_take_no_time(tmp_path, content, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.process_time()
    with pytest.raises(InputError, match=words) as caught:
        load_config(path)
    assert time.process_time() - began < 2
    assert "\n" not in str(caught.value) and len(one_line(caught.value)) < 2100


def test_a_mark_before_the_text_is_none_of_it(plain):
    plain.write_bytes(b"\xef\xbb\xbf" + PLAIN.encode())  # as Windows writes
    assert load_config(plain).name == "plain"


def test_merge_keys(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text(
        "data: {name: synthetic}\nschedule: {<<: &all {epochs: 3, factor: 0.5}, epochs: 5}\n"
        "model: {norm: gn, <<: [{norm: bn, depth: 18}, {depth: 34, width: 8}]}\n"
    )
    config = load_config(path)
    assert (config.schedule.epochs, config.schedule.factor) == (5, 0.5)  # a mapping's own keys win
    assert (config.model.norm, config.model.depth, config.model.width) == ("gn", 18, 8)  # and then the first
    twice = parse_value("p: {q: &x {<<: {k: 1}, k: 2}}\nb: {<<: *x, l: 3}")
    assert twice == {"p": {"q": {"k": 2}}, "b": {"k": 2, "l": 3}}


def test_an_element_is_changed_where_it_is_named_alone(tmp_path):
    path = tmp_path / "alias.yaml"
    path.write_text("data: {name: synthetic}\nmodel: {dilated_stages: &stages [c4], deformable_stages: *stages}\n")
    config = load_config(path, ["model.dilated_stages.0=c5"])
    assert (config.model.dilated_stages, config.model.deformable_stages) == (("c5",), ("c4",))


def test_a_section_that_is_given_anew_takes_no_other_override_away(plain):
    config = load_config(plain, ["model.norm=bn", "model={name: vgg}"])
    assert (config.model.name, config.model.norm) == ("vgg", "bn")


def test_bases_are_bounded(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text(PLAIN)
    with pytest.raises(InputError, match="10.yaml: _BASE_: builds on more than 64 files"):
        load_config(tmp_path / "10.yaml")
    with pytest.raises(InputError, match="is the base of a base"):
        load_config(tmp_path / "0.yaml")
    assert load_config(tmp_path / "37.yaml").name == "37"  # eight times the same base are no matter


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "of_pipe.yaml").write_text("_BASE_: pipe\n")
    (tmp_path / "loop").symlink_to("loop")
    for path, words in [
        ("pipe", "is a pipe, socket or device"), ("of_pipe.yaml", "pipe: is a pipe"), ("/dev/zero", "or device"),
        (".", "is a folder"), ("loop", "cannot be read"), ("missing", "no such file"), ("a\0b", "NUL"),
        ("x" * 300, "too long"),
    ]:
        with pytest.raises(InputError, match=words):
            load_config(tmp_path / path)


KEYS = st.sampled_from([*config_keys(), "a", "schedule.milestones.0", "data", "model", "expect", "_BASE_", "sweep"])
ODD = st.text("'\"[]{}:,#&*!|>-?%@`\\ \n\tab01.~<=²\x1b\ud800\U0001f600", max_size=12)
VALUES = st.one_of(ODD, st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)).map(str))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=3), KEYS, VALUES)
def test_whatever_is_said_ends_in_a_config_or_in_one_line(tmp_path_factory, pairs, key, value):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(f"data: {{name: synthetic}}\n{key}: {value}\n", encoding="utf-8", errors="replace")
    for overrides in ([], map("=".join, pairs), [value]):
        try:
            assert isinstance(load_config(path, list(overrides)), Config)
        except InputError as error:
            assert "\n" not in one_line(error)
