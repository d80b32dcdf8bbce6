"""The proof of networks with norms on trial: right prunings are approximate or exact, and planted faults are wrong.

Each test prunes with numpy alone (no daemon), right or with one fault, and asks dead.py and twin.py.
"""

import copy

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import dead
import masking
import reference
import twin

WIDTH, HEADS, TOKENS = 8, 2, 5


class Graph:
    """Nodes and seeded float32 tensors, in the order they are asked for."""

    def __init__(self):
        self.rng = np.random.default_rng(3)
        self.nodes, self.stored = [], {}

    def store(self, name, array):
        self.stored[name] = np.asarray(array)
        return name

    def weight(self, name, *shape):
        return self.store(name, self.rng.normal(0, 0.5, shape).astype(np.float32))

    def node(self, op, *inputs, domain="", **attributes):
        output = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], output, domain=domain, **attributes))
        return output

    def model(self, output, length):
        info = helper.make_tensor_value_info
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                "graph",
                [info("x", TensorProto.FLOAT, [1, TOKENS, 3])],
                [info(output, TensorProto.FLOAT, [1, TOKENS, length])],
                [numpy_helper.from_array(array, name) for name, array in self.stored.items()],
            ),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        )


def block(norm="LayerNormalization"):
    """An embedding, attention with heads around a residual stream with a norm, and a head."""
    g = Graph()
    stream = g.node("MatMul", "x", g.weight("embed", 3, WIDTH))
    scale = g.store("scale", g.rng.uniform(0.5, 1.5, WIDTH).astype(np.float32))
    if norm == "LayerNormalization":
        normed = g.node(norm, stream, scale, g.weight("shift", WIDTH), axis=-1)
    elif norm == "RMS":
        two, tiny = g.store("two", np.float32(2)), g.store("tiny", np.float32(1e-5))
        mean = g.node("ReduceMean", g.node("Pow", stream, two), axes=[-1], keepdims=1)
        normed = g.node("Mul", g.node("Div", stream, g.node("Sqrt", g.node("Add", mean, tiny))), scale)
    else:
        normed = stream

    def heads(name, order):
        shape = g.store(f"{name}_shape", np.array([0, 0, HEADS, -1]))
        split = g.node("Reshape", g.node("MatMul", normed, g.weight(name, WIDTH, WIDTH)), shape)
        return g.node("Transpose", split, perm=order)

    scores = g.node("MatMul", heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1]))
    mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), heads("v", [0, 2, 1, 3]))
    flat = g.store("flat", np.array([0, 0, -1]))
    joined = g.node("Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
    stream = g.node("Add", stream, g.node("MatMul", joined, g.weight("out", WIDTH, WIDTH)))
    return g.model(g.node("MatMul", stream, g.weight("head", WIDTH, 4)), 4)


# Channels 2 and 5 of the stream, one query and key per head, and one value per head.
STREAM, KEYS, VALUES = [2, 5], [1, 6], [0, 7]


def slices(model, fault=None):
    wrong = lambda name, right: [1, 5] if fault == name and right == STREAM else right
    found = [("embed", 1, STREAM), ("scale", 0, wrong("scale", STREAM)), ("head", 0, wrong("head", STREAM))]
    found += [(name, 0, wrong(name, STREAM)) for name in ("q", "k", "v")] + [("out", 1, wrong("residual", STREAM))]
    found += [("q", 1, KEYS), ("k", 1, [2, 6] if fault == "keys" else KEYS), ("v", 1, VALUES)]
    found += [("out", 0, [0, 6] if fault == "values" else VALUES), ("shift", 0, wrong("shift", STREAM))]
    stored = masking.constants(model.graph)
    return [{"parameter": n, "axis": axis, "indices": cut} for n, axis, cut in found if n in stored]


def pruned(model, removed):
    small = copy.deepcopy(model)
    for tensor in small.graph.initializer:
        entries = [e for e in removed if e["parameter"] == tensor.name]
        if entries:
            array = np.ascontiguousarray(reference.sliced(numpy_helper.to_array(tensor), entries))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return small


def verdict(model, removed, taken=None):
    """`taken`: what is taken out of the file, where that is not what is said."""
    inputs = {"x": np.random.default_rng(1).normal(size=(1, TOKENS, 3)).astype(np.float32)}
    return twin.compare(model, pruned(model, taken or removed), removed, inputs, 1e-5)


@pytest.mark.parametrize("norm", ["LayerNormalization", "RMS", None])
def test_right_prunings_pass(norm):
    model = block(norm)
    found = verdict(model, slices(model))
    assert found.status == ("approximate" if norm else "exact")
    assert found.difference < 1e-6 and found.effect > 1e-2
    assert set(found.mixing.values()) == {None: set(), "RMS": {"ReduceMean"}}.get(norm, {norm})
    assert (found.distance > 1e-3) == (norm is not None)


FAULTS = ["head", "q", "k", "v", "keys", "values", "residual"]
PLANTED = [(None, fault) for fault in FAULTS]
PLANTED += [("RMS", fault) for fault in [*FAULTS, "scale"]]
PLANTED += [("LayerNormalization", fault) for fault in [*FAULTS, "scale", "shift"]]


@pytest.mark.parametrize("norm, fault", PLANTED)
def test_faults_are_found(norm, fault):
    model = block(norm)
    right, wrong = slices(model), slices(model, fault)
    assert verdict(model, right, wrong).status == "wrong"
    assert verdict(model, wrong).status == "wrong"


def test_a_norm_beside_the_pruned_channels_mixes_nothing():
    model = block()
    removed = [e for e in slices(model) if (e["parameter"], e["axis"]) in {("q", 1), ("k", 1), ("v", 1), ("out", 0)}]
    found = verdict(model, removed)
    assert (found.status, found.mixing) == ("exact", {})


def test_what_cannot_be_followed_is_no_verdict():
    g = Graph()
    model = g.model(g.node("Cast", g.node("ArgMax", g.node("MatMul", "x", g.weight("w", 3, 4)), axis=-1), to=1), 1)
    with pytest.raises(dead.Unknown, match="ArgMax"):
        dead.Deaths(
            model,
            [{"parameter": "w", "axis": 1, "indices": [1]}],
            {"x": np.ones((1, TOKENS, 3), np.float32)},
        )
