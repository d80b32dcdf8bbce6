"""The networks that PyTorch files are made of here: every family that users bring, narrow and shallow.

Structure matters, not size. Weights come from a seed; norms have factors and shifts that are not 1 and 0, and batch
norms the statistics of a few batches, moved a little, so that nothing is neutral by accident.
"""

import dataclasses
from typing import Callable

import torch
from torch import nn

import vision

models = vision.torchvision_models()  # before timm, which imports torchvision

import language
import timm
from timm.models.mlp_mixer import MlpMixer
from torchvision.models import convnext, densenet, efficientnet, mobilenetv3, regnet, resnet, vgg


@dataclasses.dataclass(frozen=True)
class Network:
    """`inputs` makes example inputs for a batch; `products` says that two activations are multiplied and summed over
    channels (attention), `graph_module` that torch.fx can trace it."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int], tuple]
    products: bool = False
    graph_module: bool = True


def image(pixels=64):
    return lambda batch: (torch.randn(batch, 3, pixels, pixels),)


def tokens(length=12):
    return lambda batch: (torch.randint(1, 100, (batch, length)),)


def tokens_and_mask(length=12):
    return lambda batch: (torch.randint(1, 100, (batch, length)), torch.ones(batch, length, dtype=torch.int64))


CLASSES = 12


class C2f(nn.Module):
    """A cross-stage block: two halves, one of them through residual units, and all of them in one concatenation."""

    def __init__(self, inputs, outputs):
        super().__init__()
        half = outputs // 2
        self.enter, self.leave = vision.ConvUnit(inputs, outputs), vision.ConvUnit(4 * half, outputs)
        self.first = nn.Sequential(vision.ConvUnit(half, half, 3), vision.ConvUnit(half, half, 3))
        self.second = nn.Sequential(vision.ConvUnit(half, half, 3), vision.ConvUnit(half, half, 3))

    def forward(self, x):
        a, b = self.enter(x).chunk(2, 1)
        c = b + self.first(b)
        return self.leave(torch.cat([a, b, c, c + self.second(c)], 1))


class Neck(nn.Module):
    """Two scales, the deeper one resized and joined with the other; a prediction of each."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(vision.ConvUnit(3, 16, 3, 2), vision.ConvUnit(16, 24, 3, 2), C2f(24, 24))
        self.stage2 = nn.Sequential(vision.ConvUnit(24, 48, 3, 2), C2f(48, 48))
        self.grow, self.shrink = nn.Upsample(scale_factor=2), vision.ConvUnit(24, 24, 3, 2)
        self.up, self.down = C2f(72, 24), C2f(72, 48)
        self.fine, self.coarse = nn.Conv2d(24, CLASSES, 1), nn.Conv2d(48, CLASSES, 1)

    def forward(self, x):
        a = self.stage1(x)
        b = self.stage2(a)
        a = self.up(torch.cat([self.grow(b), a], 1))
        b = self.down(torch.cat([self.shrink(a), b], 1))
        return self.fine(a), self.coarse(b)


