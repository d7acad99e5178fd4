"""What a model's section says of its norm."""

from types import SimpleNamespace

from models.norm import described


def said(**section):
    return list(described(SimpleNamespace(**section)).values())


def test_only_what_has_a_meaning_is_said():
    assert list(described(None)) == ["norm", "norm_groups", "norm_channels_per_group", "evaluation_statistics"]
    values = {"norm_groups": 8, "norm_channels_per_group": None, "bn_running_statistics": "mean"}
    assert said(norm="gn", **values) == ["gn", 8, None, None]
    assert said(norm="gn", **values | {"norm_channels_per_group": 4}) == ["gn", None, 4, None]
    assert said(norm="bn", **values) == ["bn", None, None, "mean"]
    assert said(norm="ln", **values) == ["ln", None, None, None]


def test_a_model_without_norms_says_nothing():
    assert said(name="meter", hidden=8) == [None] * 4
    assert said(norm="bn") == ["bn", None, None, None]
