"""How a garment moves in a clip: a pose for every frame, on a canvas whose opposite sides are one.

What leaves on the right comes in on the left, a garment that has grown to the largest size is at the smallest again,
and a turn has no end. So at every moment a pose is as likely in one motion as in any other, and no frame alone tells
which one it is from; and a motion played backwards is a motion.
"""

import math
from collections.abc import Callable

import numpy as np

from data.composing.garments import SIDE
from data.composing.placing import LONGEST, SHORTEST, STRAIN, WAVES, Pose
from data.geometry import bends

# In a clip, at speed 1 and at the fastest; the slowest is half as fast. Lengths are shares of the canvas.
DISTANCE = 0.9
GROWTH = math.log(1.6)
TURN = 1.3 * math.pi
BOUNCES, HEIGHT = 2.0, 0.45
SMALLEST, LARGEST = 0.28, 0.75  # of a garment's square, of the canvas: whatever its turn, it meets itself nowhere
ASIDE = math.pi / 12  # radians, how far a way can lead off the direction that names it


def still(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    return [pose for _ in times]


def to_the_right(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    return _along(pose, DISTANCE * pace * side * times[:, None] * [[math.sin(aside), math.cos(aside)]])


def down(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    return _along(pose, DISTANCE * pace * side * times[:, None] * [[math.cos(aside), math.sin(aside)]])


def bouncing(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    """Thrown up again and again, from somewhere in the middle of a throw."""
    begun = (aside / ASIDE + 1) / 2
    since = (BOUNCES * pace * times + begun) % 1
    up = -4 * HEIGHT * side * since * (1 - since)
    return _along(pose, up[:, None] * [[1, 0]])


def growing(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    smallest, room = SMALLEST * side / SIDE, math.log(LARGEST / SMALLEST)
    logs = (math.log(pose.scale / smallest) + GROWTH * pace * times) % room
    return [pose._replace(scale=smallest * math.exp(log)) for log in logs]


def turning(pose: Pose, times: np.ndarray, pace: float, aside: float, side: float) -> list[Pose]:
    """Anticlockwise."""
    return [pose._replace(turn=pose.turn + TURN * pace * time) for time in times]


def _along(pose, ways):
    return [pose._replace(position=pose.position + way) for way in ways]


# The motion of a class, and whether it is played backwards.
MOTIONS: dict[str, tuple[Callable[..., list[Pose]], bool]] = {
    "still": (still, False),
    "left": (to_the_right, True),
    "right": (to_the_right, False),
    "up": (down, True),
    "down": (down, False),
    "grow": (growing, False),
    "shrink": (growing, True),
    "anticlockwise": (turning, False),
    "clockwise": (turning, True),
    "bounce": (bouncing, False),
}


def random_poses(
    rng: np.random.Generator, motion: Callable[..., list[Pose]], frames: int, side: int, *, warp: float, speed: float,
    shake: float,
) -> list[Pose]:
    """A pose for each of `frames` frames, evenly spaced in the clip, on a square canvas of `side` pixels.

    Where it begins, its size and its turn are as likely as any others; warp is the strength of its bends, as of
    random_pose; shake is the deviation of a frame's position from the way, in shares of the canvas. What is drawn from
    rng does not depend on the motion.
    """
    growth, turn, y, x, mirrored, pace, aside = rng.random(7).tolist()
    wavelengths, headings, phases, directions = rng.random((4, WAVES))
    waves, pushes = bends(SHORTEST + (LONGEST - SHORTEST) * wavelengths, headings, directions, warp * STRAIN)
    pose = Pose(
        side * np.array([y, x]), SMALLEST * (LARGEST / SMALLEST) ** growth * side / SIDE, 2 * np.pi * turn,
        mirrored=mirrored < 0.5, waves=waves, phases=2 * np.pi * phases, pushes=pushes,
    )
    poses = motion(pose, (np.arange(frames) + 0.5) / frames, speed * (0.5 + 0.5 * pace), ASIDE * (2 * aside - 1), side)
    shakes = shake * side * rng.standard_normal((frames, 2))
    return [pose._replace(position=(pose.position + off) % side) for pose, off in zip(poses, shakes, strict=True)]
