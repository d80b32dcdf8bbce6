"""The proof itself on trial: networks pruned by hand pass, and every planted fault is found.

Each test prunes with numpy alone (no daemon) and then breaks one thing that a wrong compressor might break.
"""

import copy

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import net as nets
import reference


def network():
    """Two layers joined by Concat, a norm, a Split whose halves are joined again, a convolution and a linear layer."""
    net = nets.Net(5, 17, plain=True)
    x = net.image(3, 6, 6)
    a = net.conv(x, 6, 3, bias=True)
    b = net.conv(x, 10, 3, bias=True)
    y = net.relu(net.batch_norm(net.concat([a, b])))
    first, second = net.split(y, [6, 10])
    y = net.concat([net.unary("Tanh", first), net.unary("Sigmoid", second)])
    y = net.relu(net.conv(y, 5, 3, bias=True))
    net.output(net.gemm(net.flatten(y), 4, trans_b=True, bias=True))
    return net.model()


def names(model, op):
    return [n for n in model.graph.node if n.op_type == op]


def parts(model):
    """The stored tensors by role."""
    a, b, c = names(model, "Conv")
    (norm,) = names(model, "BatchNormalization")
    return {
        "a": a.input[1],
        "a_bias": a.input[2],
        "b": b.input[1],
        "b_bias": b.input[2],
        "c": c.input[1],
        "norm": list(norm.input[1:]),
        "split": names(model, "Split")[0].input[1],
    }


def by_hand(model, cut_a, cut_b, in_norm=None, in_c=None, in_bias=None):
    """The slices for removing `cut_a` and `cut_b`; the other arguments say where a faulty compressor differs."""
    p = parts(model)
    joined = [*cut_a, *(6 + i for i in cut_b)]
    found = [(p["a"], 0, cut_a), (p["a_bias"], 0, in_bias or cut_a), (p["b"], 0, cut_b), (p["b_bias"], 0, cut_b)]
    found += [(v, 0, in_norm or joined) for v in p["norm"]] + [(p["c"], 1, in_c or joined)]
    return [{"parameter": n, "axis": axis, "indices": list(indices)} for n, axis, indices in found if indices]


def pruned(model, removed, integers=None):
    """The compressed model by numpy: slices taken, integers replaced."""
    small = copy.deepcopy(model)
    for tensor in small.graph.initializer:
        entries = [e for e in removed if e["parameter"] == tensor.name]
        array = numpy_helper.to_array(tensor)
        if entries:
            tensor.CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(reference.sliced(array, entries)), tensor.name)
            )
        if integers and tensor.name in integers:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(integers[tensor.name], np.int64), tensor.name))
    return small


def initializer(model, name):
    return next(t for t in model.graph.initializer if t.name == name)


def change(model, name, function):
    tensor = initializer(model, name)
    tensor.CopyFrom(numpy_helper.from_array(function(numpy_helper.to_array(tensor).copy()), name))


CUT_A, CUT_B = [1, 4], [0, 3, 9]


def right():
    model = network()
    removed = by_hand(model, CUT_A, CUT_B)
    return model, pruned(model, removed, {parts(model)["split"]: [4, 7]}), removed


def test_a_right_pruning_passes():
    model, small, removed = right()
    proof = reference.prove(model, small, removed)
    assert proof.largest_difference < 1e-6
    assert proof.elements_removed == sum(
        np.prod(initializer(model, n).dims) for n in {e["parameter"] for e in removed}
    ) - sum(np.prod(initializer(small, n).dims) for n in {e["parameter"] for e in removed})
    assert proof.effect > 1e-2


