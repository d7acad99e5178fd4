"""Weight Standardization (Qiao et al., arXiv:1903.10520): filters of mean 0 and deviation 1."""

from paddle import Tensor

from ops.group_norm import group_norm

# BiT's. The paper's code has the unbiased deviation and adds 1e-5 to it: what differs is one factor for a whole filter,
# next to 1, which the norm behind it takes off.
EPS = 1e-10


def standardize(weight: Tensor, eps: float = EPS) -> Tensor:
    """Each filter less its mean, over its deviation: sqrt(biased variance + eps), over input channels and taps.

    weight [C_out, C_in / groups, ...] -> the same shape and dtype: the layer norm of each filter. The gradient is that
    of what is standardised. A filter of a single value becomes 0.
    """
    return group_norm(weight.flatten(1).unsqueeze(1), 1, eps=eps).reshape(weight.shape)
