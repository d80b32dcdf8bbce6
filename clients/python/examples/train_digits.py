"""Trains the two small networks of the demo on scikit-learn's digits and exports them.

Needs torch, scikit-learn, onnx, onnxscript and onnxruntime (made with torch 2.13, scikit-learn 1.9, onnx 1.23,
onnxscript 0.7); the demo and the tests need none of them, since what this writes is part of the repository. One core
trains both in a few minutes:

    python train_digits.py [--output models]

The data are 1797 grey images of 8 x 8 pixels with values 0..16, fed as float32 [batch, 1, 8, 8] divided by 16. 300 of
them, drawn with equal shares per class, are never trained on:

    digits_resnet.onnx       residual CNN, TorchScript exporter, BatchNormalization nodes kept
    digits_resnet.pt, .pt2   the same network as PyTorch's own files: GraphModule, exported program
    digits_mobile.onnx       depthwise convolutions with squeeze-and-excite, dynamo exporter, normalization folded
    digits_heldout.npz       images [300, 1, 8, 8] float32 and labels [300] int64, disjoint from training
    digits_calibration.npy   images [512, 1, 8, 8] float32 from the training set, without labels
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

SEED = 20240229
HELD_OUT = 300
CALIBRATION = 512
CLASSES = 10
# The files travel with the repository.
MAX_FILE_BYTES = 2_000_000
MIN_ACCURACY = 0.98


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016); the shortcut projects where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    def __init__(self, widths=(24, 48, 72), depths=(2, 2, 1)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        blocks, inputs = [], widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths)):
            for index in range(depth):
                blocks.append(ResidualBlock(inputs, width, 2 if stage > 0 and index == 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inputs, CLASSES)

    def coupled(self):
        """Normalizations whose channels can only go together: those added up, and each block's inner one alone."""
        stream = [self.stem[1]]
        for block in self.blocks:
            if len(block.shortcut) > 0:
                yield stream
                stream = [block.shortcut[1]]
            yield [block.bn1]
            stream.append(block.bn2)
        yield stream

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate computed from their own means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        gate = F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.expand(gate))


class InvertedResidual(nn.Module):
    """Expand, depthwise, gate, project (Howard et al. 2019); a shortcut where the shape allows one."""

    def __init__(self, inputs: int, expanded: int, outputs: int, stride: int):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, expanded, 1, bias=False),
            nn.BatchNorm2d(expanded),
            nn.Hardswish(),
            nn.Conv2d(expanded, expanded, 3, stride, 1, groups=expanded, bias=False),
            nn.BatchNorm2d(expanded),
            SqueezeExcite(expanded, expanded // 4),
            nn.Hardswish(),
            nn.Conv2d(expanded, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.residual else y


class DigitsMobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish())
        self.blocks = nn.Sequential(
            InvertedResidual(24, 72, 24, 1),
            InvertedResidual(24, 96, 40, 2),
            InvertedResidual(40, 120, 40, 1),
            InvertedResidual(40, 160, 56, 2),
        )
        self.head = nn.Sequential(nn.Conv2d(56, 160, 1, bias=False), nn.BatchNorm2d(160), nn.Hardswish())
        self.classifier = nn.Linear(160, CLASSES)

    def coupled(self):
        """As in `DigitsResNet`; a depthwise convolution's channels are those that it reads."""
        stream = [self.stem[1]]
        for block in self.blocks:
            yield [block.layers[1], block.layers[4]]
            if not block.residual:
                yield stream
                stream = []
            stream.append(block.layers[8])
        yield stream
        yield [self.head[1]]

    def forward(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def digits():
    """`(train images, train labels, held-out images, held-out labels)`; no held-out image occurs in training."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    split = train_test_split(images, data.target, test_size=HELD_OUT, stratify=data.target, random_state=SEED)
    train, held_out, train_labels, held_out_labels = split
    seen = {image.tobytes() for image in train}
    assert not any(image.tobytes() in seen for image in held_out)
    return train, train_labels, held_out, held_out_labels


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The batch moved by up to one pixel per axis, each image by its own amount; what enters is blank."""
    count = images.shape[0]
    offsets = torch.randint(0, 3, (count, 2), generator=generator)
    rows = offsets[:, :1] + torch.arange(8)
    columns = offsets[:, 1:] + torch.arange(8)
    padded = F.pad(images, (1, 1, 1, 1))[:, 0]
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def trained(model: nn.Module, images, labels, epochs: int, sparsity: float) -> nn.Module:
    """SGD with a one-cycle schedule, one-pixel shifts and smoothed labels.

    `sparsity` weighs a group lasso on the scales of coupled normalizations (Liu et al. 2017, "Network Slimming", with
    the groups of Fang et al. 2023, "DepGraph"): whole channels are drawn to zero together, and weight decay takes their
    filters along. So one trains a network that is to be pruned.
    """
    generator = torch.Generator().manual_seed(SEED)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    batch = 64
    batches = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * batches)
    groups = list(model.coupled())
    model.train()
    for epoch in range(epochs):
        order, total = torch.randperm(len(x), generator=generator), 0.0
        for chosen in order[: batches * batch].split(batch):
            loss = F.cross_entropy(model(shifted(x[chosen], generator)), y[chosen], label_smoothing=0.05)
            scales = (torch.stack([norm.weight for norm in group]) for group in groups)
            penalty = sum(torch.linalg.vector_norm(scale, dim=0).sum() for scale in scales)
            optimizer.zero_grad()
            (loss + sparsity * penalty).backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1:3d}/{epochs}  loss {total / batches:.4f}", flush=True)
    return model.eval()