@pytest.mark.parametrize("fault", ["consumer", "bias", "norm", "offset", "split", "unlisted", "mean_only"])
def test_consistent_lies_are_found_by_the_numbers(fault):
    """The reply and the bytes agree with each other and are wrong together."""
    model = network()
    p = parts(model)
    split = [4, 7]
    if fault == "consumer":
        removed = by_hand(model, CUT_A, CUT_B, in_c=[1, 5, 6, 9, 15])
    elif fault == "bias":
        removed = by_hand(model, CUT_A, CUT_B, in_bias=[1, 3])
    elif fault == "norm":
        removed = by_hand(model, CUT_A, CUT_B, in_norm=[0, 4, 6, 9, 15])
    elif fault == "offset":  # as if the first part had already been cut when the second's offset was taken
        removed = by_hand(model, CUT_A, CUT_B, in_c=[1, 4, 5, 7, 13])
    elif fault == "mean_only":
        removed = by_hand(model, CUT_A, CUT_B)
        next(e for e in removed if e["parameter"] == p["norm"][2])["indices"] = [1, 4, 6, 9, 14]
    elif fault == "split":
        removed, split = by_hand(model, CUT_A, CUT_B), [5, 6]
    else:  # a channel gone from producer and consumer, but the list says another
        removed = by_hand(model, CUT_A, CUT_B)
        small = pruned(model, removed, {p["split"]: split})
        said = copy.deepcopy(removed)
        for entry in said:
            if entry["parameter"] == p["c"]:
                entry["indices"] = [2, 4, 6, 9, 15]
        with pytest.raises(reference.ProofFailure, match="does not hold the original numbers"):
            reference.prove(model, small, said)
        return
    with pytest.raises(reference.ProofFailure, match="differs from the masked original"):
        reference.prove(model, pruned(model, removed, {p["split"]: split}), removed)


def sharing(pairs):
    """Two layers with one bias, pruned at different channels: each gets its own selection of it."""
    net = nets.Net(9, 17, plain=True)
    x, bias = net.image(3, 4, 4), net.store(net.normal(6))
    for _ in range(2):
        y = net.node("Conv", [x, net.store(net.normal(6, 3, 1, 1)), bias], (2, 6, 4, 4))
        net.output(net.conv(net.relu(y), 2, 1, bias=True))
    model = net.model()
    layers = names(model, "Conv")
    removed = []
    for (layer, reader), cut in zip((layers[:2], layers[2:]), ([1], [3, 5])):
        removed += [
            {"parameter": layer.input[1], "axis": 0, "indices": cut},
            {"parameter": reader.input[1], "axis": 1, "indices": cut},
        ]
    small = pruned(model, removed)
    whole = numpy_helper.to_array(initializer(small, bias))
    small.graph.initializer.remove(initializer(small, bias))
    for node, kept in zip((small.graph.node[0], small.graph.node[3]), pairs):
        node.input[2] = node.name + "_bias"
        small.graph.initializer.append(numpy_helper.from_array(whole[kept], node.input[2]))
    return model, small, removed


def test_private_selections_of_a_shared_vector_pass():
    proof = reference.prove(*sharing(([0, 2, 3, 4, 5], [0, 1, 2, 4])))
    assert (proof.elements_removed, proof.elements_added) == (3 + 2 + 6 + 4 + 6, 9)


@pytest.mark.parametrize(
    "pairs, message",
    [
        (([0, 2, 3, 4, 5], [0, 1, 2, 3]), "differs"),
        (([1, 2, 3, 4, 5], [0, 1, 2, 4]), "differs"),
        (([0, 3, 2, 4, 5], [0, 1, 2, 4]), "was added"),
    ],
)
def test_wrong_private_selections_are_found(pairs, message):
    with pytest.raises(reference.ProofFailure, match=message):
        reference.prove(*sharing(pairs))


