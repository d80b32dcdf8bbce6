"""`espalier.torch.apply_plan` alone, on plans written by hand: what it cuts, sets, refuses and undoes."""

import copy
import json

import pytest
import torch
from torch import nn

import espalier
import espalier.torch
import masking_torch
import networks
from espalier.decoding import decode
from espalier.torch import ForwardMismatch, PlanMismatch, apply_plan

SIZE = {"parameters": 0, "macs": 0, "size_bytes": 0}


def plan(*removed, replaced=(), adjusted=(), copied=()):
    """A reply that removes `(parameter, axis, indices)`; lists of lists are per group."""
    entries = []
    for parameter, axis, indices in removed:
        key = "indices_per_group" if indices and isinstance(indices[0], list) else "indices"
        entries.append({"parameter": parameter, "axis": axis, key: indices})
    return {
        "original": SIZE, "compressed": SIZE, "layers": [], "removed": entries, "skipped": [],
        "copied": list(copied), "replaced": list(replaced), "adjusted": list(adjusted),
        "verification": {"status": "skipped"},
    }  # fmt: skip


def removed_of(reply):
    return [espalier.RemovedSlices(**entry) for entry in reply["removed"]]


def convnet():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
    )
    networks.awaken(module)
    networks.settle(module, (torch.randn(8, 3, 8, 8),))
    return module, (torch.randn(2, 3, 8, 8),)


def norm_entries(path, indices):
    return [(f"{path}.{name}", 0, indices) for name in ("weight", "bias", "running_mean", "running_var")]


CONVNET = plan(
    ("0.weight", 0, [1, 6]), ("0.bias", 0, [1, 6]), *norm_entries("1", [1, 6]), ("3.weight", 1, [1, 6]),
    ("3.weight", 0, [0]), ("3.bias", 0, [0]), ("5.weight", 1, list(range(36))),
)  # fmt: skip


def snapshot(module):
    """All that apply_plan may touch: attributes, numbers, gradients, modes."""
    attributes = {}
    for path, member in module.named_modules():
        plain = {name: value for name, value in vars(member).items() if not name.startswith("_")}
        attributes[path] = {**plain, "_modules": dict(member._modules)}
    return attributes, {name: value.clone() for name, value in module.state_dict().items()}


def assert_unchanged(module, before):
    attributes, values = before
    now = snapshot(module)
    assert now[0] == attributes
    assert now[1].keys() == values.keys()
    assert all(torch.equal(now[1][name], value) for name, value in values.items())


def judged(module, reply, inputs, products=False):
    """The pruned copy, proved against the masked original."""
    pruned = apply_plan(copy.deepcopy(module), reply, example_inputs=inputs)
    verdict, unknown = masking_torch.judge(module, pruned, removed_of(reply), inputs, products, 1e-5)
    assert verdict.status != "wrong" and verdict.effect > 1e-3 and not unknown, f"{verdict}"
    return pruned


# MARK: what it does


@pytest.mark.parametrize("form", [dict, json.dumps, lambda reply: decode(espalier.Compression, reply)])
def test_a_convnet(form):
    module, inputs = convnet()
    judged(module, CONVNET, inputs)
    pruned = apply_plan(module, form(CONVNET))
    assert pruned is module
    assert repr(pruned[0]) == repr(nn.Conv2d(3, 6, 3, padding=1)) and repr(pruned[1]) == repr(nn.BatchNorm2d(6))
    assert repr(pruned[3]) == repr(nn.Conv2d(6, 5, 3)) and repr(pruned[5]) == repr(nn.Linear(180, 5))


def test_types_devices_modes_and_optimizers():
    module, _ = convnet()
    module = module.to(torch.bfloat16).to(memory_format=torch.channels_last)
    module[0].weight.requires_grad_(False)
    module[3].weight.grad = torch.ones_like(module[3].weight)
    module.train()
    module[1].eval()
    held = module[3].weight
    apply_plan(module, CONVNET)
    assert module[3].weight is held and held.grad is None and held.shape == (5, 6, 3, 3)
    assert not module[0].weight.requires_grad and module[0].bias.requires_grad
    assert all(value.dtype == torch.bfloat16 for value in module.parameters())
    assert held.is_contiguous(memory_format=torch.channels_last)
    assert module.training and module[0].training and not module[1].training
    assert module[1].num_batches_tracked.dtype == torch.int64


