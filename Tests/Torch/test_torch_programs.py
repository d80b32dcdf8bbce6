"""The ways in which programs say what they compute: each network is one of them, pruned and held against its masked
original in PyTorch, and against the same model as ONNX."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import espalier
import files
import masking_torch
import networks

TOLERANCE = 1e-5


def unit(inputs, outputs, kernel=3, stride=1):
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Head(nn.Sequential):
    def __init__(self, channels):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


class Slices(nn.Module):
    """Both ends of each range are open in one place."""

    def __init__(self):
        super().__init__()
        self.enter, self.first, self.second = unit(3, 48), unit(16, 32), unit(32, 32)
        self.head = Head(32)

    def forward(self, x):
        x = self.enter(x)
        return self.head(self.first(x[:, :16]) + self.second(x[:, 16:]))


class Narrow(Slices):
    def forward(self, x):
        x = self.enter(x)
        return self.head(self.first(x.narrow(1, 0, 16)) + self.second(x.narrow(1, 16, 32)))


class ShiftedChannels(nn.Module):
    """Ranges of channels at computed places, padded and joined."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 32), Head(32)

    def forward(self, x):
        x = self.enter(x)
        fold = x.shape[1] // 8
        left, right = F.pad(x[:, :fold, :, 1:], (0, 1)), F.pad(x[:, fold : 2 * fold, :, :-1], (1, 0))
        return self.head(self.leave(torch.cat([left, right, x[:, 2 * fold :]], 1)))


class Padded(nn.Module):
    """A shortcut without parameters: the missing channels are zeros."""

    def __init__(self):
        super().__init__()
        self.enter, self.down, self.head = unit(3, 16), unit(16, 32, 3, 2), Head(32)

    def forward(self, x):
        a = self.enter(x)
        return self.head(self.down(a) + F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8)))