FAULTS = {
    "swapped rows": (lambda m, p: change(m, p["a"], lambda w: w[[1, 0, *range(2, len(w))]]), "original numbers"),
    "one last bit": (
        lambda m, p: change(
            m, p["c"], lambda w: np.nextafter(w, np.inf, where=np.arange(w.size).reshape(w.shape) == 7, out=w)
        ),
        "original numbers",
    ),
    "too few": (lambda m, p: change(m, p["a_bias"], lambda w: w[:-1]), "expected"),
    "an untouched tensor": (lambda m, p: change(m, names(m, "Conv")[2].input[2], lambda w: w * 1.0001), "not listed"),
    "a dtype": (lambda m, p: change(m, p["b_bias"], lambda w: w.astype(np.float64)), "dtype"),
    "an orphan": (
        lambda m, p: m.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "orphan")),
        "nothing reads",
    ),
    "a lost tensor": (lambda m, p: m.graph.initializer.remove(initializer(m, p["a_bias"])), "no longer stored"),
    "a renamed node": (lambda m, p: setattr(m.graph.node[0], "name", "other"), "renamed"),
    "a new order": (lambda m, p: m.graph.node.insert(0, m.graph.node.pop(1)), "order"),
    "another operator": (lambda m, p: setattr(names(m, "Tanh")[0], "op_type", "Sin"), "computed by"),
    "an attribute": (
        lambda m, p: m.graph.node[0].attribute.append(onnx.helper.make_attribute("auto_pad", "VALID")),
        "attribute",
    ),
    "the output's name": (lambda m, p: setattr(m.graph.output[0], "name", "other"), "outputs changed"),
    "the output's shape": (
        lambda m, p: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 3),
        "outputs changed",
    ),
    "the opset": (lambda m, p: setattr(m.opset_import[0], "version", 18), "opset_import"),
    "metadata": (lambda m, p: m.metadata_props.add(key="a", value="b"), "metadata_props"),
    "a stale shape": (
        lambda m, p: m.graph.value_info.append(
            onnx.helper.make_tensor_value_info(names(m, "Concat")[0].output[0], 1, [2, 16, 6, 6])
        ),
        "now says",
    ),
    "a wrong split": (
        lambda m, p: change(m, p["split"], lambda s: s[::-1].copy() * 0 + np.array([5, 5])),
        "now says|Error",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault):
    model, small, removed = right()
    plant, message = FAULTS[fault]
    plant(small, parts(small))
    with pytest.raises(reference.ProofFailure, match=message):
        reference.prove(model, small, removed)


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"parameter": "nobody", "axis": 0, "indices": [0]}, "does not store"),
        ({"axis": 7, "indices": [0]}, "axes"),
        ({"axis": 1, "indices": [9]}, r"\[9\]"),
        ({"axis": 1, "indices": [1, 0]}, "ascending"),
        ({"axis": 1, "indices": []}, "no index"),
        ({"axis": 0, "indices": [1]}, "twice"),
    ],
)
def test_nonsense_in_removed_is_found(entry, message):
    model, small, removed = right()
    with pytest.raises(reference.ProofFailure, match=message):
        reference.prove(model, small, removed + [{"parameter": parts(model)["a"], **entry}])


def test_a_scale_that_follows_the_shape_is_found():
    net = nets.Net(3, 17, plain=True)
    x = net.conv(net.image(3, 4, 4), 8, 3, bias=True)
    root = net.unary("Sqrt", net.unary("Cast", net.length(x, 1), to=1))
    net.output(net.conv(net.binary("Div", x, root), 3, 1, bias=True))
    model = net.model()
    first, last = names(model, "Conv")
    removed = [
        {"parameter": first.input[1], "axis": 0, "indices": [2]},
        {"parameter": first.input[2], "axis": 0, "indices": [2]},
        {"parameter": last.input[1], "axis": 1, "indices": [2]},
    ]
    with pytest.raises(reference.ProofFailure, match="differs"):
        reference.prove(model, pruned(model, removed), removed)


def grouped():
    net = nets.Net(4, 17, plain=True)
    x = net.relu(net.conv(net.image(3, 5, 5), 12, 3, bias=True))
    x = net.relu(net.conv(x, 6, 3, group=3, bias=True))
    net.output(net.conv(x, 3, 1, bias=True))
    return net.model()