def test_modes_survive_example_inputs():
    module, inputs = convnet()
    module.train()
    module[1].eval()
    statistics = module[1].running_mean.clone()
    apply_plan(module, CONVNET, example_inputs=inputs)
    assert module.training and not module[1].training
    assert torch.equal(module[1].running_mean, statistics[[0, 2, 3, 4, 5, 7]])


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 16, 3, groups=8)
        self.grouped = nn.Conv2d(16, 12, 1, groups=2)
        self.norm = nn.GroupNorm(2, 12)
        self.up = nn.ConvTranspose2d(12, 8, 2, 2, groups=2)
        self.leave = nn.Conv2d(8, 2, 1)
        self.slope = nn.PReLU(12)

    def forward(self, x):
        x = self.grouped(self.depthwise(self.enter(x)))
        return self.leave(self.up(self.slope(self.norm(x))))


def test_groups():
    torch.manual_seed(0)
    module = Grouped()
    networks.awaken(module)
    first, last = [0, 5, 6, 11], [0, 3, 4, 7]
    reply = plan(
        ("enter.weight", 0, [1, 7]), ("enter.bias", 0, [1, 7]),
        ("depthwise.weight", 0, [2, 3, 14, 15]), ("depthwise.bias", 0, [2, 3, 14, 15]),
        ("grouped.weight", 1, [[2, 3], [6, 7]]), ("grouped.weight", 0, first), ("grouped.bias", 0, first),
        ("norm.weight", 0, first), ("norm.bias", 0, first), ("slope.weight", 0, first),
        ("up.weight", 0, first), ("up.weight", 1, [0, 3]), ("up.bias", 0, last), ("leave.weight", 1, last),
    )  # fmt: skip
    pruned = judged(module, reply, (torch.randn(2, 3, 8, 8),))
    described = {name: child.extra_repr().split(",")[:2] for name, child in pruned.named_children() if name != "slope"}
    assert described == {
        "enter": ["3", " 6"], "depthwise": ["6", " 12"], "grouped": ["12", " 8"], "norm": ["2", " 8"],
        "up": ["8", " 4"], "leave": ["4", " 2"],
    }  # fmt: skip
    assert pruned.depthwise.groups == 6 and pruned.grouped.groups == pruned.up.groups == 2


def test_whole_groups_go():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=4), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1))
    networks.awaken(module)
    gone = [2, 3, 6, 7]
    reply = plan(*[(f"{i}.{name}", 0, gone) for i in (0, 1, 2) for name in ("weight", "bias")], ("3.weight", 1, gone))
    pruned = judged(module, reply, (torch.randn(2, 3, 4, 4),))
    assert pruned[1].groups == pruned[2].num_groups == 2


