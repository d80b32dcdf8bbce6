"""Refitted weights: where what is left can make up for what is gone, the network is the original again; where it
cannot, trained networks keep their accuracy; and whoever asks for nothing gets what he always got.
"""

import threading
import time

import espalier
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import daemon
import running
from trained import EXAMPLES, MODELS, accuracy

# Of the eight channels of every first layer these are sums of the others.
REMOVED = [2, 5]


# Exactness


class Net:
    """A first layer of eight channels of which two are combinations of others, and what reads them. Of fewer than six
    `inputs` there are more such combinations. They lie `shift` off the others."""

    def __init__(self, spatial, dtype=np.float32, inputs=5, shift=0.7, size=9):
        self.rng, self.dtype = np.random.default_rng(7), dtype
        self.nodes, self.stored, self.spatial = [], [], spatial
        self.shape = ["n", inputs, size, size] if spatial else ["n", 6, inputs]
        weight = self.rng.normal(size=(8, inputs, 1, 1) if spatial else (inputs, 8))
        bias = self.rng.normal(size=8)
        channels = weight if spatial else weight.T
        for removed in REMOVED:
            mix = self.rng.normal(size=3)
            channels[removed] = sum(m * channels[k] for m, k in zip(mix, (0, 1, 7)))
            bias[removed] = sum(m * bias[k] for m, k in zip(mix, (0, 1, 7))) + shift
        if spatial:
            self.node("Conv", "x", self.store("first.weight", weight), self.store("first.bias", bias), name="first")
        else:
            self.node("MatMul", "x", self.store("first.weight", weight), name="first")
            self.node("Add", self.last, self.store("first.bias", bias), name="shift")

    def store(self, name, array):
        self.stored.append(numpy_helper.from_array(np.asarray(array, self.dtype), name))
        return name

    def node(self, op, *inputs, name, **attributes):
        self.last = f"{name}_out"
        self.nodes.append(helper.make_node(op, list(inputs), [self.last], name, **attributes))

    def model(self):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info(self.last, kind, None)], self.stored,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def normalized(net, name, channels):
    rng = net.rng
    net.node(
        "BatchNormalization", net.last, net.store(f"{name}.scale", rng.uniform(0.5, 2, channels)),
        net.store(f"{name}.shift", rng.normal(size=channels)), net.store(f"{name}.mean", rng.normal(size=channels)),
        net.store(f"{name}.var", rng.uniform(0.5, 2, channels)), name=name,
    )  # fmt: skip


def convolution(bias, **attributes):
    def make(net):
        inputs = [net.last, net.store("second.weight", net.rng.normal(size=(4, 8, 3, 3)))]
        if bias:
            inputs.append(net.store("second.bias", net.rng.normal(size=4)))
        net.node("Conv", *inputs, name="second", **attributes)
        if not bias:
            normalized(net, "norm", 4)

    return make


def gemm(net):
    net.node("GlobalAveragePool", net.last, name="pool")
    net.node("Flatten", net.last, name="flat")
    weight, bias = net.rng.normal(size=(4, 8)), net.rng.normal(size=4)
    net.node(
        "Gemm", net.last, net.store("second.weight", weight), net.store("second.bias", bias), name="second",
        transB=1, alpha=0.5, beta=2.0,
    )  # fmt: skip


def flattened(net):
    net.node("Flatten", net.last, name="flat")
    net.node(
        "Gemm", net.last, net.store("second.weight", net.rng.normal(size=(8 * 81, 4))),
        net.store("second.bias", net.rng.normal(size=4)), name="second",
    )  # fmt: skip


def product(net):
    net.node("MatMul", net.last, net.store("second.weight", net.rng.normal(size=(8, 4))), name="second")
    net.node("Add", net.store("second.bias", net.rng.normal(size=4)), net.last, name="sum")


def transposed_weight(net):
    net.node("Transpose", net.store("second.weight", net.rng.normal(size=(4, 8))), name="turned", perm=[1, 0])
    net.node("MatMul", "shift_out", net.last, name="second")
    net.node("Add", net.last, net.store("second.bias", net.rng.normal(size=4)), name="sum")


CASES = {
    "convolution": (True, convolution(True)),
    "padded convolution of stride 2": (True, convolution(True, pads=[0, 0, 0, 0], strides=[2, 2])),
    "dilated convolution with a normalization": (True, convolution(False, dilations=[2, 2])),
    "Gemm with factors": (True, gemm),
    "product and sum": (False, product),
    "product with a transposed weight": (False, transposed_weight),
}


def refit(client, folder, model, data, **request):
    """The original's and the compressed model's outputs on new data, and the reply."""
    path, output, dataset = folder / "net.onnx", folder / "net_fitted.onnx", folder / "net.npy"
    onnx.save(model, path)
    np.save(dataset, data)
    request = {"reconstruct": "least_squares", "dataset_path": dataset, "verify": True, **request}
    reply = client.compress(path, output, overwrite=True, **request)
    return path, output, reply