TEXT = {**language.WIDTH, "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 32}


class Picks(nn.Module):
    """What is moved on, or taken by a list of numbers, stays as it is; what lies around it goes."""

    def __init__(self):
        super().__init__()
        self.moved, self.listed, self.shared = (nn.Conv2d(32, 12, 1) for _ in range(3))
        self.scaled = nn.Conv2d(32, 12, 1)
        self.first = nn.Conv2d(3, 32, 3)
        self.between = nn.ModuleList(nn.Conv2d(12, 32, 3) for _ in range(4))
        self.last = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.moved(self.first(x).relu()).roll(2, 1)
        x = self.listed(self.between[0](x).relu())[:, [3, 2, 1, 0, 4, 5, 6, 7, 8, 9, 11, 10]]
        x = torch.cat(self.shared(self.between[1](x).relu()).tensor_split(5, 1)[::-1], 1)
        x = self.scaled(self.between[2](x).relu()) * torch.linspace(0.5, 1.5, 12).view(1, -1, 1, 1)
        return self.last(self.between[3](x).relu().mean((2, 3)))


def mobilenet_v3():
    setting = lambda *values: mobilenetv3.InvertedResidualConfig(*values, width_mult=1.0)
    rows = [
        setting(16, 3, 16, 16, True, "RE", 2, 1),
        setting(16, 3, 48, 24, False, "RE", 2, 1),
        setting(24, 5, 64, 24, True, "HS", 1, 1),
        setting(24, 5, 96, 48, True, "HS", 2, 1),
    ]
    return mobilenetv3.MobileNetV3(rows, 96, num_classes=CLASSES)


def efficientnet_b():
    setting = lambda *values: efficientnet.MBConvConfig(*values)
    rows = [setting(1, 3, 1, 32, 16, 1), setting(6, 3, 2, 16, 24, 2), setting(6, 5, 2, 24, 40, 2)]
    return efficientnet.EfficientNet(rows, dropout=0.2, stochastic_depth_prob=0.0, num_classes=CLASSES)


def regnet_y():
    parameters = regnet.BlockParams.from_init_params(depth=6, w_0=24, w_a=18.0, w_m=2.2, group_width=8, se_ratio=0.25)
    return regnet.RegNet(parameters, num_classes=CLASSES)


def convnext_small():
    rows = [convnext.CNBlockConfig(32, 48, 1), convnext.CNBlockConfig(48, 64, 2), convnext.CNBlockConfig(64, None, 1)]
    return convnext.ConvNeXt(rows, num_classes=CLASSES)


def vgg_small():
    network = vgg.VGG(vgg.make_layers([32, "M", 48, "M", 64, 64, "M", 96, "M"], batch_norm=True), num_classes=CLASSES)
    network.avgpool = nn.AdaptiveAvgPool2d(2)
    network.classifier = nn.Sequential(
        nn.Linear(96 * 4, 96), nn.ReLU(True), nn.Dropout(), nn.Linear(96, 64), nn.ReLU(True), nn.Linear(64, CLASSES)
    )
    return network


def googlenet():
    network = models.googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=CLASSES)
    for name in ("inception4b", "inception4c", "inception4d"):
        # A third as deep; 4a and 4e fit one another once 4e reads what 4a makes.
        setattr(network, name, nn.Identity())
    network.inception4e = type(network.inception4e)(512, 96, 64, 128, 16, 32, 48)
    network.inception5a = nn.Identity()
    network.inception5b = type(network.inception5b)(304, 96, 64, 128, 16, 48, 48)
    network.fc = nn.Linear(320, CLASSES)
    return network


def of_timm(name, **settings):
    return lambda: timm.create_model(name, pretrained=False, num_classes=CLASSES, **settings)


SMALL_VIT = {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}
WINDOWS = {"depths": (2, 2), "embed_dim": 48, "num_heads": (2, 4)}
NARROW = {"layers": (1, 1, 1, 1), "channels": (16, 32, 48, 64)}