class Tied(nn.Module):
    """An embedding that is the output layer too, a norm without parameters, and a buffer that is saved nowhere."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.head.weight = self.table.weight
        self.norm = nn.LayerNorm(12, elementwise_affine=False)
        self.register_buffer("position", torch.randn(12), persistent=False)
        self.hidden_size = 12

    def forward(self, ids):
        return self.head(self.norm(self.table(ids) + self.position))


@pytest.mark.parametrize("names", [["table.weight"], ["head.weight"], ["head.weight", "table.weight"]])
def test_tied_parameters_are_cut_once_and_stay_tied(names):
    torch.manual_seed(0)
    module, ids = Tied(), torch.arange(20)[None]
    reply = plan(*[(name, 1, [3, 4]) for name in names], ("position", 0, [3, 4]))
    pruned = judged(module, reply, (ids,))
    assert pruned.head.weight is pruned.table.weight and pruned.head.weight.shape == (20, 10)
    assert (pruned.head.in_features, pruned.table.embedding_dim, pruned.hidden_size) == (10, 10, 10)
    assert pruned.norm.normalized_shape == (10,)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind(5, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.layers(x)[0])


@pytest.mark.parametrize("kind, gates", [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(kind, gates):
    torch.manual_seed(0)
    module, gone = Recurrent(kind), [1, 6]
    rows, both = [8 * gate + i for gate in range(gates) for i in gone], [*gone, *[8 + i for i in gone]]
    entries = [("head.weight", 1, both)]
    for name, parameter in module.layers.named_parameters():
        entries.append((f"layers.{name}", 0, rows))
        if name.startswith("weight_hh") or name.startswith("weight_ih_l1"):
            entries.append((f"layers.{name}", 1, gone if "hh" in name else both))
    pruned = judged(module, plan(*entries), (torch.randn(2, 4, 5),))
    assert pruned.layers.hidden_size == 6 and pruned.layers.input_size == 5
    with pytest.raises(PlanMismatch, match="different widths"):
        apply_plan(module, plan(*[entry for entry in entries if "_l1" not in entry[0]]))


# MARK: attention


def head_rows(heads, width, gone_heads=(), gone_dims=(), parts=1):
    """Rows of a projection: `parts` times heads times dims."""
    return [
        part * heads * width + head * width + dim
        for part in range(parts)
        for head in range(heads)
        for dim in range(width)
        if head in gone_heads or dim in gone_dims
    ]


CUTS = [{"gone_heads": (1,)}, {"gone_dims": (0, 5)}, {"gone_heads": (0,), "gone_dims": (2, 3)}]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["vit", "deit"])
def test_attention_of_timm(name, cut):
    module, inputs = networks.made(name)
    heads, width = 3, 32
    rows, kept = head_rows(heads, width, parts=3, **cut), head_rows(heads, width, **cut)
    reply = plan(
        *[("blocks.0.attn.qkv." + part, 0, rows) for part in ("weight", "bias")], ("blocks.0.attn.proj.weight", 1, kept)
    )
    attention = judged(module, reply, inputs, products=True).blocks[0].attn
    assert attention.num_heads == heads - len(cut.get("gone_heads", ()))
    assert attention.head_dim == width - len(cut.get("gone_dims", ()))
    assert attention.attn_dim == attention.num_heads * attention.head_dim
    assert attention.fused_attn == ("gone_dims" not in cut)


@pytest.mark.parametrize("cut", CUTS)
def test_attention_of_bert(cut):
    module, inputs = networks.made("bert")
    rows = head_rows(4, 16, **cut)
    path = "model.bert.encoder.layer.0.attention."
    reply = plan(
        *[(f"{path}self.{name}.{part}", 0, rows) for name in ("query", "key", "value") for part in ("weight", "bias")],
        (path + "output.dense.weight", 1, rows),
    )
    attention = judged(module, reply, inputs, products=True).model.bert.encoder.layer[0].attention.self
    assert attention.all_head_size == attention.num_attention_heads * attention.attention_head_size == 64 - len(rows)


@pytest.mark.parametrize("cut", CUTS)
def test_attention_of_gpt2(cut):
    module, inputs = networks.made("gpt2")
    path, rows = "model.transformer.h.1.attn.", head_rows(4, 16, parts=3, **cut)
    reply = plan(
        (path + "c_attn.weight", 1, rows), (path + "c_attn.bias", 0, rows),
        (path + "c_proj.weight", 0, head_rows(4, 16, **cut)),
    )  # fmt: skip
    attention = judged(module, reply, inputs, products=True).model.transformer.h[1].attn
    assert attention.split_size == attention.num_heads * attention.head_dim == 64 - len(rows) // 3
    assert attention.c_attn.nf == 3 * attention.split_size and attention.c_proj.nx == attention.split_size


def test_attention_of_llama():
    """Two heads for keys and values; with one of them go the two of queries that read it."""
    module, inputs = networks.made("llama")
    path = "model.model.layers.0.self_attn."
    queries, keys = head_rows(4, 16, gone_heads=(2, 3)), head_rows(2, 16, gone_heads=(1,))
    reply = plan(
        (path + "q_proj.weight", 0, queries), (path + "k_proj.weight", 0, keys), (path + "v_proj.weight", 0, keys),
        (path + "o_proj.weight", 1, queries),
    )  # fmt: skip
    judged(module, reply, inputs, products=True)


class ImplicitScale(nn.Module):
    """Attention as it is written down most often: what it divides by is the width that it meets."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv, self.proj = 2, nn.Linear(8, 48), nn.Linear(16, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


def test_a_scale_of_the_new_width_is_found_out():
    torch.manual_seed(0)
    module, x = ImplicitScale(), torch.randn(2, 5, 8)
    cut = lambda **gone: plan(
        ("qkv.weight", 0, head_rows(2, 8, parts=3, **gone)), ("qkv.bias", 0, head_rows(2, 8, parts=3, **gone)),
        ("proj.weight", 1, head_rows(2, 8, **gone)),
    )  # fmt: skip
    judged(module, cut(gone_heads=(1,)), (x,), products=True)
    with pytest.raises(ForwardMismatch, match=r"scale=8\*\*-0.5"):
        apply_plan(module, cut(gone_dims=(1,)), example_inputs=x)
    assert module.qkv.out_features == 48


def test_heads_of_different_widths_are_refused():
    module, inputs = networks.made("vit")
    rows = [0, 1, 40]
    thrice = [96 * part + row for part in range(3) for row in rows]
    path = "blocks.0.attn."
    reply = plan(
        (path + "qkv.weight", 0, thrice), (path + "qkv.bias", 0, thrice), (path + "proj.weight", 1, rows)
    )  # fmt: skip
    before = snapshot(module)
    with pytest.raises(ForwardMismatch, match="exclude"):
        apply_plan(module, reply)
    assert_unchanged(module, before)


