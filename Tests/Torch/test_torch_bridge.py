"""`espalier.torch.compress`: what people who hold a module get back."""

import copy

import pytest
import torch
from torch import nn

import espalier
import espalier.torch
import masking_torch
import networks


def judged(original, result, inputs, products=False):
    module = result.module if result.form == "exported" else result.module.eval()
    verdict, _ = masking_torch.judge(original, module, result.report.removed, inputs, products, 1e-5)
    assert verdict.status != "wrong" and verdict.effect > 1e-3, f"{verdict}"


EXPORTED = ["resnet", "mobilenet_v3", "timm_efficientnet", "googlenet", "convnext", "unet", "vit", "bert", "gpt2"]
TRACED = ["resnet_bottleneck", "densenet", "shufflenet", "regnet", "deit", "swin", "mixer"]
OWN = [*((name, "torch.export") for name in EXPORTED), *((name, "torch.fx") for name in TRACED)]


@pytest.mark.parametrize("name, exporter", OWN)
def test_a_module_keeps_its_class_and_trains(client, name, exporter):
    original, inputs = networks.made(name)
    original.train()
    frozen = next(iter(original.parameters()))
    frozen.requires_grad_(False)
    before = {key: value.clone() for key, value in original.state_dict().items()}
    given = inputs if len(inputs) > 1 else inputs[0]
    result = espalier.torch.compress(original, given, recommendation_ratio=0.4, exporter=exporter, client=client)
    assert result.form == "own" and type(result.module) is type(original), result.reason
    assert result.exporter == exporter and result.export_error is None
    assert original.training and result.module.training
    assert all(torch.equal(value, before[key]) for key, value in original.state_dict().items())
    assert result.module.state_dict().keys() == before.keys()
    assert not next(iter(result.module.parameters())).requires_grad
    assert sum(value.numel() for value in result.module.parameters()) < 0.9 * sum(
        v.numel() for v in original.parameters()
    )
    original.eval()
    judged(original, result, inputs, networks.NETWORKS[name].products)

    result.module.train()
    optimizer = torch.optim.SGD([v for v in result.module.parameters() if v.requires_grad], 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        sum(value.square().mean() for value in masking_torch.outputs(result.module(*inputs))).backward()
        optimizer.step()
    assert all(value.isfinite().all() for value in result.module.parameters())


@pytest.mark.parametrize("exporter, form", [("torch.export", "exported"), ("torch.fx", "graph")])
def test_halves_that_lose_differently(client, exporter, form):
    """Halves of different widths come out of one `chunk`, which makes equal ones."""
    original, inputs = networks.made("c2f")
    result = espalier.torch.compress(original, inputs, recommendation_ratio=0.5, exporter=exporter, client=client)
    assert result.form in (form, "own") and (result.form == "own" or result.reason)
    assert {*result.module.state_dict()} == {*original.state_dict()}
    judged(original, result, inputs)


class Hard(nn.Module):
    """Sizes that only its forward knows."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3), nn.Linear(24 * 16, 5)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).view(-1, 24 * 16))


@pytest.mark.parametrize("exporter, form", [("torch.export", "exported"), ("torch.fx", "graph")])
def test_numbers_in_the_forward(client, exporter, form):
    torch.manual_seed(0)
    original, inputs = Hard(), torch.randn(2, 3, 8, 8)
    result = espalier.torch.compress(original, inputs, recommendation_ratio=0.5, exporter=exporter, client=client)
    assert result.form == form and "shape" in result.reason
    assert all(value.requires_grad for value in result.module.parameters())
    original.eval()
    verdict, _ = masking_torch.judge(original, result.module, result.report.removed, (inputs,), False, 1e-5)
    assert verdict.status == "exact"
    assert original.a.out_channels == 16


def test_in_place(client):
    original, inputs = networks.made("resnet")
    before = copy.deepcopy(original)
    result = espalier.torch.compress(original, inputs, recommendation_ratio=0.5, inplace=True, client=client)
    assert result.module is original
    sizes = [sum(value.numel() for value in module.parameters()) for module in (original, before)]
    assert sizes[0] < sizes[1]
    judged(before, result, inputs)


class Branching(nn.Module):
    """Which way it goes depends on the numbers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 3)

    def forward(self, x):
        return self.b(self.a(x)) if float(x.sum()) > 0 else self.b(-self.a(x))


