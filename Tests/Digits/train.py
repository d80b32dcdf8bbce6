"""Trains the networks of Tests/Digits/models on scikit-learn's digits and exports them to ONNX.

    python train.py [--output models] [--only NAME]

Needs torch, onnx, onnxruntime and scikit-learn (Tests/requirements-zoo.txt: `make networks` runs it). What it writes is
part of the repository, so nothing else needs torch. One core trains all three in a few minutes. They are trained as
anybody would, with weight decay and no thought of compression, and are wider than the task calls for, as networks are:

    resnet.onnx    residual CNN: stem, 8 blocks of 3x3 convolutions, normalization kept
    mobile.onnx    depthwise and pointwise convolutions, squeeze-and-excite, normalization folded
    vit.onnx       transformer on patches of 2x2: 4 blocks of attention and a two-layer perceptron

It also writes sample.npz, what the fast test measures with: uint8 pixels (0..16) of 256 training images, without
labels, and 200 held-out ones with labels.
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

import digits

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python" / "examples"))
from train_digits import DigitsResNet, InvertedResidual, shifted  # noqa: E402

# The files travel with the repository.
MAX_FILE_BYTES = 2_000_000
BATCH = 64


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.blocks = nn.Sequential(
            InvertedResidual(32, 128, 32, 1),
            InvertedResidual(32, 128, 48, 2),
            InvertedResidual(48, 192, 48, 1),
            InvertedResidual(48, 192, 64, 2),
            InvertedResidual(64, 256, 64, 1),
        )
        self.head = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256), nn.Hardswish())
        self.classifier = nn.Linear(256, 10)

    def forward(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Block(nn.Module):
    """Pre-norm attention with packed queries, keys and values, then a perceptron (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        # The batch may be of any size: -1, and never the number that was traced.
        tokens, width = x.shape[1], x.shape[2]
        q, k, v = self.qkv(self.norm1(x)).reshape(-1, tokens, 3, self.heads, width // self.heads).unbind(2)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * (width // self.heads) ** -0.5
        mixed = (scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2).reshape(-1, tokens, width)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, width: int = 80, depth: int = 4, heads: int = 4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(x)).mean(1))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)


KEEP_NORMALIZATION = torch.onnx.TrainingMode.PRESERVE
FOLD_NORMALIZATION = torch.onnx.TrainingMode.EVAL
# How each is made, its optimizer, epochs, what the exporter does with normalization, and the least accuracy.
NETWORKS = {
    "resnet": (lambda: DigitsResNet((32, 56, 88), (3, 3, 2)), sgd, 40, KEEP_NORMALIZATION, 0.99),
    "mobile": (Mobile, sgd, 60, FOLD_NORMALIZATION, 0.985),
    "vit": (ViT, adamw, 80, FOLD_NORMALIZATION, 0.97),
}


def trained(model, optimizer, epochs, images, labels, tell=print):
    """One-cycle schedule, shifts by up to a pixel, smoothed labels."""
    generator = torch.Generator().manual_seed(digits.SEED)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    batches = len(x) // BATCH
    rate = optimizer.param_groups[0]["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=epochs * batches)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(x), generator=generator)[: batches * BATCH].split(BATCH):
            loss = F.cross_entropy(model(shifted(x[chosen], generator)), y[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        tell(f"  epoch {epoch + 1:3d}/{epochs}  loss {total / batches:.4f}")
    return model.eval()


def export(model, path, training):
    torch.onnx.export(
        model, (torch.zeros(2, 1, 8, 8),), path, dynamo=False, opset_version=17, training=training,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip
    onnx.checker.check_model(str(path), full_check=True)


def accuracy(path, images, labels):
    (logits,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": images})
    return float((logits.argmax(1) == labels).mean())


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=here / "models")
    parser.add_argument("--only", choices=NETWORKS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train, train_labels, held_out, labels = digits.split()

    pixels = [(images * digits.BRIGHTEST).astype(np.uint8) for images in (train[:256], held_out[:200])]
    np.savez_compressed(
        arguments.output / "sample.npz",
        calibration=pixels[0], images=pixels[1], labels=labels[:200].astype(np.uint8),
    )  # fmt: skip
    for name in [arguments.only] if arguments.only else NETWORKS:
        print(name)
        make, optimizer, epochs, training, least = NETWORKS[name]
        torch.manual_seed(digits.SEED)
        model = make()
        path = arguments.output / f"{name}.onnx"
        export(trained(model, optimizer(model), epochs, train, train_labels), path, training)
        score, size = accuracy(path, held_out, labels), path.stat().st_size
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{name}: {parameters} parameters, {size} bytes, {score:.4f} of {len(labels)} held-out images right")
        assert score >= least and size < MAX_FILE_BYTES


if __name__ == "__main__":
    main()
