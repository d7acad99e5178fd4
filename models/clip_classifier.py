"""Clips to classes: a backbone over time, average pooling, dropout, one linear layer; in evaluation many views."""

import math

import paddle
from paddle import nn
from paddle.nn import functional as F

from models.classifier import Classifier


class ClipClassifier(Classifier):
    """Called with a batch dict: `clip` float [N, C, T, H, W] and, in training, `label` int64 [N].

    Training is that of `Classifier`, with `dropout` before the linear layer. In evaluation `clip` may also be
    [N, V, C, T, H, W], V views of each video, and may be larger than in training, longer too: `pool_window`
    (T', H', W') is how much of c5 is averaged together, what a training clip has there, and slides over it; None: all
    of it. The logits float32 [N, num_classes] are then those whose softmax is the mean of the softmax of all places and
    views.
    """

    task = "clips"
    sees = "clip"

    def __init__(
        self, backbone: nn.Layer, num_classes: int, *, label_smoothing: float = 0.0, dropout: float = 0.5,
        pool_window: tuple[int, int, int] | None = None,
    ):
        super().__init__(backbone, num_classes, label_smoothing=label_smoothing)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: {dropout}, expected a value from 0 to below 1")
        if pool_window and min(pool_window) < 1:
            raise ValueError(f"pool_window: {list(pool_window)}, expected sizes of 1 or more")
        self.dropout, self.pool_window = nn.Dropout(dropout), pool_window

    def logits(self, image: paddle.Tensor) -> paddle.Tensor:
        """Clips float [N, C, T, H, W], or [N, V, C, T, H, W] -> logits float32 [N, num_classes]."""
        if self.training:
            return self.fc(self.dropout(self.backbone(image)["c5"].mean(axis=[2, 3, 4]))).astype("float32")
        views = [image] if image.ndim == 5 else image.unbind(axis=1)  # one by one: thirty at once want much memory
        logits = paddle.concat([self._of_places(view) for view in views], axis=1)
        places = logits.shape[1]
        if places == 1:
            return logits.squeeze(axis=1)
        return F.log_softmax(logits, axis=2).logsumexp(axis=1) - math.log(places)

    def _of_places(self, clip):
        """Logits float32 [N, places, num_classes]."""
        features = self.backbone(clip)["c5"]
        size = features.shape[2:]
        window = list(map(min, self.pool_window or size, size))  # Paddle 2.6 cannot export a strict zip
        if window == size:
            pooled = features.mean(axis=[2, 3, 4]).unsqueeze(axis=1)
        else:
            pooled = F.avg_pool3d(features, window, stride=1).flatten(start_axis=2).transpose([0, 2, 1])
        return self.fc(pooled).astype("float32")