def removing(channels=REMOVED, layer="first"):
    setting = espalier.LayerSetting(layer, channels)
    return {"compression_method": "PR_ID", "layers": [setting]}


def data(model, count, seed=1):
    shape = [d.dim_value or count for d in model.graph.input[0].type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.mark.parametrize("case", CASES)
def test_what_others_can_make_up_for_is_made_up_for(client, folder, case):
    spatial, build = CASES[case]
    net = Net(spatial)
    build(net)
    model = net.model()
    path, output, reply = refit(client, folder, model, data(model, 64), **removing())
    fresh = {"x": data(model, 16, seed=2)}
    (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
    assert relative(before, after) < 2e-4
    assert reply.verification.status == "approximate" and reply.verification.twin.status == "exact"
    assert reply.reconstruction.kept and reply.reconstruction.error_after < 2e-4 < reply.reconstruction.error_before
    changed = {entry.parameter for entry in reply.adjusted}
    assert "second.weight" in changed and not any(name.startswith("first") for name in changed)
    assert all(entry.parameter == entry.original for entry in reply.adjusted)
    # Told again from the reply alone; and a file that is not what the reply says is found out.
    again = client.verify(path, output, reply, dataset_path=folder / "net.npy")
    assert (again.status, again.twin.status) == ("approximate", "exact")
    spoiled = onnx.load(output)
    first = next(t for t in spoiled.graph.initializer if t.name == "first.weight")
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * np.float32(1.01), first.name))
    onnx.save(spoiled, folder / "spoiled.onnx")
    assert client.verify(path, folder / "spoiled.onnx", reply).status == "failed"