class ComputedPadding(Padded):
    def forward(self, x):
        a = self.enter(x)
        b = self.down(a)
        missing = b.shape[1] - a.shape[1]
        return self.head(b + F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, missing // 2, missing - missing // 2)))


class ComputedGroups(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 32), Head(32)
        self.kernel = nn.Parameter(torch.randn(32, 1, 3, 3))

    def forward(self, x):
        x = self.enter(x)
        return self.head(self.leave(F.conv2d(x, self.kernel, padding=1, groups=x.shape[1])))


class StandardisedWeight(nn.Module):
    """The weight's deviation counts its elements."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), nn.Conv2d(32, 48, 3), Head(48)
        self.gain = nn.Parameter(torch.ones(48, 1, 1, 1))

    def forward(self, x):
        weight = self.leave.weight
        axes = (1, 2, 3)
        weight = (weight - weight.mean(axes, keepdim=True)) / (weight.std(axes, keepdim=True) + 1e-5) * self.gain
        return self.head(F.conv2d(self.enter(x), weight, self.leave.bias))


class BatchStandardisedWeight(StandardisedWeight):
    """As timm does it: a weight's filters are the channels of a batch norm without statistics."""

    def forward(self, x):
        weight = self.leave.weight
        flat = F.batch_norm(weight.reshape(1, 48, -1), None, None, self.gain.flatten(), training=True, eps=1e-5)
        return self.head(F.conv2d(self.enter(x), flat.reshape_as(weight), self.leave.bias))


class NormedWeight(StandardisedWeight):
    """Directions and lengths, of which `weight_norm` makes a weight."""

    def forward(self, x):
        weight = torch._weight_norm(self.leave.weight, self.gain, 0)
        return self.head(F.conv2d(self.enter(x), weight, self.leave.bias))


class Deviation(nn.Module):
    """An unbiased variance across channels, which are fewer afterwards."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 24), Head(24)

    def forward(self, x):
        x = self.enter(x)
        return self.head(self.leave(x / (x.var(1, keepdim=True) + 1)))


class Asserted(nn.Module):
    """What it asserts of its channels in groups holds of the old number alone."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 64), unit(64, 32), Head(32)

    def forward(self, x):
        x = self.enter(x)
        b, c, h, w = x.shape
        torch._assert(c % 16 == 0, "groups of channels")
        groups = x.reshape(b, 16, c // 16, h, w)
        return self.head(self.leave((groups / (groups.square().mean((2, 3, 4), keepdim=True) + 1)).reshape(b, c, h, w)))


class ElementCount(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 32), Head(32)

    def forward(self, x):
        x = self.enter(x)
        return self.head(self.leave(x / x.numel() * 8192))


class PickedByTable(nn.Module):
    """Channels in an order that the program computes: these stay."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave, self.head = unit(3, 16), unit(16, 32), unit(32, 32), Head(32)

    def forward(self, x):
        x = self.enter(x)[:, torch.arange(15, -1, -1)]
        return self.head(self.leave(self.middle(x)))


class EverySecond(nn.Module):
    """Every second channel: these stay."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave, self.head = unit(3, 16), unit(8, 32), unit(32, 32), Head(32)

    def forward(self, x):
        return self.head(self.leave(self.middle(self.enter(x)[:, ::2])))


class Parts(nn.Module):
    """Lists of parts turned around, and values of pairs by name."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 32), Head(32)

    def forward(self, x):
        x = self.enter(x)
        x = torch.cat(x.chunk(2, 1)[::-1], 1)
        return self.head(self.leave(x - x.max(dim=3, keepdim=True).values))


class Tokens(nn.Module):
    """The input is what an embedding looks up: integers, which a GraphModule does not say."""

    def __init__(self):
        super().__init__()
        self.table, self.enter, self.leave = nn.Embedding(50, 32), nn.Linear(32, 48), nn.Linear(48, 5)

    def forward(self, x):
        return self.leave(F.relu(self.enter(self.table(x))).mean(1))


class Places(nn.Module):
    """Places counted among the tokens that are none, in integers of 32 bits: their sums have 64."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(50, 32), nn.Embedding(12, 32)
        self.enter, self.leave = nn.Linear(32, 48), nn.Linear(48, 5)

    def forward(self, x):
        mask = x.ne(1).int()
        places = ((torch.cumsum(mask, 1).type_as(mask) + 0) * mask).long() + 1
        x = F.relu(self.enter(self.table(x) + self.places(places))).sum(1)
        return self.leave(x / mask.sum(1, keepdim=True))


class Extremes(nn.Module):
    """Exported, the pooling returns positions besides, which nobody reads; the product is written as a sum of indices."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.head = unit(3, 32), unit(32, 32), Head(32)

    def forward(self, x):
        x = F.adaptive_max_pool2d(self.enter(x), 8)
        x = torch.max(x, x.flip(2))
        return self.head(self.leave(torch.einsum("bchw,bc->bchw", x, x.mean((2, 3)))))


class Numbers(nn.Module):
    """Activations whose small results count."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave, self.head = unit(3, 32), nn.Conv2d(32, 32, 1), unit(32, 32), Head(32)

    def forward(self, x):
        x = self.middle(self.enter(x)) * 4
        small = F.logsigmoid(x) + F.softplus(x, beta=2, threshold=3) + F.softshrink(x) + F.hardshrink(x)
        return self.head(self.leave(small + x % 1.5 + torch.fmod(x, 2.5) + torch.clamp(x, x.abs() * 0.1, x.abs() * 0.5)))


class Unfolded(nn.Module):
    """Windows beside one another, as functions and as modules, and put together again."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave, self.head = unit(3, 32), unit(32, 24), unit(24, 32), Head(32)
        self.unfold, self.fold = nn.Unfold(2, stride=2), nn.Fold(32, 2, stride=2)

    def forward(self, x):
        x = F.fold(F.unfold(self.enter(x), (3, 2), 2, 1, (3, 2)), 32, (3, 2), 2, 1, (3, 2))
        x = self.fold(torch.tanh(self.unfold(self.middle(x))))
        return self.head(self.leave(x.unfold(2, 5, 3).unfold(-2, 4, 4).amax((4, 5))))


class Ranked(nn.Module):
    """The largest and the smallest of each channel."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle, self.leave = unit(3, 32), nn.Linear(32, 24), nn.Linear(24, 5)

    def forward(self, x):
        x = self.enter(x).flatten(2)
        values, _ = torch.topk(x, 7)
        least = x.sort(dim=2, descending=True)[0][:, :, -20:].sum(2)
        return self.leave(F.relu(self.middle(values.mean(2) + least)))


class Classes(nn.Module):
    """Integers become rows of zeros and a one."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(50, 48), nn.Linear(48, 5)

    def forward(self, x):
        return self.leave(torch.tanh(self.enter(F.one_hot(x, 50).float())).mean(1))


IMAGE = networks.image(32)
PROGRAMS = {
    "slices": (Slices, IMAGE),
    "narrow": (Narrow, IMAGE),
    "shifted_channels": (ShiftedChannels, IMAGE),
    "padded": (Padded, IMAGE),
    "computed_padding": (ComputedPadding, IMAGE),
    "computed_groups": (ComputedGroups, IMAGE),
    "standardised_weight": (StandardisedWeight, IMAGE),
    "batch_standardised_weight": (BatchStandardisedWeight, IMAGE),
    "normed_weight": (NormedWeight, IMAGE),
    "deviation": (Deviation, IMAGE),
    "asserted": (Asserted, IMAGE),
    "element_count": (ElementCount, IMAGE),
    "picked_by_table": (PickedByTable, IMAGE),
    "every_second": (EverySecond, IMAGE),
    "parts": (Parts, IMAGE),
    "tokens": (Tokens, lambda batch: (torch.randint(0, 50, (batch, 9)),)),
    "places": (Places, lambda batch: (torch.randint(0, 50, (batch, 9)),)),
    "extremes": (Extremes, IMAGE),
    "numbers": (Numbers, IMAGE),
    "unfolded": (Unfolded, IMAGE),
    "ranked": (Ranked, IMAGE),
    "classes": (Classes, lambda batch: (torch.randint(0, 50, (batch, 9)),)),
}
# A zero in a weight that is shifted before it is applied is no zero any more: what it reads has to be.
COMPUTED_WEIGHTS = {"standardised_weight", "batch_standardised_weight"}


@pytest.mark.parametrize("form", ["graph_module", "exported"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_pruned(client, tmp_path, name, form):
    runtime, numpy = pytest.importorskip("onnxruntime"), pytest.importorskip("numpy")
    make, example = PROGRAMS[name]
    torch.manual_seed(0)
    original, inputs = make(), example(2)
    networks.awaken(original)
    networks.settle(original, example(4))
    original.eval()
    suffix = files.SUFFIX[form]
    source = files.write(original, inputs, tmp_path / f"original{suffix}", form)
    output, onnx = tmp_path / f"half{suffix}", tmp_path / "half.onnx"
    reply = client.compress(
        source,
        output,
        recommendation_ratio=0.5,
        verify=True,
        onnx_output_path=onnx,
        input_shapes=files.input_shapes(inputs, form),
    )
    assert reply.compressed.parameters < 0.9 * reply.original.parameters
    compressed = files.read(output)
    verdict, _ = masking_torch.judge(original, compressed, reply.removed, inputs, name in COMPUTED_WEIGHTS, TOLERANCE)
    assert verdict.status != "wrong" and verdict.effect > 1e-3, f"{verdict}"

    session = runtime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    feeds = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), inputs)}
    found = [torch.from_numpy(numpy.ascontiguousarray(value)) for value in session.run(None, feeds)]
    with torch.no_grad():
        assert masking_torch.distance(masking_torch.outputs(compressed(*inputs)), found) <= 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["hook", "parametrization"]
)
def test_weight_norm_is_pruned_in_an_exported_program(client, tmp_path, norm):
    def made():
        torch.manual_seed(0)
        layers = [nn.Conv1d(8, 24, 3), nn.ReLU(), nn.Conv1d(24, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 6)]
        return nn.Sequential(*(norm(layer) if hasattr(layer, "weight") else layer for layer in layers)).eval()

    original, whole, inputs = made(), made(), (torch.randn(2, 8, 12),)
    source = files.write(original, inputs, tmp_path / "original.pt2", "exported")
    output = tmp_path / "half.pt2"
    reply = client.compress(source, output, recommendation_ratio=0.5, verify=True)
    assert reply.compressed.parameters < 0.6 * reply.original.parameters
    compressed = files.read(output)
    assert {*compressed.state_dict()} == {*original.state_dict()}
    tensors = dict(whole.named_parameters())
    with torch.no_grad():
        for entry in reply.removed:
            if entry.axis == 1:
                masking_torch.zero(tensors[entry.parameter], entry)
    verdict = masking_torch.compared(original, whole, compressed, inputs, TOLERANCE)
    assert verdict.status != "wrong" and verdict.effect > 1e-3, f"{verdict}"


@pytest.mark.parametrize("is_norm_first", [False, True], ids=["norms_behind", "norms_before"])
def test_encoders_of_a_graph_module_are_pruned_between_their_linear_layers(client, tmp_path, is_norm_first):
    torch.manual_seed(0)
    activation, norm = ("gelu", nn.LayerNorm(32)) if is_norm_first else (F.relu, None)
    layer = nn.TransformerEncoderLayer(32, 4, 96, activation=activation, batch_first=True, norm_first=is_norm_first)
    encoder = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
    original, inputs = nn.Sequential(nn.Linear(20, 32), encoder, nn.Linear(32, 5)), (torch.randn(2, 7, 20),)
    networks.awaken(original)
    original.eval()
    source = files.write(original, inputs, tmp_path / "original.pt", "graph_module")
    shapes, output = files.input_shapes(inputs, "graph_module"), tmp_path / "half.pt"
    layers = client.inspect(source, input_shapes=shapes).layers
    # Outside of training the encoder reads the weights of its parts by itself.
    assert not [layer.name for layer in layers if layer.decomposition and ".layers." in layer.name]
    reply = client.compress(source, output, recommendation_ratio=0.5, verify=True, input_shapes=shapes)
    assert {"1.layers.0.linear1.weight", "1.layers.1.linear2.weight"} <= {entry.parameter for entry in reply.removed}
    compressed = files.read(output)
    usual = torch.backends.mha.get_fastpath_enabled()
    try:
        for is_fast in (True, False):
            torch.backends.mha.set_fastpath_enabled(is_fast)
            verdict, _ = masking_torch.judge(original, compressed, reply.removed, inputs, False, TOLERANCE)
            assert verdict.status == "exact" and verdict.effect > 1e-3, f"{verdict}"
    finally:
        torch.backends.mha.set_fastpath_enabled(usual)


class Products(nn.Module):
    """Weights that no module has, each applied in another way."""

    def __init__(self):
        super().__init__()
        weight = lambda *shape: nn.Parameter(torch.randn(*shape) / 6)
        self.plain, self.turned, self.copied, self.added = weight(24, 40), weight(32, 40), weight(36, 32), weight(36, 28)
        self.shift, self.flat, self.scaled = weight(28), weight(30, 28, 1), weight(26, 30)
        self.first, self.twice = weight(10, 22), weight(22, 26)

    def forward(self, x):
        x = F.relu(x @ self.plain) @ self.turned.transpose(0, 1)
        x = F.linear(F.relu(x), self.copied.t().t().contiguous())
        x = torch.addmm(self.shift, F.relu(x).flatten(0, 1), self.added)
        x = F.linear(F.linear(F.relu(x), self.flat.squeeze(-1)), self.scaled * 0.5)
        turned = self.twice.t()
        return (self.first @ (x @ turned + F.relu(x) @ turned).t()).t()


@pytest.mark.parametrize("form", files.SUFFIX)
def test_layers_without_modules_are_decomposed_or_say_why_not(client, tmp_path, form):
    torch.manual_seed(0)
    original, inputs = Products().eval(), (torch.randn(3, 5, 24),)
    source = files.write(original, inputs, tmp_path / f"whole{files.SUFFIX[form]}", form)
    shapes, output = files.input_shapes(inputs, form), tmp_path / f"out{files.SUFFIX[form]}"
    chosen = {
        layer.parameter: espalier.LayerSetting(layer.name, list(limits.full_rank))
        for layer in client.inspect(source, input_shapes=shapes).layers
        for limits in layer.decomposition
        if limits.method == "FD_SVD"
    }
    assert {*chosen} == {"plain", "turned", "copied", "added"}
    reply = client.compress(
        source, output, compression_method="FD_SVD", layers=[*chosen.values()], input_shapes=shapes, verify=True
    )
    compressed = files.read(output)
    assert {entry.parameter for entry in reply.replaced} == {*chosen}
    assert {*chosen}.isdisjoint(compressed.state_dict())
    with torch.no_grad():
        assert masking_torch.distance([original(*inputs)], [compressed(*inputs)]) <= 1e-4
    reply = client.compress(
        source, output, compression_method="FD_SVD", target={"energy": 0.6}, input_shapes=shapes, verify=True,
        overwrite=True, options={"step_size": 1, "min_num_of_value": 1},
    )  # fmt: skip
    assert reply.replaced and reply.verification.twin.status == "exact"
    assert len([entry for entry in reply.skipped if "fixed:" in entry.reason or "computed_weight:" in entry.reason]) == 5
    again = tmp_path / f"again{files.SUFFIX[form]}"
    client.compress(output, again, target={"macs": 0.8}, input_shapes=shapes, verify=True)


def test_choices_by_data_say_what_to_do(client, tmp_path):
    class Choice(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            x = self.enter(x)
            return self.leave(torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,)))

    source = files.write(Choice().eval(), (torch.randn(2, 8),), tmp_path / "choice.pt2", "exported")
    with pytest.raises(espalier.EspalierError, match="torch.where"):
        client.inspect(source)
