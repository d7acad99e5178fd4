"""The learning rate as a pure function of the step."""

import math
from collections.abc import Sequence


def learning_rate(
    step: int, *, lr: float, epochs: int, steps_per_epoch: int, name: str = "step", milestones: Sequence[int] = (),
    factor: float = 0.1, final_lr: float = 0.0, warmup_epochs: float = 0.0, warmup_start: float = 0.0,
) -> float:
    """The rate of optimizer step `step`, counted from 0 over all epochs.

    name "step": `lr`, multiplied by `factor` from each milestone (in epochs) on. "cosine": half a cosine from `lr`
    down to `final_lr` at the end of the last epoch (Loshchilov & Hutter, arXiv:1608.03983, without restarts). During
    the first `warmup_epochs` (a fraction is allowed) the rate climbs in a line from `warmup_start` times what the
    schedule says at their end to just that (Goyal et al., arXiv:1706.02677).
    """

    def scheduled(at):
        if name == "step":
            return lr * factor ** sum(at >= milestone * steps_per_epoch for milestone in milestones)
        return final_lr + (lr - final_lr) * (1 + math.cos(math.pi * at / (epochs * steps_per_epoch))) / 2

    warmup_steps = warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return scheduled(warmup_steps) * (warmup_start + (1 - warmup_start) * step / warmup_steps)
    return scheduled(step)