NETWORKS = {
    "picks": Network(Picks, image(24)),
    "resnet": Network(lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES), image()),
    "resnet_bottleneck": Network(
        lambda: resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, groups=4, width_per_group=16),
        image(),
    ),
    "timm_resnet": Network(of_timm("resnet26d", **NARROW), image()),
    "mobilenet_v2": Network(
        lambda: models.MobileNetV2(
            num_classes=CLASSES,
            inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2], [6, 64, 1, 2]],
        ),
        image(),
    ),
    "mobilenet_v3": Network(mobilenet_v3, image()),
    "timm_mobilenet_v3": Network(of_timm("mobilenetv3_small_050"), image()),
    "densenet": Network(
        lambda: densenet.DenseNet(16, (2, 2, 2), 32, num_classes=CLASSES),
        image(),
    ),
    "shufflenet": Network(lambda: models.ShuffleNetV2([2, 2, 2], [24, 48, 96, 160, 256], num_classes=CLASSES), image()),
    "efficientnet": Network(efficientnet_b, image()),
    "timm_efficientnet": Network(of_timm("test_efficientnet"), image()),
    "regnet": Network(regnet_y, image()),
    "convnext": Network(convnext_small, image()),
    "timm_convnext": Network(of_timm("convnext_atto", depths=(1, 1, 2, 1), dims=(24, 32, 48, 64)), image()),
    "googlenet": Network(googlenet, image()),
    "vgg": Network(vgg_small, image()),
    "squeezenet": Network(lambda: models.squeezenet1_1(weights=None, num_classes=CLASSES), image()),
    "vit": Network(of_timm("vit_tiny_patch16_224", **SMALL_VIT), image(), products=True),
    "torchvision_vit": Network(
        lambda: models.VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=CLASSES), image(), products=True
    ),
    "deit": Network(of_timm("deit_tiny_distilled_patch16_224", **SMALL_VIT), image(), products=True),
    "swin": Network(of_timm("swin_tiny_patch4_window7_224", img_size=56, **WINDOWS), image(56), products=True),
    "torchvision_swin": Network(
        lambda: models.SwinTransformer([4, 4], 48, [2, 2], [2, 4], [7, 7], num_classes=CLASSES),
        image(56),
        products=True,
    ),
    "mixer": Network(lambda: MlpMixer(img_size=64, num_blocks=2, embed_dim=96, num_classes=CLASSES), image()),
    "unet": Network(lambda: vision.UNet((16, 24, 48)), image()),
    "c2f": Network(Neck, image()),
    # Whose blocks iterate over chunks, which torch.fx cannot follow.
    "detector": Network(lambda: vision.Detector(widths=(16, 24, 32, 48)), image(), graph_module=False),
    "bert": Network(
        language.build(
            "BertForSequenceClassification", "BertConfig", ("input_ids", "attention_mask"), num_labels=5, **TEXT
        ),
        tokens_and_mask(),
        products=True,
        graph_module=False,
    ),
    "gpt2": Network(
        language.build("GPT2LMHeadModel", "GPT2Config", vocab_size=100, n_embd=64, n_layer=2, n_head=4, n_positions=32),
        tokens(),
        products=True,
        graph_module=False,
    ),
    "llama": Network(
        language.build("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=2, **TEXT),
        tokens(),
        products=True,
        graph_module=False,
    ),
}


def made(name, seed=0):
    """The network in eval mode with seeded numbers, and example inputs of a batch of two."""
    torch.manual_seed(seed)
    network = NETWORKS[name]
    module = network.make()
    awaken(module)
    settle(module, network.inputs(4))
    return module.eval(), network.inputs(2)


@torch.no_grad()
def awaken(module):
    """Weights by their fan-in, factors around 1, shifts around 0: nothing is all zeros, all ones or a millionth."""
    for name, parameter in module.named_parameters():
        last = name.rpartition(".")[2]
        if parameter.dim() > 1 and min(parameter.shape[1:]) > 0 and last.endswith("weight"):
            fan_in = parameter[0].numel()
            parameter.normal_(0, (2 / fan_in) ** 0.5 if parameter.dim() > 2 else fan_in**-0.5)
        elif last == "bias":
            parameter.uniform_(-0.3, 0.3)
        elif last in ("weight", "gamma", "layer_scale", "alpha", "ls1", "ls2"):
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(0, 0.5)


@torch.no_grad()
def settle(module, inputs):
    """Gives batch norms the statistics of a batch, then moves these by a tenth."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    if norms:
        module(*inputs)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.running_mean.add_(0.1 * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(0.9 + 0.2 * torch.rand_like(norm.running_var)).clamp_(min=1e-2)
        norm.num_batches_tracked.fill_(7)
