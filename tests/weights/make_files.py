"""Files of weights as PyTorch writes them, with what each stage of their networks answers.

    python tests/weights/make_files.py small tests/weights    the committed ones: few channels, every form of file
    python tests/weights/make_files.py full FOLDER            torchvision's and timm's own networks, half a gigabyte

Wants torch, torchvision, timm and safetensors; the tests that read the committed files want none of them. Weights,
running statistics, gammas and betas are random. NAME.npz beside NAME.* has an image, c2 to c5 and the logits.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck


class Thin(nn.Module):
    """torchvision's ResNet of its own blocks, two in each stage, with any width."""

    def __init__(self, block, norm, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = norm(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage in range(4):
            planes, stride = width * 2**stage, 2 if stage else 1
            out = planes * block.expansion
            down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out))
            first = block(channels, planes, stride, down if stride > 1 or channels != out else None, norm_layer=norm)
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, block(out, planes, norm_layer=norm)))
            channels = out
        self.fc = nn.Linear(channels, 5)


def randomised(model, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            draw = torch.randn if name.endswith(("bias", "running_mean")) else torch.rand
            if value.ndim == 1:
                value.copy_(0.1 * draw(value.shape, generator=random) + (0 if draw is torch.randn else 0.8))
    return model.eval()


def answers(model, size):
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model.maxpool(torch.relu(model.bn1(model.conv1(image))))
        stages = {}
        for k in range(2, 6):
            stages[f"c{k}"] = y = getattr(model, f"layer{k - 1}")(y)
        logits = model.fc(y.mean(dim=(2, 3)))
    return {name: value.numpy() for name, value in {"image": image, **stages, "logits": logits}.items()}


def small(folder):
    torch.manual_seed(0)
    groups = lambda channels: nn.GroupNorm(2, channels)  # noqa: E731
    basic = randomised(Thin(BasicBlock, nn.BatchNorm2d, 2), 2)
    deep = randomised(Thin(Bottleneck, nn.BatchNorm2d, 2), 3)
    grouped = randomised(Thin(Bottleneck, groups, 2), 4)
    for name, model in (("basic", basic), ("deep", deep), ("grouped", grouped)):
        np.savez_compressed(folder / f"{name}.npz", **answers(model, (40, 32)))

    torch.save(basic.state_dict(), folder / "basic.legacy.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(basic.state_dict(), folder / "basic.safetensors")
    narrow = {name: value.bfloat16() for name, value in basic.state_dict().items()}
    safetensors.torch.save_file(narrow, folder / "basic.bfloat16.safetensors")
    torch.save({name: value.half() for name, value in basic.state_dict().items()}, folder / "basic.half.pth")

    # A training's checkpoint: the weights, as several devices save them, among what else it needs.
    optimizer = torch.optim.SGD(deep.parameters(), 0.1, momentum=0.9)
    for parameter in deep.fc.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = {f"module.{name}": value for name, value in deep.state_dict().items()}
    settings = argparse.Namespace(lr=0.1, dtype=torch.float16, device=torch.device("cpu"), milestones=[30, 60])
    torch.save(
        {"epoch": 3, "arch": "resnet26", "state_dict": state, "optimizer": optimizer.state_dict(), "args": settings,
         "best": np.float64(0.3), "size": torch.zeros(2, 3).shape},
        folder / "deep.checkpoint.pth",
    )
    channels_last = grouped.to(memory_format=torch.channels_last).state_dict()
    worse = {name: torch.zeros_like(channels_last[name]) for name in ("conv1.weight", "layer1.0.conv1.weight")}
    torch.save({"model": worse, "model_ema": channels_last}, folder / "grouped.ema.pth")


def full(folder):
    torch.manual_seed(0)
    models = {name: getattr(torchvision.models, name)() for name in ("resnet18", "resnet50", "resnet101")}
    models["resnet50_gn"] = timm.create_model("resnet50_gn")
    for seed, (name, model) in enumerate(models.items()):
        randomised(model, seed)
        np.savez(folder / f"{name}.npz", **answers(model, (64, 96)))
        torch.save(model.state_dict(), folder / f"{name}.pth")


if __name__ == "__main__":
    {"small": small, "full": full}[sys.argv[1]](Path(sys.argv[2]))