# MARK: what it refuses


@pytest.mark.parametrize(
    "reply, message",
    [
        (plan(("0.wait", 0, [1])), "'0.wait', which is no parameter.*'0.weight'"),
        (plan(("0.weight", 4, [1])), "axis 4"),
        (plan(("0.weight", -1, [1])), "axis -1"),
        (plan(("0.weight", 0, [8])), "index 8 .*which has 8"),
        (plan(("0.weight", 0, [-1])), "index -1"),
        (plan(("0.weight", 0, [1, 1])), "twice"),
        (plan(("0.weight", 0, list(range(8)))), "or all"),
        (plan(("0.weight", 0, [1]), ("0.weight", 0, [2])), "different indices"),
        (plan(("3.weight", 1, [[1], [2], [3], [4]])), "no 4 groups"),
        (plan(("3.weight", 1, [[1], [2, 3]])), "different widths"),
        (plan(("3.weight", 1, [[1], [2]]), ("3.weight", 1, [1])), "different indices"),
        (plan(copied=[{"parameter": "0.bias", "node": "n", "input": 1, "axis": 0, "indices": [1]}]), "copies"),
        (plan(replaced=[{"layer": "5", "parameter": "5.weight", "method": "FD_SVD", "ranks": [2], "by": [],
                         "relative_error": 0.5}]), "compressed="),
        (plan(("0.weight", 0, [1]), ("0.bias", 0, [1])), None),
        (plan(("3.weight", 0, [0]), ("3.bias", 0, [0])), None),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_changes_nothing(reply, message):
    module, inputs = convnet()
    before = snapshot(module)
    kind = PlanMismatch if message else ForwardMismatch
    with pytest.raises(kind, match=message):
        apply_plan(module, reply, example_inputs=inputs)
    assert_unchanged(module, before)
    apply_plan(module, CONVNET, example_inputs=inputs)
    with pytest.raises(PlanMismatch, match="pruned already"):
        apply_plan(module, CONVNET)


def test_no_plan_at_all():
    module, _ = convnet()
    with pytest.raises(espalier.ProtocolError):
        apply_plan(module, {"removed": []})
    with pytest.raises(ValueError):
        apply_plan(module, "no JSON")


class HardCoded(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.b(self.a(x).view(-1, 3, 4).flatten(1))


def test_a_forward_with_numbers_of_its_own_is_found_out():
    module = HardCoded()
    reply = plan(("a.weight", 0, [1]), ("a.bias", 0, [1]), ("b.weight", 1, [1]))
    before, gradient = snapshot(module), torch.ones(12, 4)
    module.a.weight.grad = gradient
    with pytest.raises(ForwardMismatch, match="exclude"):
        apply_plan(module, reply, example_inputs=torch.randn(2, 4))
    assert_unchanged(module, before)
    assert module.a.weight.grad is gradient


def test_outputs_must_keep_their_shapes():
    module = nn.Sequential(nn.Linear(4, 6))
    with pytest.raises(ForwardMismatch, match="returns"):
        apply_plan(module, plan(("0.weight", 0, [1]), ("0.bias", 0, [1])), example_inputs=torch.randn(2, 4))
    assert module[0].out_features == 6 and module[0].weight.shape == (6, 4)


@pytest.mark.parametrize(
    "make, cut",
    [
        (lambda: nn.MultiheadAttention(8, 2), ("in_proj_weight", 1, [0])),
        (lambda: nn.MultiheadAttention(8, 2), ("out_proj.weight", 1, [0])),
        (lambda: nn.LSTM(4, 8), ("weight_hh_l0", 1, [0])),
        (lambda: nn.LSTM(4, 8, proj_size=2), ("weight_ih_l0", 1, [0])),
        (lambda: nn.Embedding(9, 4), ("weight", 0, [0])),
        (lambda: torch.nn.utils.weight_norm(nn.Linear(4, 4)), ("weight_v", 0, [0])),
        (lambda: nn.LazyLinear(4), ("weight", 0, [0])),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_layers_that_cannot_be_cut(make, cut):
    module = nn.ModuleDict({"layer": make()})
    with pytest.raises(PlanMismatch):
        apply_plan(module, plan((f"layer.{cut[0]}", *cut[1:])))


def test_views_of_one_memory_are_refused():
    module = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(4, 6)})
    module["b"].weight = nn.Parameter(module["a"].weight.data)
    with pytest.raises(PlanMismatch, match="same memory"):
        apply_plan(module, plan(("a.weight", 0, [1]), ("a.bias", 0, [1])))


def test_tied_parameters_that_would_part_are_refused():
    module = Tied()
    with pytest.raises(PlanMismatch, match="tied"):
        apply_plan(module, plan(("table.weight", 1, [3]), ("head.weight", 1, [4])))


# MARK: decompositions


def decomposed(layer, names, factors, **members):
    by = [{"name": name, "op": "Conv", "parameter": f"{layer}.{name}.weight", "shape": list(factor.shape)}
          for name, factor in zip(names, factors)]  # fmt: skip
    entry = {"layer": layer, "parameter": f"{layer}.weight", "method": "FD", "ranks": [], "by": by, "relative_error": 0}
    return plan(replaced=[entry], **members), {f"{layer}.{n}.weight": f for n, f in zip(names, factors)}


def test_a_linear_layer_becomes_two():
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    u, s, v = torch.linalg.svd(module[0].weight.detach(), full_matrices=False)
    reply, state = decomposed("0", ("in", "out"), (v, u * s))
    x = torch.randn(3, 6)
    expected, bias = module(x), module[0].bias
    apply_plan(module, reply, example_inputs=x, compressed=state)
    assert torch.allclose(module(x), expected, atol=1e-5)
    assert [*module.state_dict()] == ["0.in.weight", "0.out.weight", "0.out.bias"] and module[0].out.bias is bias
    assert module[0].get_submodule("in").bias is None


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
def test_a_convolution_becomes_three(kind):
    """At full rank, with identities around it, the core is the layer."""
    torch.manual_seed(0)
    rank = int(kind.__name__[-2])
    extra = {"output_padding": 1} if "Transpose" in kind.__name__ else {}
    layer = kind(4, 6, 3, stride=2, padding=1, dilation=1 if extra else 2, **extra)
    module = nn.Sequential(layer)
    one = lambda n: torch.eye(n).reshape(n, n, *[1] * rank)
    reply, state = decomposed("0", ("in", "core", "out"), (one(4), layer.weight.detach(), one(6)))
    x = torch.randn(2, 4, *[9] * rank)
    expected = module(x)
    apply_plan(module, reply, example_inputs=x, compressed=state)
    assert torch.allclose(module(x), expected, atol=1e-5)


def test_a_convolution_becomes_separable():
    torch.manual_seed(0)
    inside, first, second, outside = (
        torch.randn(2, 4, 1, 1),
        torch.randn(2, 1, 3, 1),
        torch.randn(2, 1, 1, 3),
        torch.randn(6, 2, 1, 1),
    )
    layer = nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0))
    with torch.no_grad():
        layer.weight.copy_(
            torch.einsum(
                "ri,rh,rw,or->oihw", inside[:, :, 0, 0], first[:, 0, :, 0], second[:, 0, 0], outside[:, :, 0, 0]
            )
        )
    module = nn.Sequential(layer)
    reply, state = decomposed("0", ("in", "axis0", "axis1", "out"), (inside, first, second, outside))
    x = torch.randn(2, 4, 7, 7)
    expected = module(x)
    apply_plan(module, reply, example_inputs=x, compressed=state)
    assert torch.allclose(module(x), expected, atol=1e-4)
    assert module[0].axis0.groups == 2 and module[0].axis0.stride == (2, 1) and module[0].axis1.padding == (0, 0)


def test_an_adjusted_bias_is_the_last_layers():
    module = nn.Sequential(nn.Linear(6, 5, bias=False))
    adjusted = [{"layer": "0", "parameter": "0.out.bias", "reason": "r"}]
    weight = module[0].weight.detach()
    reply, state = decomposed("0", ("in", "out"), (weight, torch.eye(5)), adjusted=adjusted)
    state["0.out.bias"] = torch.ones(5)
    x = torch.randn(3, 6)
    expected = module(x) + 1
    apply_plan(module, reply, compressed=state)
    assert torch.allclose(module(x), expected, atol=1e-5) and module[0].out.bias.requires_grad


@pytest.mark.parametrize(
    "make, name", [(lambda: nn.MultiheadAttention(8, 2), "out_proj"), (lambda: nn.Identity(), "x")]
)
def test_what_cannot_be_replaced(make, name):
    module = nn.ModuleDict({"layer": make()})
    reply, state = decomposed(f"layer.{name}", ("in", "out"), (torch.eye(8), torch.eye(8)))
    before = snapshot(module)
    with pytest.raises(PlanMismatch):
        apply_plan(module, reply, compressed=state)
    assert_unchanged(module, before)
