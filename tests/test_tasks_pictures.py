"""Sample pictures with the network's answer under them."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.tasks.classification import SIDE, Classification


@pytest.mark.parametrize("classes", [("shirt", "trouser"), ("外套", "裤子")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_answer_and_where_it_is_wrong_the_truth(classes, channels):
    image = np.linspace(-1, 1, channels * 64, dtype=np.float32).reshape(channels, 8, 8)
    samples = [(image, 0, np.array([0.9, 0.1])), (image, 0, np.array([0.2, 0.8]))]
    right, wrong = Classification().pictures(samples, SimpleNamespace(classes=classes)).values()
    for sheet in (right, wrong):
        assert sheet.dtype == np.uint8 and sheet.shape == (SIDE + 30, SIDE, 3)
        np.testing.assert_array_equal(sheet[:SIDE:20, ::20], right[:SIDE:20, ::20])
    first_line, second_line = slice(SIDE, SIDE + 15), slice(SIDE + 16, None)
    assert (right[first_line] == 0).any() and (right[second_line] == 255).all()
    assert (wrong[second_line] == 0).any() and tuple(wrong[-1, -1]) != (255, 255, 255)