def without_stack_traces(path: pathlib.Path):
    """Drops the source locations that the dynamo exporter notes on every node; they name folders of one computer."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def save_for_torch(model: nn.Module, images: torch.Tensor, stem: pathlib.Path):
    """The network as a GraphModule and as an exported program with an open batch."""
    torch.save(torch.fx.symbolic_trace(model), stem.with_suffix(".pt"))
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, stem.with_suffix(".pt2"))


def accuracy(path: pathlib.Path, images, labels) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return float((logits.argmax(1) == labels).mean())


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=here / "models")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train, train_labels, held_out, held_out_labels = digits()
    np.savez_compressed(output / "digits_heldout.npz", images=held_out, labels=held_out_labels)
    np.save(output / "digits_calibration.npy", train[:CALIBRATION])

    example = torch.zeros(2, 1, 8, 8)
    names = {"input_names": ["image"], "output_names": ["logits"]}

    print("residual CNN")
    torch.manual_seed(SEED)
    resnet = trained(DigitsResNet(), train, train_labels, epochs=60, sparsity=5e-3)
    torch.onnx.export(
        resnet, (example,), output / "digits_resnet.onnx", dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, **names,
    )  # fmt: skip

    save_for_torch(resnet, example, output / "digits_resnet")

    print("depthwise CNN with squeeze-and-excite")
    torch.manual_seed(SEED)
    mobile = trained(DigitsMobile(), train, train_labels, epochs=60, sparsity=2e-3)
    torch.onnx.export(
        mobile, (example,), output / "digits_mobile.onnx", dynamo=True, external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},), **names,
    )  # fmt: skip

    without_stack_traces(output / "digits_mobile.onnx")

    for name in ("digits_resnet.onnx", "digits_mobile.onnx"):
        path = output / name
        onnx.checker.check_model(str(path), full_check=True)
        score, size = accuracy(path, held_out, held_out_labels), path.stat().st_size
        print(f"{name}: {size} bytes, {score:.4f} of {HELD_OUT} held-out images right")
        assert score >= MIN_ACCURACY and size < MAX_FILE_BYTES


if __name__ == "__main__":
    main()
