"""Running things. The environment comes first: it must be set before Paddle is imported."""

from engine import environment  # noqa: F401
