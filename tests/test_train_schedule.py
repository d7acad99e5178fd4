import pytest

from engine.train.schedule import learning_rate


def rates(steps, **settings):
    return [learning_rate(step, **settings) for step in range(steps)]


def test_step_schedule_drops_exactly_at_the_milestones():
    got = rates(8, lr=0.8, epochs=4, steps_per_epoch=2, milestones=(1, 3), factor=0.5)
    assert got == [0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]


def test_cosine_goes_from_the_rate_to_the_final_rate():
    got = rates(5, lr=1.0, epochs=2, steps_per_epoch=2, name="cosine", final_lr=0.2)
    assert got == pytest.approx([1.0, 0.8 * 0.853553 + 0.2, 0.6, 0.8 * 0.146447 + 0.2, 0.2], abs=1e-6)


def test_warmup_is_a_line_to_what_the_schedule_says_at_its_end():
    got = rates(6, lr=1.0, epochs=3, steps_per_epoch=2, milestones=(2,), warmup_epochs=1.5, warmup_start=0.1)
    assert got == pytest.approx([0.1, 0.4, 0.7, 1.0, 0.1, 0.1])
    cosine = {"lr": 1.0, "epochs": 4, "steps_per_epoch": 5, "name": "cosine"}
    warmed = rates(20, **cosine, warmup_epochs=1)
    assert warmed[5:] == rates(20, **cosine)[5:]  # after it, the schedule is as without
    assert warmed[0] == 0 and warmed[4] < warmed[5]
