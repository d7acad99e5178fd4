"""Image classification: a backbone, global average pooling, one linear layer and its loss."""

import paddle
from paddle import nn
from paddle.nn import functional as F


class Classifier(nn.Layer):
    """Called with a batch dict: `image` float [N, C, H, W] and, in training, `label` int64 [N].

    Training returns scalars: `loss` (mean cross entropy, against labels smoothed by `label_smoothing`) and
    `top1_error` (a fraction). Evaluation returns the logits, float32 [N, num_classes].
    `backbone` maps images to {stage: features} and names the channels of its stages in `out_channels`.
    """

    task = "classification"  # how its predictions are judged and shown
    sees = "image"  # what it takes of a batch, beside the label

    def __init__(self, backbone: nn.Layer, num_classes: int, *, label_smoothing: float = 0.0):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"{num_classes} classes, expected 1 or more")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing}, expected a value from 0 to below 1")
        self.backbone = backbone
        self.label_smoothing = label_smoothing
        small = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01))
        self.fc = nn.Linear(backbone.out_channels["c5"], num_classes, weight_attr=small)

    def logits(self, image: paddle.Tensor) -> paddle.Tensor:
        """image float [N, C, H, W] -> logits float32 [N, num_classes]."""
        pooled = self.backbone(image)["c5"].mean(axis=[2, 3])
        return self.fc(pooled).astype("float32")

    def forward(self, batch: dict[str, paddle.Tensor]) -> dict[str, paddle.Tensor] | paddle.Tensor:
        logits = self.logits(batch[self.sees])
        if not self.training:
            return logits
        label = batch["label"]
        loss = F.cross_entropy(logits, label, label_smoothing=self.label_smoothing)
        return {"loss": loss, "top1_error": (logits.argmax(axis=1) != label).astype("float32").mean()}