def test_grouped_and_depthwise_layers_are_fitted_group_by_group(client, folder):
    net = Net(True, inputs=3)
    rng = net.rng
    net.node("Conv", net.last, net.store("deep.weight", rng.normal(size=(8, 1, 3, 3))), name="deep", group=8)
    net.node("Relu", net.last, name="relu")
    net.node("Conv", net.last, net.store("wide.weight", rng.normal(size=(12, 8, 1, 1))), name="wide")
    net.node("Relu", net.last, name="relu2")
    net.node("Conv", net.last, net.store("grouped.weight", rng.normal(size=(6, 4, 3, 3))), name="grouped", group=3)
    model = net.model()
    _, _, plain = refit(client, folder, model, data(model, 128), reconstruct="none", **removing())
    path, output, reply = refit(client, folder, model, data(model, 128), **removing())
    assert plain.verification.status == "exact" and plain.reconstruction is None and plain.adjusted == []
    assert reply.reconstruction.error_after < 0.8 * reply.reconstruction.error_before
    assert {"wide.weight", "grouped.weight"} <= {entry.parameter for entry in reply.adjusted}
    # What it says of inputs held out, it says of any others.
    fresh = {"x": data(model, 64, seed=3)}
    (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
    assert relative(before, after) == pytest.approx(reply.reconstruction.error_after, rel=0.15)


def transposed(net):
    weight, bias = net.store("second.weight", net.rng.normal(size=(8, 4, 3, 3))), net.store("second.bias", np.ones(4))
    net.node("ConvTranspose", net.last, weight, bias, name="second", strides=[2, 2], pads=[1, 0, 1, 0],
             output_padding=[1, 0], dilations=[1, 2])  # fmt: skip


def transposed_to_a_length(net):
    weight = net.store("second.weight", net.rng.normal(size=(8, 4, 4, 3)))
    net.node("ConvTranspose", net.last, weight, name="second", strides=[2, 3], output_shape=[17, 26])


def siamese(net):
    """The same weight and bias on what two branches make of the maps."""
    start, weight = net.last, net.store("second.weight", net.rng.normal(size=(4, 8, 3, 3)))
    bias = net.store("second.bias", net.rng.normal(size=4))
    net.node("Conv", start, weight, bias, name="second", pads=[1, 1, 1, 1])
    one = net.last
    net.node("AveragePool", start, name="smaller", kernel_shape=[2, 2])
    net.node("Conv", net.last, weight, bias, name="third", dilations=[2, 2])
    net.node("GlobalAveragePool", net.last, name="pooled")
    net.node("Add", one, net.last, name="joined")


def many_numbers(net):
    """A row of whole maps: an output sums more numbers than a regression takes."""
    net.node("Flatten", net.last, name="flat")
    weight = net.store("second.weight", net.rng.normal(size=(4, 8 * 40 * 40)))
    net.node("Gemm", net.last, weight, net.store("second.bias", net.rng.normal(size=4)), name="second", transB=1)


PLACES = {
    "transposed convolution": (transposed, 9, 1), "transposed convolution to a length": (transposed_to_a_length, 9, 1),
    "one weight in two places": (siamese, 9, 1), "mixtures of channels behind maps": (many_numbers, 40, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_less_common_layers_are_fitted_too(client, folder, case):
    """What is gone is a sum of what is left at every place, borders included."""
    build, size, adjusted = PLACES[case]
    net = Net(True, shift=0, size=size)
    build(net)
    model = net.model()
    path, output, reply = refit(client, folder, model, data(model, 64), **removing())
    fresh = {"x": data(model, 16, seed=2)}
    (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
    assert relative(before, after) < 2e-4 < reply.reconstruction.error_before
    assert [entry.parameter for entry in reply.adjusted].count("second.weight") == adjusted
    assert client.verify(path, output, reply, dataset_path=folder / "net.npy").twin.status == "exact"


def test_kernels_of_many_channels_are_fitted_by_mixtures(client, folder):
    net = Net(True, shift=0)
    rng = net.rng
    net.node("Conv", net.last, net.store("wide.weight", rng.normal(size=(920, 8, 1, 1))), name="wide")
    net.node("Conv", net.last, net.store("second.weight", rng.normal(size=(2, 920, 3, 3))), name="second", pads=[1] * 4)
    model = net.model()
    setting = espalier.LayerSetting("wide", list(range(0, 920, 3)))
    path, output, reply = refit(
        client, folder, model, data(model, 32), compression_method="PR_ID", layers=[setting]
    )
    fresh = {"x": data(model, 4, seed=2)}
    (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
    # Eight numbers lie behind all these channels.
    assert relative(before, after) < 0.01 < 0.3 < reply.reconstruction.error_before
    assert [entry.parameter for entry in reply.adjusted] == ["second.weight"] and reply.raw["reconstruction"]["skipped"] == []


def test_statistics_are_measured_anew_where_weights_cannot_be(client, folder):
    """A weight that is computed stays; the normalization behind it sees less than it did."""
    net = Net(True)
    net.node("Mul", net.store("second.raw", net.rng.normal(size=(4, 8, 3, 3))), net.store("two", 2.0), name="weight")
    net.node("Conv", "first_out", net.last, name="second")
    normalized(net, "norm", 4)
    model = net.model()
    stored = {t.name: t for t in model.graph.initializer}
    bias = numpy_helper.to_array(stored["first.bias"]).copy()
    # Channels that are nearly constant: without them the mean is another.
    bias[[1, 6]] = 8
    stored["first.bias"].CopyFrom(numpy_helper.from_array(bias, "first.bias"))
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(helper.make_tensor_value_info("second_out", TensorProto.FLOAT, None))
    maps = running.run(exposed, {"x": data(model, 256, seed=4)})[1]
    for name, array in {"norm.mean": maps.mean((0, 2, 3)), "norm.var": maps.var((0, 2, 3))}.items():
        stored[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    path, output, reply = refit(client, folder, model, data(model, 64), **removing([1, 6]))
    assert reply.reconstruction.kept and reply.reconstruction.error_after < 0.95 * reply.reconstruction.error_before
    assert {entry.parameter for entry in reply.adjusted} == {"norm.mean", "norm.var"}
    (after,) = running.run(onnx.load(output), {"x": data(model, 256, seed=5)})
    scale, shift = (numpy_helper.to_array(stored[f"norm.{name}"]) for name in ("scale", "shift"))
    assert np.allclose(after.mean((0, 2, 3)), shift, atol=0.1) and np.allclose(after.std((0, 2, 3)), scale, rtol=0.1)
    assert client.verify(path, output, reply).twin.status == "exact"


@pytest.mark.parametrize("storage", ["typed", "constants", "external"])
def test_new_numbers_are_stored_as_the_old_ones_were(client, folder, storage):
    net = Net(True)
    convolution(True)(net)
    model = net.model()
    samples = data(model, 64)
    _, output, _ = refit(client, folder, model, samples, **removing())
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(output).graph.initializer}
    graph = model.graph
    if storage == "typed":
        for tensor in graph.initializer:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, array.shape, array.ravel().tolist()))
    elif storage == "constants":
        for tensor in list(graph.initializer):
            graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        del graph.initializer[:]
    path, output, dataset = folder / "stored.onnx", folder / "stored_fitted.onnx", folder / "net.npy"
    external = {"save_as_external_data": True, "location": "stored.data", "size_threshold": 0}
    (folder / "stored.data").unlink(missing_ok=True)
    onnx.save(model, path, **(external if storage == "external" else {}))
    client.compress(
        path, output, overwrite=True, verify=True, reconstruct="least_squares", dataset_path=dataset, **removing()
    )
    fitted = onnx.load(output)
    if storage == "constants":
        found = {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in fitted.graph.node if n.op_type == "Constant"}
    else:
        found = {t.name: numpy_helper.to_array(t) for t in fitted.graph.initializer}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    if storage == "typed":
        assert all(t.float_data and not t.raw_data for t in fitted.graph.initializer)


def test_half_precision_is_fitted_and_stays_half_precision(client, folder):
    net = Net(True, np.float16)
    convolution(True)(net)
    model = net.model()
    path, output, reply = refit(client, folder, model, data(model, 64), **removing())
    assert reply.reconstruction.error_after < 2e-2 < reply.reconstruction.error_before
    assert all(t.data_type == TensorProto.FLOAT16 for t in onnx.load(output).graph.initializer)


def test_weights_that_wait_for_each_other_stay(client, folder):
    """Two kernels, each read twice: the first before the second in one branch and behind it in the other."""
    net = Net(True, inputs=8, shift=0)
    kernels = {name: net.store(name, net.rng.normal(size=(8, 8, 1, 1)) / 3) for name in ("a", "b")}
    for branch in "ab", "ba":
        net.last = "first_out"
        for kernel in branch:
            net.node("Conv", net.last, kernels[kernel], name=f"{branch}_{kernel}")
    net.node("Add", "ab_b_out", "ba_a_out", name="sum")
    net.node("Conv", net.last, net.store("last.weight", net.rng.normal(size=(3, 8, 1, 1))), name="last")
    model = net.model()
    _, _, reply = refit(client, folder, model, data(model, 64), **removing())
    (skipped,) = reply.raw["reconstruction"]["skipped"]
    assert skipped["name"] == "ab_b" and "one of which reads what another computes" in skipped["reason"]


def test_weights_that_two_layers_read_stay(client, folder):
    net = Net(False)
    net.node("MatMul", net.last, net.store("twice", net.rng.normal(size=(8, 8))), name="second")
    net.node("MatMul", net.last, "twice", name="third")
    net.node("MatMul", net.last, net.store("own", net.rng.normal(size=(8, 3))), name="last")
    model = net.model()
    net_data = data(model, 64)
    path, output, reply = refit(
        client, folder, model, net_data, compression_method="PR_L2", recommendation_ratio=0.3,
        options={"min_num_of_value": 1},
    )  # fmt: skip
    assert "twice" not in {entry.parameter for entry in reply.adjusted}
    assert any("second" == entry["name"] for entry in reply.raw["reconstruction"]["skipped"])


# Trained networks


@pytest.mark.parametrize("name, macs, loses", [("resnet", 0.5, 0.01), ("mobile", 0.5, 0.015), ("vit", 0.5, 0.02)])
def test_half_of_a_trained_network_still_works(client, folder, sample, digits, name, macs, loses):
    found = {}
    for mode in "none", "least_squares":
        path = folder / f"{name}_half.onnx"
        reply = client.compress(
            MODELS / f"{name}.onnx", path, compression_method="PR_L2", target={"macs": macs}, overwrite=True,
            verify=True, reconstruct=mode, dataset_path=digits,
        )  # fmt: skip
        found[mode] = accuracy(path, sample)
    original = accuracy(MODELS / f"{name}.onnx", sample)
    assert found["none"] < original - 0.2 and found["least_squares"] > original - loses
    assert reply.reconstruction.held_out == 32 and reply.reconstruction.error_after < reply.reconstruction.error_before


def test_decompositions_are_fitted_too(client, folder, sample, digits):
    errors = []
    for mode in "none", "least_squares":
        path = folder / "mobile_fitted.onnx"
        reply = client.compress(
            MODELS / "mobile.onnx", path, compression_method="FD_SVD", target={"macs": 0.5}, overwrite=True, verify=True,
            reconstruct=mode, dataset_path=digits,
        )  # fmt: skip
        errors.append(1 - accuracy(path, sample))
    assert errors[1] < errors[0] and reply.verification.twin.status == "exact"
    again = client.verify(MODELS / "mobile.onnx", path, reply)
    assert again.status == "approximate" and again.twin.status == "exact"


@pytest.mark.parametrize("suffix", ["pt", "pt2"])
def test_other_formats_get_the_same_weights(client, folder, suffix):
    files = {}
    for kind in "onnx", suffix:
        extra = {} if kind == "onnx" else {"onnx_output_path": folder / "as_onnx.onnx"}
        path = folder / f"fitted.{kind}"
        client.compress(
            EXAMPLES / f"digits_resnet.{kind}", path, compression_method="PR_L2", target={"macs": 0.5}, overwrite=True,
            verify=True, reconstruct="least_squares", dataset_path=EXAMPLES / "digits_calibration.npy",
            input_shapes=[{"shape": [1, 1, 8, 8]}] if kind == "pt" else None, **extra,
        )  # fmt: skip
        files[kind] = onnx.load(path if kind == "onnx" else folder / "as_onnx.onnx")
    images = np.load(EXAMPLES / "digits_calibration.npy")[:64]
    outputs = []
    for model in files.values():
        single = [running.run(model, {model.graph.input[0].name: images[k : k + 1]})[0] for k in range(16)]
        outputs.append(np.concatenate(single))
    # Normalizations are folded in one and not in the other; what is fitted agrees within rounding.
    assert relative(*outputs) < 2e-3


# Selection by damage


def test_channels_that_others_can_make_up_for_go_first(client, folder):
    """Two channels are sums of three others: whatever their norms, any two of these five cost nothing."""
    net = Net(True, inputs=6)
    convolution(True)(net)
    model = net.model()
    stored = {t.name: t for t in model.graph.initializer}
    # Large filters, which a norm would keep.
    for name in "first.weight", "first.bias":
        array = numpy_helper.to_array(stored[name]).copy()
        array[REMOVED] *= 50
        stored[name].CopyFrom(numpy_helper.from_array(array, name))
    found = {}
    for method in "PR_L2", "PR_REC":
        path, output, reply = refit(
            client, folder, model, data(model, 64), compression_method=method, recommendation_ratio=0.25,
            options={"min_num_of_value": 1},
        )  # fmt: skip
        (removed,) = [entry.indices for entry in reply.removed if entry.parameter == "first.weight"]
        fresh = {"x": data(model, 16, seed=2)}
        (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
        found[method] = (removed, relative(before, after))
    (by_norm, norm_error), (by_damage, damage_error) = found["PR_L2"], found["PR_REC"]
    assert set(by_damage) <= {0, 1, 7, *REMOVED} and not set(by_norm) & set(REMOVED)
    assert damage_error < 2e-4 and damage_error < norm_error


def test_what_is_predicted_is_what_a_refit_leaves(client, folder):
    """One layer reads another: what PR_REC says of it is the error of the output."""
    net = Net(False)
    net.node("Relu", net.last, name="relu")
    net.node("MatMul", net.last, net.store("second.weight", net.rng.normal(size=(8, 4))), name="second")
    net.node("Add", net.last, net.store("second.bias", net.rng.normal(size=4)), name="sum")
    model = net.model()
    path, dataset = folder / "predicted.onnx", folder / "predicted.npy"
    onnx.save(model, path)
    np.save(dataset, data(model, 512))
    request = {"compression_method": "PR_REC", "recommendation_ratio": 0.5, "dataset_path": dataset}
    recommendation = client.recommend(path, options={"min_num_of_value": 1}, **request)
    predicted = recommendation.raw["predicted_error"]
    client.compress(
        path, folder / "fitted.onnx", overwrite=True, reconstruct="least_squares", options={"min_num_of_value": 1},
        **request,
    )  # fmt: skip
    fresh = {"x": data(model, 256, seed=9)}
    (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(folder / "fitted.onnx"), fresh)
    variation = before - before.mean((0, 1))
    assert np.linalg.norm(before - after) / np.linalg.norm(variation) == pytest.approx(predicted, rel=0.1)


def product_network(seed=7):
    """A product that reads another one's eight channels, behind an activation."""
    net = Net(False)
    net.rng = np.random.default_rng(seed)
    net.node("Relu", net.last, name="relu")
    net.node("MatMul", net.last, net.store("second.weight", net.rng.normal(size=(8, 4))), name="second")
    net.node("Add", net.last, net.store("second.bias", net.rng.normal(size=4)), name="sum")
    return net.model()


@pytest.mark.parametrize("method", ["PR_L2", "PR_RANDOM", "PR_REC"])
def test_predictions_are_least_squares(client, folder, method):
    """Told before anything is removed, of any choice: the share of the output's variation that the best weights on the
    channels that stay do not reach."""
    model = product_network()
    path, dataset, samples = folder / "told.onnx", folder / "told.npy", data(model, 512)
    onnx.save(model, path)
    np.save(dataset, samples)
    request = {"compression_method": method, "recommendation_ratio": 0.5, "options": {"min_num_of_value": 1}}
    advice = client.recommend(path, dataset_path=dataset, **request)
    if method == "PR_REC":
        request["dataset_path"] = dataset
    made = client.compress(path, dry_run=True, **request)
    (removed,) = [entry.indices for entry in made.removed if entry.parameter == "first.weight"]
    exposed = onnx.load(path)
    exposed.graph.output.append(helper.make_tensor_value_info("relu_out", TensorProto.FLOAT, None))
    outputs, channels = (array.reshape(-1, array.shape[-1]).astype(float) for array in running.run(exposed, {"x": samples}))
    kept = np.column_stack([np.delete(channels, removed, 1), np.ones(len(channels))])
    missed = outputs - kept @ np.linalg.lstsq(kept, outputs, rcond=None)[0]
    found = np.linalg.norm(missed) / np.linalg.norm(outputs - outputs.mean(0))
    assert advice.predicted_error == pytest.approx(found, rel=5e-3) and found > 0.1
    (layer,) = [layer for layer in advice.available_layers if layer.use]
    assert layer.predicted_error == advice.predicted_error


@pytest.mark.parametrize("kind", ["rows", "kernel"])
def test_layers_whose_outputs_sum_many_numbers_have_their_say(client, folder, kind):
    """Maps that were made one row, or a large kernel: what counts is the channels, which have as many taps as there are
    places."""
    rng, count, side = np.random.default_rng(4), 6, 38
    net = {"first.weight": rng.normal(size=(count, 3, 1, 1)), "first.bias": rng.normal(size=count)}
    nodes = [
        helper.make_node("Conv", ["x", "first.weight", "first.bias"], ["maps"], "first"),
        helper.make_node("Relu", ["maps"], ["channels"], "relu"),
    ]
    weight = rng.normal(size=(5, count, side, side)) / side
    weight[:, [1, 4]] *= 0.1
    if kind == "rows":
        net["second.weight"] = weight.reshape(5, -1)
        nodes += [
            helper.make_node("Flatten", ["channels"], ["rows"], "flatten"),
            helper.make_node("Gemm", ["rows", "second.weight", "second.bias"], ["y"], "second", transB=1),
        ]
    else:
        net["second.weight"] = weight
        nodes.append(helper.make_node("Conv", ["channels", "second.weight", "second.bias"], ["y"], "second"))
    net["second.bias"] = rng.normal(size=5)
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in net.items()],
    )  # fmt: skip
    path, dataset = folder / f"long_{kind}.onnx", folder / f"long_{kind}.npy"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    # Neighbours in a map differ, so that any even choice of places says the same.
    samples = rng.normal(size=(64, 3, side, side)).astype(np.float32)
    np.save(dataset, samples)
    request = {"compression_method": "PR_REC", "recommendation_ratio": 0.34, "dataset_path": dataset,
               "options": {"min_num_of_value": 1, "step_size": 1}}  # fmt: skip
    made = client.compress(path, dry_run=True, **request)
    (removed,) = [entry.indices for entry in made.removed if entry.parameter == "first.weight"]
    assert removed == [1, 4]
    exposed = onnx.load(path)
    exposed.graph.output.append(helper.make_tensor_value_info("channels", TensorProto.FLOAT, None))
    channels = running.run(exposed, {"x": samples})[1].astype(float).transpose(1, 0, 2, 3).reshape(count, -1)
    covariance, gram = np.cov(channels, bias=True), np.einsum("ocij,odij->cd", weight, weight)
    kept = [channel for channel in range(count) if channel not in removed]
    cross = covariance[np.ix_(removed, kept)]
    left = covariance[np.ix_(removed, removed)] - cross @ np.linalg.solve(covariance[np.ix_(kept, kept)], cross.T)
    wanted = np.sqrt((gram[np.ix_(removed, removed)] * left).sum() / (gram * covariance).sum())
    assert client.recommend(path, **request).predicted_error == pytest.approx(wanted, rel=0.02)


def test_predictions_of_decompositions_are_what_is_measured(client, folder):
    """Of whitened products singular values tell the error of what a layer computes."""
    model = product_network()
    path, dataset, samples = folder / "told.onnx", folder / "told.npy", data(model, 512)
    onnx.save(model, path)
    np.save(dataset, samples)
    request = {"compression_method": "FD_SVD", "target": {"energy": 0.8}, "dataset_path": dataset,
               "options": {"include": ["second"], "step_size": 1, "min_num_of_value": 1}}  # fmt: skip
    advice = client.recommend(path, **request)
    client.compress(path, folder / "made.onnx", overwrite=True, **request)
    (before,), (after,) = (running.run(onnx.load(file), {"x": samples}) for file in (path, folder / "made.onnx"))
    found = np.linalg.norm(before - after) / np.linalg.norm(before - before.mean((0, 1)))
    assert advice.predicted_error == pytest.approx(found, rel=1e-3) and found > 0.05


# Without data


def test_biases_take_up_what_normalizations_say(client, folder):
    """Channels of a normalization with a large shift are gone: their mean is not."""
    net = Net(True)
    normalized(net, "norm", 8)
    net.node("Relu", net.last, name="relu")
    net.node(
        "Conv", net.last, net.store("second.weight", net.rng.normal(size=(4, 8, 3, 3))),
        net.store("second.bias", net.rng.normal(size=4)), name="second",
    )  # fmt: skip
    model = net.model()
    stored = {t.name: t for t in model.graph.initializer}
    first = numpy_helper.to_array(stored["first.weight"])[..., 0, 0].astype(float)
    # Statistics as training would leave them: inputs are standard normal.
    for name, array in {
        "norm.mean": numpy_helper.to_array(stored["first.bias"]), "norm.var": (first**2).sum(1),
        "norm.shift": np.linspace(-1, 2, 8), "norm.scale": np.linspace(0.5, 1.5, 8),
    }.items():  # fmt: skip
        stored[name].CopyFrom(numpy_helper.from_array(np.asarray(array, np.float32), name))
    fresh = {"x": data(model, 512, seed=5)}
    means = {}
    for mode in "none", "bias":
        path, output, reply = refit(client, folder, model, data(model, 4), **{**removing([1, 6]), "reconstruct": mode})
        (before,), (after,) = running.run(onnx.load(path), fresh), running.run(onnx.load(output), fresh)
        means[mode] = np.abs((before - after).mean((0, 2, 3))).max() / np.abs(before).mean()
    assert means["bias"] < 0.02 < 0.2 < means["none"]
    assert [entry.parameter for entry in reply.adjusted] == ["second.bias"]
    assert reply.verification.status == "approximate" and reply.verification.twin.status == "exact"
    assert client.verify(path, output, reply).twin.status == "exact"


@pytest.mark.parametrize("method", ["FD_TK", "FD_SVD"])
def test_biases_take_up_nothing_that_was_weighed_on_data(client, folder, digits, method):
    """Factors that were fitted to inputs reckon with their means: what the weights alone lose of these is not missing."""
    weights = {}
    for mode in "none", "bias":
        output = folder / f"{mode}.onnx"
        reply = client.compress(
            MODELS / "resnet.onnx", output, compression_method=method, target={"energy": 0.8}, dataset_path=digits,
            reconstruct=mode, overwrite=True,
        )  # fmt: skip
        assert reply.replaced
        weights[mode] = {value.name: value.raw_data for value in onnx.load(output).graph.initializer}
    assert weights["none"] == weights["bias"]


def test_without_normalizations_there_is_nothing_to_go_by(client, folder):
    net = Net(True)
    convolution(True)(net)
    _, output, reply = refit(client, folder, net.model(), data(net.model(), 4), **{**removing(), "reconstruct": "bias"})
    assert reply.adjusted == [] and not reply.reconstruction.kept and reply.verification.status == "exact"
    assert "batch normalizations" in reply.warnings[0]


# Promises


def test_who_asks_for_nothing_gets_what_he_always_got(client, folder):
    paths = [folder / "plain.onnx", folder / "none.onnx"]
    replies = [
        client.compress(MODELS / "resnet.onnx", path, recommendation_ratio=0.4, overwrite=True, reconstruct=mode)
        for path, mode in zip(paths, (None, "none"))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = ({**reply.raw, "output_path": None} for reply in replies)
    assert first == second and "reconstruction" not in first


def test_the_number_of_threads_changes_nothing(folder, digits):
    files = []
    for threads in 1, 4:
        path = folder / f"threads{threads}.onnx"
        with espalier.connect([daemon.server_path(), "--threads", str(threads)]) as client:
            client.compress(
                MODELS / "mobile.onnx", path, target={"macs": 0.5}, reconstruct="least_squares", dataset_path=digits,
                overwrite=True,
            )  # fmt: skip
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_few_inputs_are_said_to_be_few(client, folder, sample):
    for count, is_fitted in (2, False), (8, True):
        path, dataset = folder / "few.onnx", folder / "few.npy"
        np.save(dataset, sample["calibration"][:count])
        reply = client.compress(
            MODELS / "vit.onnx", path, target={"macs": 0.5}, reconstruct="least_squares", dataset_path=dataset,
            overwrite=True, verify=True,
        )  # fmt: skip
        assert reply.reconstruction.held_out == count // 4 and reply.reconstruction.kept is is_fitted
        assert any(f"{count} " in warning for warning in reply.warnings)


@pytest.mark.parametrize("inputs", ["blank", "one image many times"])
def test_inputs_that_say_nothing_do_no_harm(client, folder, sample, inputs):
    images = sample["calibration"][:1].repeat(64, 0) * (inputs != "blank")
    plain, path, dataset = folder / "plain.onnx", folder / "same.onnx", folder / "same.npy"
    np.save(dataset, images.astype(np.float32))
    client.compress(MODELS / "vit.onnx", plain, target={"macs": 0.7}, overwrite=True)
    reply = client.compress(
        MODELS / "vit.onnx", path, target={"macs": 0.7}, reconstruct="least_squares", dataset_path=dataset,
        overwrite=True, verify=True,
    )  # fmt: skip
    assert not reply.reconstruction.kept and reply.adjusted == []
    assert path.read_bytes() == plain.read_bytes()
    assert any("all the same" in warning for warning in reply.warnings)


@pytest.mark.parametrize("place", [0, 3, 7])
def test_inputs_that_are_no_numbers_are_refused(client, folder, sample, place):
    """Whatever an input is for: fitting, choosing how much of it, judging."""
    spoilt = sample["calibration"][:32].astype(np.float32)
    spoilt[place] = np.nan
    np.save(folder / "spoilt.npy", spoilt)
    with pytest.raises(espalier.ServerError) as refusal:
        client.compress(
            MODELS / "resnet.onnx", folder / "no.onnx", target={"macs": 0.5}, reconstruct="least_squares",
            compression_method="PR_L2", recommendation_method="SLAMP", dataset_path=folder / "spoilt.npy",
        )  # fmt: skip
    assert refusal.value.kind == "dataset.nonFinite" and not (folder / "no.onnx").exists()


def test_it_needs_data_and_says_so(client, folder):
    with pytest.raises(espalier.ServerError) as refusal:
        client.compress(MODELS / "vit.onnx", folder / "no.onnx", target={"macs": 0.5}, reconstruct="least_squares")
    assert refusal.value.kind == "dataset.required" and not (folder / "no.onnx").exists()
    with pytest.raises(espalier.ServerError) as refusal:
        client.compress(MODELS / "vit.onnx", folder / "no.onnx", target={"macs": 0.5}, reconstruct="magic")
    assert refusal.value.code == -32602


def test_it_can_be_cancelled_at_any_time_and_tells_how_far_it_is(client, folder, digits):
    # At once, when it has begun, and in the middle of fitting, whenever that is.
    for least in None, 1, 11:
        path = folder / "cancelled.onnx"
        fractions, reached = [], threading.Event()

        def told(progress, fractions=fractions, reached=reached, least=least):
            fractions.append(progress.percentage)
            if least is not None and (progress.percentage or 0) >= least:
                reached.set()

        call = client.start_compress(
            MODELS / "resnet.onnx", path, target={"macs": 0.5}, reconstruct="least_squares", dataset_path=digits,
            progress=told,
        )  # fmt: skip
        assert least is None or reached.wait(60)
        began = time.monotonic()
        call.cancel()
        with pytest.raises(espalier.EspalierError):
            call.result(10)
        assert time.monotonic() - began < 1 and not path.exists()
    shares = [share for share in fractions if share is not None]
    assert shares == sorted(shares) and shares[-1] > 10


# Few inputs, wide layers


def wide_network():
    """1024 numbers are made one row and summed."""
    rng = np.random.default_rng(11)
    stored = {
        "first.weight": rng.normal(size=(16, 3, 3, 3)) / 5, "first.bias": rng.normal(size=16) / 5,
        "second.weight": rng.normal(size=(24, 1024)) / 32, "second.bias": rng.normal(size=24) / 5,
        "third.weight": rng.normal(size=(5, 24)) / 5,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "first.weight", "first.bias"], ["c"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "second.weight", "second.bias"], ["g"], "second", transB=1),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "third.weight"], ["y"], "third", transB=1),
    ]
    infos = {"x": ["n", 3, 8, 8], "y": ["n", 5]}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in infos.items()]
    graph = helper.make_graph(
        nodes, "net", values[:1], values[1:],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_few_inputs_of_wide_layers_say_what_they_say_many_times_over(client, folder):
    """So few that sums over them are not made; many times over they are, and have to say the same."""
    path, output = folder / "wide.onnx", folder / "wide_out.onnx"
    model = wide_network()
    onnx.save(model, path)
    few = np.random.default_rng(12).normal(size=(32, 3, 8, 8)).astype(np.float32)
    found = {}
    for count in 1, 20:
        dataset = folder / f"wide_{count}.npy"
        np.save(dataset, np.concatenate([few] * count))
        sensitivity = client.sensitivity(path, dataset_path=dataset, ratios=[0.25, 0.5, 0.75])
        told = client.recommend(
            path, compression_method="PR_L2", recommendation_ratio=0.4, dataset_path=dataset
        ).predicted_error
        svd = client.compress(
            path, output, compression_method="FD_SVD", layers=[espalier.LayerSetting("second", [9])],
            dataset_path=dataset, overwrite=True,
        )  # fmt: skip
        factors = {value.name: numpy_helper.to_array(value) for value in onnx.load(output).graph.initializer}
        refit = client.compress(
            path, output, compression_method="PR_REC", recommendation_ratio=0.5, dataset_path=dataset,
            reconstruct="least_squares", overwrite=True,
        )  # fmt: skip
        fitted = {value.name: numpy_helper.to_array(value) for value in onnx.load(output).graph.initializer}
        assert refit.reconstruction.error_after < refit.reconstruction.error_before
        found[count] = (
            [error for group in sensitivity.groups for error in group.predicted_errors], told, svd.replaced[0].output_error, factors,
            fitted, [entry.to_json() for entry in refit.removed],
        )  # fmt: skip
    (errors, told, lost, factors, fitted, removed), again = found[1], found[20]
    assert removed == again[5]
    assert np.allclose(errors, again[0], rtol=1e-4, atol=1e-6) and min(errors) > 0
    assert told == pytest.approx(again[1], rel=1e-4) and lost == pytest.approx(again[2], rel=1e-4)
    for before, after in (factors, again[3]), (fitted, again[4]):
        assert all(np.abs(before[name] - after[name]).max() <= 2e-4 * np.abs(before[name]).max() for name in before)


@pytest.mark.parametrize(
    "name, value, says", [("second.weight", 0, "the weights are zero"), ("first.weight", 0, "the same on all")]
)
def test_what_says_nothing_of_channels_is_told(client, folder, name, value, says):
    path, dataset = folder / "silent.onnx", folder / "silent.npy"
    model = wide_network()
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), name))
    onnx.save(model, path)
    np.save(dataset, np.random.default_rng(12).normal(size=(16, 3, 8, 8)).astype(np.float32))
    skipped = client.sensitivity(path, dataset_path=dataset, ratios=[0.5]).skipped
    assert any("first" in entry.name and says in entry.reason for entry in skipped), skipped
