"""Are numbers finite: looked at wherever a network or what it gave is kept."""

from collections.abc import Mapping

import numpy as np
import paddle


def not_finite(values: Mapping) -> str | None:
    """The name of the first tensor or array among `values` that holds nan or inf; None where all are sound."""
    for name, value in values.items():
        if isinstance(value, paddle.Tensor):
            sound = not value.is_floating_point() or bool(paddle.isfinite(value).all())
        else:
            sound = not (isinstance(value, np.ndarray) and value.dtype.kind == "f") or np.isfinite(value).all()
        if not sound:
            return name
    return None
