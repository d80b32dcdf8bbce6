"""Networks for images that no library offers in small: heads, necks and narrow forms, and torchvision's import."""

import sys

import torch
from torch import nn


def torchvision_models():
    """torchvision's models; beside a CPU build of torch its compiled operators do not load and are declared first."""
    try:
        import torchvision
    except (RuntimeError, ImportError):
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


def fcn(models):
    """A fully convolutional head over a ResNet-18, resized to the image."""
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    backbone = IntermediateLayerGetter(models.resnet18(weights=None), {"layer4": "out"})
    return Only(FCN(backbone, FCNHead(512, 5)))


class ConvUnit(nn.Sequential):
    """Convolution, norm, activation."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, activation=nn.SiLU):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), activation()
        )


class C2f(nn.Module):
    """A cross-stage block that keeps every intermediate half: chunk, residual units, one concatenation."""

    def __init__(self, inputs, outputs, depth=2, residual=True):
        super().__init__()
        half = outputs // 2
        self.enter, self.leave = ConvUnit(inputs, outputs), ConvUnit((2 + depth) * half, outputs)
        self.units = nn.ModuleList(
            nn.Sequential(ConvUnit(half, half, 3), ConvUnit(half, half, 3)) for _ in range(depth)
        )
        self.residual = residual

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        for unit in self.units:
            parts.append(parts[-1] + unit(parts[-1]) if self.residual else unit(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PooledPyramid(nn.Module):
    """One convolution seen through ever larger max pools."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.enter, self.leave = ConvUnit(inputs, inputs // 2), ConvUnit(inputs * 2, outputs)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.enter(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.leave(torch.cat([x, y, z, self.pool(z)], 1))


class MapAttention(nn.Module):
    """Attention over the places of a feature map; keys are half as wide as values, all three in one convolution."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads, self.value, self.key = heads, width // heads, width // heads // 2
        self.qkv = nn.Conv2d(width, width + 2 * heads * self.key, 1)
        self.place, self.leave = nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Conv2d(width, width, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        packed = self.qkv(x).view(n, self.heads, 2 * self.key + self.value, h * w)
        q, k, v = packed.split([self.key, self.key, self.value], dim=2)
        weights = (q.transpose(-2, -1) @ k * self.key**-0.5).softmax(-1)
        y = (v @ weights.transpose(-2, -1)).view(n, c, h, w) + self.place(v.reshape(n, c, h, w))
        return x + self.leave(y)


class Detector(nn.Module):
    """A one-stage detector: C2f backbone, two-level neck, decoupled heads with a distribution over box distances."""

    def __init__(self, classes=4, attention=False, widths=(16, 32, 64, 128), bins=16):
        super().__init__()
        a, b, c, d = widths
        self.stage1 = nn.Sequential(ConvUnit(3, a, 3, 2), ConvUnit(a, b, 3, 2), C2f(b, b, 1))
        self.stage2 = nn.Sequential(ConvUnit(b, c, 3, 2), C2f(c, c))
        deepest = [ConvUnit(c, d, 3, 2), C2f(d, d, 1), PooledPyramid(d, d)]
        self.stage3 = nn.Sequential(*deepest, *([MapAttention(d)] if attention else []))
        self.grow, self.shrink = nn.Upsample(scale_factor=2), ConvUnit(c, c, 3, 2)
        self.neck1, self.neck2 = C2f(d + c, c, 1, False), C2f(c + d, d, 1, False)
        self.classes, self.bins = classes, bins
        self.boxes = nn.ModuleList(
            nn.Sequential(ConvUnit(w, 64, 3), ConvUnit(64, 64, 3), nn.Conv2d(64, 4 * bins, 1)) for w in (c, d)
        )
        self.scores = nn.ModuleList(
            nn.Sequential(ConvUnit(w, 32, 3), ConvUnit(32, 32, 3), nn.Conv2d(32, classes, 1)) for w in (c, d)
        )
        self.expectation = nn.Conv2d(bins, 1, 1, bias=False)

    def forward(self, x):
        b = self.stage2(self.stage1(x))
        c = self.stage3(b)
        p = self.neck1(torch.cat([self.grow(c), b], 1))
        q = self.neck2(torch.cat([self.shrink(p), c], 1))
        levels = [
            torch.cat([boxes(f), scores(f)], 1).flatten(2)
            for boxes, scores, f in zip(self.boxes, self.scores, (p, q))
        ]
        box, score = torch.cat(levels, 2).split((4 * self.bins, self.classes), 1)
        n, _, places = box.shape
        chances = box.view(n, 4, self.bins, places).transpose(2, 1).softmax(1)
        near, far = self.expectation(chances).view(n, 4, places).chunk(2, 1)
        return torch.cat([(far - near) / 2, near + far, score.sigmoid()], 1)


class SSDHead(nn.Module):
    """Three scales; per scale a class and a box convolution, unfolded per anchor, joined over places."""

    def __init__(self, classes=6, anchors=(4, 6, 4), widths=(64, 128, 96)):
        super().__init__()
        unit = lambda i, o, stride=1: ConvUnit(i, o, 3, stride, nn.ReLU)
        self.scales = nn.ModuleList(
            [
                nn.Sequential(unit(3, 32, 2), unit(32, widths[0], 2), unit(widths[0], widths[0])),
                nn.Sequential(unit(widths[0], widths[1], 2), unit(widths[1], widths[1])),
                unit(widths[1], widths[2], 2),
            ]
        )
        self.classes = classes
        self.scores = nn.ModuleList(nn.Conv2d(w, a * classes, 3, 1, 1) for w, a in zip(widths, anchors))
        self.boxes = nn.ModuleList(nn.Conv2d(w, a * 4, 3, 1, 1) for w, a in zip(widths, anchors))

    def forward(self, x):
        scores, boxes = [], []
        for scale, score, box in zip(self.scales, self.scores, self.boxes):
            x = scale(x)
            scores.append(self.per_anchor(score(x), self.classes))
            boxes.append(self.per_anchor(box(x), 4))
        return torch.cat(scores, 1).softmax(-1), torch.cat(boxes, 1)

    @staticmethod
    def per_anchor(y, values):
        n, _, h, w = y.shape
        return y.view(n, -1, values, h, w).permute(0, 3, 4, 1, 2).reshape(n, -1, values)


class MobileNetV1(nn.Sequential):
    """Depthwise and pointwise convolutions in turn."""

    def __init__(self, classes=20):
        layers = [ConvUnit(3, 16, 3, 2, nn.ReLU)]
        for inputs, outputs, stride in ((16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
            layers += [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs)]
            layers += [nn.ReLU(), ConvUnit(inputs, outputs, activation=nn.ReLU)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


class Only(nn.Module):
    """One member of a network's dictionary of outputs."""

    def __init__(self, model, key="out"):
        super().__init__()
        self.model, self.key = model, key

    def forward(self, x):
        return self.model(x)[self.key]
