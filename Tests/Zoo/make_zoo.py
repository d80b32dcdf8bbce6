"""Exports real architectures and writes their skeletons: `python Tests/Zoo/make_zoo.py [--only NAME ...]`.

Needs torch, torchvision, onnx and onnxscript; nothing is downloaded, for only the structure is kept (skeletons.py).
Run it to add an architecture or to follow a new exporter; the tests read the files it leaves.
Exporters: `torchscript` (static shapes, 224 pixels), `dynamic` (torchscript with a symbolic batch, 96 pixels) and
`dynamo` (torch.export, 128 pixels).
"""

import argparse
import io
import os
import tempfile
import warnings

import onnx
import torch
from torch import nn

import skeletons

warnings.filterwarnings("ignore")
PIXELS = {"torchscript": 224, "dynamic": 96, "dynamo": 128}


def torchvision_models():
    """torchvision's models; beside a CPU build of torch its compiled operators do not load and are declared first."""
    try:
        import torchvision
    except (RuntimeError, ImportError):
        import sys

        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        torchvision_models.library = torch.library.Library("torchvision", "DEF")
        for declaration in (
            "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor",
        ):
            torchvision_models.library.define(declaration)
        import torchvision
    return torchvision.models


class UNet(nn.Module):
    """Two levels down and up, skips by concatenation; one level grows by transposed convolution, one by resizing."""

    def __init__(self, channels=(24, 48, 96), classes=3):
        super().__init__()
        a, b, c = channels
        self.enter, self.down1, self.down2 = self.double(3, a), self.double(a, b), self.double(b, c)
        self.up2, self.mix2 = nn.ConvTranspose2d(c, b, 2, 2), self.double(2 * b, b)
        self.up1 = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(b, a, 1))
        self.mix1, self.leave = self.double(2 * a, a), nn.Conv2d(a, classes, 1)
        self.pool = nn.MaxPool2d(2)

    @staticmethod
    def double(inputs, outputs):
        layers = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x):
        a = self.enter(x)
        b = self.down1(self.pool(a))
        c = self.down2(self.pool(b))
        b = self.mix2(torch.cat([b, self.up2(c)], 1))
        return self.leave(self.mix1(torch.cat([self.up1(b), a], 1)))


def narrow_vgg(models):
    """vgg11_bn with 512 instead of 4096 hidden units in its classifier: a file of 50 MB instead of 530."""
    model = models.vgg11_bn(weights=None)
    model.classifier = nn.Sequential(
        nn.Linear(512 * 49, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 1000),
    )
    return model


def architectures():
    models = torchvision_models()
    plain = [
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "densenet121",
        "shufflenet_v2_x1_0",
        "squeezenet1_0",
        "resnext50_32x4d",
        "efficientnet_b0",
        "regnet_y_400mf",
        "mobilenet_v3_large",
    ]
    made = {name: (lambda name=name: getattr(models, name)(weights=None)) for name in plain}
    made["googlenet"] = lambda: models.googlenet(weights=None, aux_logits=False, init_weights=False)
    made["vgg11_bn"] = lambda: narrow_vgg(models)
    made["unet"] = UNet
    return made


def distinct(model):
    """Different numbers everywhere, as in a trained network: exporters merge tensors that are equal."""
    with torch.no_grad():
        for tensor in list(model.parameters()) + list(model.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def export(model, exporter, pixels):
    image = torch.randn(1, 3, pixels, pixels)
    named = {"input_names": ["input"], "output_names": ["output"]}
    if exporter == "dynamo":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            torch.onnx.export(
                model, (image,), path, dynamo=True, opset_version=18, external_data=False, verbose=False, **named
            )
            return onnx.load(path)
    axes = {"dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}} if exporter == "dynamic" else {}
    file = io.BytesIO()
    torch.onnx.export(model, (image,), file, dynamo=False, opset_version=17, **named, **axes)
    return onnx.ModelProto.FromString(file.getvalue())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--exporters", nargs="*", default=list(PIXELS))
    arguments = parser.parse_args()
    for name, make in architectures().items():
        if arguments.only and name not in arguments.only:
            continue
        torch.manual_seed(0)
        model = distinct(make())
        for exporter in arguments.exporters:
            pixels = 224 if name == "vgg11_bn" and exporter == "dynamic" else PIXELS[exporter]  # its pooling needs it
            with torch.no_grad():
                path = skeletons.write(export(model, exporter, pixels), name, exporter)
            print(f"{path.relative_to(skeletons.FOLDER)}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
