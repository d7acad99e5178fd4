"""How long the steps of a run take, and how much of that is waiting for data."""

import time

from engine.run.progress import Progress


class StepTimes:
    """Times of steps in this process. The first ones, slower, are left out of the averages."""

    LEFT_OUT = 3

    def __init__(self, images_per_step: int, total_steps: int, progress: Progress):
        self.images, self.total_steps, self.progress = images_per_step, total_steps, progress
        self.steps = self.counted = 0
        self.reading = self.batch = 0.0
        self.warned = False
        self.at = self.saved_at = time.perf_counter()

    def start(self) -> None:
        """An epoch begins: what came before was no training."""
        self.at = time.perf_counter()

    def saved(self) -> None:
        self.at = self.saved_at = time.perf_counter()

    def waiting(self) -> None:
        """A step begins: the batch is waited for."""
        self._book("batch")
        self.steps += 1

    def working(self) -> None:
        self._book("reading")

    def working_done(self) -> None:
        self._book("batch")

    def _book(self, what):
        now = time.perf_counter()
        passed, self.at = now - self.at, now
        self.progress.train_seconds += passed
        if self.steps > self.LEFT_OUT:
            self.batch += passed
            self.reading += passed if what == "reading" else 0.0
            self.counted = self.steps - self.LEFT_OUT

    @property
    def since_saved(self) -> float:
        return time.perf_counter() - self.saved_at

    @property
    def images_per_second(self) -> float:
        return self.images * self.counted / self.batch if self.counted else 0.0

    def reader_is_slow(self) -> bool:
        slow = self.counted > 20 and self.reading > 0.3 * self.batch and not self.warned
        self.warned = self.warned or slow
        return slow

    def __str__(self) -> str:
        if not self.counted:
            return "ips: -, eta: -"
        cost = self.batch / self.counted
        left = int(cost * (self.total_steps - self.progress.step))
        return (
            f"batch_cost: {cost:.5f}s, reader_cost: {self.reading / self.counted:.5f}s, "
            f"ips: {self.images_per_second:.1f} images/s, eta: {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        )