def test_what_has_no_graph_is_said(client):
    module = Branching().train()
    with pytest.raises(espalier.torch.ExportFailed, match="torch.export: .*torch.fx: "):
        espalier.torch.compress(module, torch.randn(1, 3, 8, 8), recommendation_ratio=0.5, client=client)
    assert module.training


def test_fx_where_export_fails(client, monkeypatch):
    original, inputs = networks.made("mobilenet_v2")

    def fail(*arguments, **keywords):
        raise RuntimeError("not today")

    monkeypatch.setattr(torch.export, "export", fail)
    result = espalier.torch.compress(original, inputs, recommendation_ratio=0.5, client=client)
    assert result.exporter == "torch.fx" and "not today" in result.export_error and result.form == "own"
    judged(original, result, inputs)


def test_dynamic_batch(client):
    original, inputs = networks.made("resnet")
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    result = espalier.torch.compress(original, inputs, recommendation_ratio=0.5, dynamic_shapes=shapes, client=client)
    assert result.form == "own" and result.module(torch.randn(5, 3, 64, 64)).shape == (5, networks.CLASSES)


@pytest.mark.parametrize("exporter", ["torch.export", "torch.fx"])
@pytest.mark.parametrize("method, target", [("FD_TK", {"energy": 0.8}), ("FD_SVD", {"energy": 0.9})])
def test_decompositions(client, exporter, method, target):
    original, inputs = networks.made("vgg")
    result = espalier.torch.compress(
        original, inputs, compression_method=method, target=target, exporter=exporter, client=client
    )
    assert result.form == "own" and result.report.replaced, result.reason
    path = result.report.replaced[0].parameter.rpartition(".")[0]
    assert isinstance(result.module.get_submodule(path), nn.Sequential)
    assert type(result.module) is type(original)


def test_decompositions_with_data_say_where_their_biases_are(client):
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 16))
    result = espalier.torch.compress(
        original, torch.rand(2, 32), compression_method="FD_SVD", target={"energy": 0.8}, dataset=torch.rand(64, 32),
        options={"step_size": 1, "min_num_of_value": 1}, client=client,
    )  # fmt: skip
    assert result.form == "own", result.reason
    adjusted = {entry.parameter for entry in result.report.adjusted}
    assert adjusted and adjusted <= {*result.module.state_dict()}


def test_a_dataset_of_tensors(client):
    original, inputs = networks.made("resnet")
    result = espalier.torch.compress(
        original, inputs, compression_method="PR_NN", recommendation_ratio=0.3, dataset=torch.randn(4, 3, 64, 64),
        client=client,
    )  # fmt: skip
    judged(original, result, inputs)


def test_weights_and_statistics_fitted_anew(client):
    original, inputs = networks.made("mobilenet_v3")
    images = torch.randn(32, *inputs[0].shape[1:])
    result = espalier.torch.compress(
        original, inputs, recommendation_ratio=0.3, dataset=images, reconstruct="least_squares", client=client
    )
    assert result.form == "own", result.reason
    endings = {entry.parameter.rpartition(".")[2] for entry in result.report.adjusted}
    assert {"weight", "running_mean"} <= endings, "parameters and buffers"


def test_the_daemons_errors_are_the_callers(client):
    original, inputs = networks.made("resnet")
    with pytest.raises(espalier.ServerError) as caught:
        espalier.torch.compress(original, inputs, recommendation_ratio=0.5, compression_method="FD_SVD",
                                recommendation_method="SLAMP", client=client)  # fmt: skip
    assert caught.value.kind == "option.invalidCombination"
    with pytest.raises(ValueError):
        espalier.torch.compress(original, inputs, recommendation_ratio=0.5, exporter="onnx", client=client)