@pytest.mark.parametrize("per_group, right", [([[0], [3], [1]], True), ([[1], [3], [0]], False)])
def test_channels_of_each_group(per_group, right):
    model = grouped()
    first, middle, _ = names(model, "Conv")
    gone = [0, 4 + 3, 8 + 1]
    removed = [
        {"parameter": first.input[1], "axis": 0, "indices": gone},
        {"parameter": first.input[2], "axis": 0, "indices": gone},
        {"parameter": middle.input[1], "axis": 1, "indices_per_group": per_group},
    ]
    small = pruned(model, removed)
    if right:
        assert reference.prove(model, small, removed).effect > 1e-3
    else:
        with pytest.raises(reference.ProofFailure, match="differs"):
            reference.prove(model, small, removed)


@pytest.mark.parametrize("consumed", [[2], [5]])
def test_products_of_activations_are_masked(consumed):
    """x times its own transpose sums over removed channels with no stored operand to zero."""
    net = nets.Net(6, 17, plain=True)
    x = net.reshape(net.unary("Sigmoid", net.conv(net.image(3, 4, 4), 8, 3, bias=True)), [0, -1, 16], (2, 8, 16))
    gram = net.node("MatMul", [net.transpose(x, [0, 2, 1]), x], (2, 16, 16))
    net.output(net.matmul(net.transpose(net.node("MatMul", [x, net.unary("Tanh", gram)], (2, 8, 16)), [0, 2, 1]), 3))
    model = net.model()
    (conv,) = names(model, "Conv")
    weight = names(model, "MatMul")[-1].input[1]
    removed = [
        {"parameter": conv.input[1], "axis": 0, "indices": [2]},
        {"parameter": conv.input[2], "axis": 0, "indices": [2]},
        {"parameter": weight, "axis": 0, "indices": consumed},
    ]
    if consumed == [2]:
        assert reference.prove(model, pruned(model, removed), removed).effect > 1e-4
    else:
        with pytest.raises(reference.ProofFailure, match="differs"):
            reference.prove(model, pruned(model, removed), removed)


@pytest.mark.parametrize("how", ["transposed", "cast", "standardized"])
def test_masks_follow_weights_through_their_own_operators(how):
    net = nets.Net(8, 17, plain=True)
    x = net.conv(net.image(3, 4, 4), 8, 3, bias=True)
    if how == "transposed":
        weight = net.transpose(net.store(net.normal(8, 3, 3, 5, scale=0.2)), [3, 0, 1, 2])
    elif how == "cast":
        weight = net.store(net.normal(5, 8, 3, 3, scale=0.2), "w", "narrow")
    else:
        stored = net.store(net.normal(5, 8, 3, 3, scale=0.2))
        weight = net.binary("Mul", stored, net.store(net.uniform(0.5, 1.5, 5, 1, 1, 1)))
    net.output(net.node("Conv", [x, weight], (2, 5, 2, 2)))
    model = net.model()
    conv = names(model, "Conv")[0]
    stored = {
        "transposed": lambda: names(model, "Transpose")[0].input[0],
        "cast": lambda: names(model, "Cast")[0].input[0],
        "standardized": lambda: names(model, "Mul")[0].input[0],
    }[how]()
    axis = 0 if how == "transposed" else 1
    for consumed, right in ([6], True), ([5], False):
        removed = [
            {"parameter": conv.input[1], "axis": 0, "indices": [6]},
            {"parameter": conv.input[2], "axis": 0, "indices": [6]},
            {"parameter": stored, "axis": axis, "indices": consumed},
        ]
        if right:
            assert reference.prove(model, pruned(model, removed), removed).effect > 1e-3
        else:
            with pytest.raises(reference.ProofFailure, match="differs"):
                reference.prove(model, pruned(model, removed), removed)
