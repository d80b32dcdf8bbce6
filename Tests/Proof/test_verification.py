"""The daemon's own verification: its verdicts agree with the independent proof, and it finds faults planted in files.

What is built here from labels (the masked original, its twin) reference.py and masking.py build from the list of removed
slices alone, so a shared mistake is unlikely. Where the outputs are the original's own, the comparison must say zero:
that proves the models that the daemon writes down for the runtime.
"""

import dataclasses
import os
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import daemon
import espalier
import graphs
import hazards
import plans
import reference
import skeletons

SEEDS = 80
ZOO = [("torchscript", "resnet18"), ("dynamic", "mobilenet_v3_large"), ("dynamo", "shufflenet_v2_x1_0")]
ratios = []


def removed_of(reply):
    return [entry.to_json() for entry in reply.removed]


# MARK: Verdicts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_verdict_agrees_with_the_proof(client, folder, seed):
    model = graphs.random_graph(3000 + seed)
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(model, path)
    for case in plans.cases(client, path, seed):
        reply = client.compress(path, output, overwrite=True, verify=True, **case.arguments)
        found = reply.verification
        assert found == client.verify(path, output, reply), case
        if found.approximations:
            assert found.status == "exact" or (found.status, found.twin.status) == ("approximate", "exact"), case
            continue
        assert found.status == "exact" and found.twin is None and found.reason is None, case
        proof = reference.prove(model, onnx.load(output), removed_of(reply), seed)
        assert proof.largest_difference <= reference.TOLERANCE
        ratios.append(found.max_rel_error / max(found.noise, 1e-7))


def test_products_of_bytes_are_exact_on_every_processor(client, folder):
    """Where sums of two overflow 16 bits, as without AVX-512 VNNI, what a channel gives depends on its neighbours."""
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(hazards.HAZARDS["convolutions_on_integers"](), path)
    for ratio in (0.2, 0.3, 0.4, 0.5, 0.6):
        options = {**plans.STRESS, "group_policy": "none"}
        reply = client.compress(path, output, overwrite=True, recommendation_ratio=ratio, options=options, verify=True)
        assert reply.removed and reply.verification.status == "exact"


def test_the_tolerance_has_room():
    """Rounding stays far from what is allowed for it, and what is allowed far from what a fault does."""
    assert len(ratios) > SEEDS
    assert max(ratios) < 100 and np.median(ratios) < 4


@pytest.mark.parametrize("exporter, name", ZOO)
def test_real_networks(client, folder, exporter, name):
    model = skeletons.materialize(name, exporter)
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(model, path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.5, verify=True)
    assert reply.verification.status == "exact"
    assert reply.verification.max_rel_error < 1e-5
    reference.prove(model, onnx.load(output), removed_of(reply), runs=1)


def transformer_block(width=16, tokens=6):
    """A residual stream between two layer norms, one of them written out in parts, and a gated MLP."""
    rng = np.random.default_rng(5)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    initializers = [
        weight("in.w", 5, width), weight("ln.s", width), weight("ln.b", width), weight("up", width, 24),
        weight("gate", width, 24), weight("down", 24, width), weight("rms.s", width), weight("head", width, 3),
        numpy_helper.from_array(np.float32(2), "two"), numpy_helper.from_array(np.float32(1e-5), "eps"),
        numpy_helper.from_array(np.int64([-1]), "last"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "in.w"], ["h"], "embed"),
        helper.make_node("LayerNormalization", ["h", "ln.s", "ln.b"], ["n"], "norm", axis=-1),
        helper.make_node("MatMul", ["n", "up"], ["u"], "up"),
        helper.make_node("MatMul", ["n", "gate"], ["g"], "gate"),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["u", "s"], ["m"]),
        helper.make_node("MatMul", ["m", "down"], ["d"], "down"),
        helper.make_node("Add", ["h", "d"], ["r"], "residual"),
        helper.make_node("Pow", ["r", "two"], ["q"]),
        helper.make_node("ReduceMean", ["q", "last"], ["v"], "mean"),
        helper.make_node("Add", ["v", "eps"], ["ve"]),
        helper.make_node("Sqrt", ["ve"], ["sd"]),
        helper.make_node("Div", ["r", "sd"], ["z"]),
        helper.make_node("Mul", ["z", "rms.s"], ["y"]),
        helper.make_node("MatMul", ["y", "head"], ["out"], "head"),
    ]
    graph = helper.make_graph(
        nodes, "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", tokens, 5])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", tokens, 3])], initializers,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_statistics_across_removed_channels_are_approximate_and_the_twin_is_exact(client, folder):
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(transformer_block(), path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS, verify=True)
    found = reply.verification
    assert found.status == "approximate" and found.max_rel_error > 100 * found.tolerance
    assert found.twin.status == "exact" and found.twin.max_rel_error <= found.tolerance
    assert {a.name for a in found.approximations} == {"norm", "mean"} and "'norm'" in found.reason
    assert client.verify(path, output, reply) == found

    reply = client.compress(
        path, output, overwrite=True, recommendation_ratio=0.3, options={**plans.STRESS, "exact_only": True}, verify=True
    )
    assert reply.verification.status == "exact" and not reply.verification.approximations


# MARK: What is written for the runtime


def unchanged(client, path):
    reply = espalier.Compression(None, None, [], [], [], None)
    return client.verify(path, path, reply)


@pytest.mark.parametrize("name", sorted(hazards.everything()))
def test_a_hazard_written_down_again_gives_the_same_bits(client, folder, name):
    path = folder / "original.onnx"
    onnx.save(hazards.everything()[name](), path)
    found = unchanged(client, path)
    assert (found.status, found.max_abs_error) == ("exact", 0.0)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_network_written_down_again_gives_the_same_bits(client, folder, seed):
    path = folder / "original.onnx"
    onnx.save(graphs.random_graph(4000 + seed), path)
    found = unchanged(client, path)
    assert (found.status, found.max_abs_error) == ("exact", 0.0)


# MARK: Faults


def swap_rows(model, name):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array[[0, 1]] = array[[1, 0]]
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def change(model, name, by):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += by
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def change_attribute(model, op, name, value):
    node = next(n for n in model.graph.node if n.op_type == op)
    attribute = next(a for a in node.attribute if a.name == name)
    attribute.CopyFrom(helper.make_attribute(name, value))


def rewire(model, op):
    nodes = [n for n in model.graph.node if n.op_type == op]
    nodes[1].input[0] = nodes[0].input[0]


def names(model, rank):
    return [t.name for t in model.graph.initializer if len(t.dims) == rank and t.dims[0] > 1]


FAULTS = {
    "two rows of a weight swapped": lambda m: swap_rows(m, names(m, 4)[2]),
    "one bias a hundredth larger": lambda m: change(m, names(m, 1)[3], 1e-2),
    "one bias a millionth larger": lambda m: change(m, names(m, 1)[0], 1e-6),
    "another padding": lambda m: change_attribute(m, "Conv", "pads", [2, 2, 4, 4]),
    "another input": lambda m: rewire(m, "Relu"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(client, folder, fault):
    path, output, faulty = folder / "original.onnx", folder / "compressed.onnx", folder / "faulty.onnx"
    onnx.save(skeletons.materialize("resnet18", "torchscript"), path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.4)
    assert reply.verification.status == "skipped"
    assert client.verify(path, output, reply).status == "exact"
    model = onnx.load(output)
    FAULTS[fault](model)
    onnx.save(model, faulty)
    found = client.verify(path, faulty, reply)
    assert found.status == "failed" and found.reason


def branching(bias):
    """A network whose last bias stands inside both branches of an If, where only running it shows what it is."""

    def branch(name, numbers):
        value = helper.make_tensor(name + ".c", TensorProto.FLOAT, [4], numbers)
        nodes = [
            helper.make_node("Constant", [], [name + ".c"], value=value),
            helper.make_node("Add", ["f", name + ".c"], [name]),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(name)])

    rng = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in (("a", (12, 3, 3, 3)), ("b", (8, 12, 3, 3)), ("c", (8, 4)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], "first"),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "b"], ["r"], "second"),
        helper.make_node("GlobalAveragePool", ["r"], ["s"]),
        helper.make_node("Flatten", ["s"], ["t"]),
        helper.make_node("Gemm", ["t", "c"], ["f"], "third"),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"], "choice",
            then_branch=branch("then", [1, 2, 3, 4]), else_branch=branch("else", [bias, 2, 3, 4]),
        ),
    ]  # fmt: skip
    weights.append(numpy_helper.from_array(np.float32(0), "zero"))
    graph = helper.make_graph(
        nodes, "branching", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("bias, status", [(1.0, "exact"), (1.001, "failed")])
def test_a_fault_that_only_numbers_show(client, folder, bias, status):
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(branching(1.0), path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS, verify=True)
    assert reply.verification.status == "exact" and reply.removed
    model = onnx.load(output)
    branches = next(n for n in model.graph.node if n.op_type == "If").attribute
    other = next(a for a in branches if a.name == "else_branch").g.node[0].attribute[0].t
    other.CopyFrom(helper.make_tensor(other.name, TensorProto.FLOAT, [4], [bias, 2, 3, 4]))
    onnx.save(model, output)
    found = client.verify(path, output, reply)
    assert found.status == status
    assert status == "exact" or found.tolerance < found.max_rel_error < 1e-2


def test_a_listing_that_no_removal_takes_is_refused(client, folder):
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(branching(1.0), path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS)
    for listing in (
        reply.removed[:-1],
        [dataclasses.replace(reply.removed[0], indices=[0, 99]), *reply.removed[1:]],
        [dataclasses.replace(reply.removed[0], parameter="nobody"), *reply.removed[1:]],
        [dataclasses.replace(reply.removed[0], axis=7), *reply.removed[1:]],
    ):
        with pytest.raises(espalier.InvalidParams) as refusal:
            client.verify(path, output, dataclasses.replace(reply, removed=listing))
        assert refusal.value.data["path"] == "/removed"


def test_copies_of_shared_vectors_are_listed_and_verified(client, folder):
    seen = 0
    for seed in range(400):
        model = graphs.random_graph(seed)
        path, output = folder / "original.onnx", folder / "compressed.onnx"
        onnx.save(model, path)
        for case in plans.cases(client, path, seed):
            reply = client.compress(path, output, overwrite=True, **case.arguments)
            if reply.copied:
                assert client.verify(path, output, reply).status in ("exact", "approximate")
                seen += 1
        if seen >= 3:
            return
    pytest.fail("no random network needed a copy")


def rename_output(model):
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"


def rename_length(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "other"


def open_length(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "open"


def widen_output(model):
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def lower_opset(model):
    model.opset_import[0].version -= 1


def add_opset(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def add_tensor(model):
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "junk"))


def add_node(model):
    model.graph.node.append(helper.make_node("Relu", [model.graph.node[0].output[0]], ["junk"], "junk"))


CHANGES = [rename_output, rename_length, open_length, widen_output, lower_opset, add_opset, add_tensor, add_node]


@pytest.mark.parametrize("change", CHANGES)
def test_what_no_number_shows(client, folder, change):
    """Changes of a file that leave every output as it was."""
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(transformer_block(), path)
    reply = client.compress(path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS)
    assert client.verify(path, output, reply).status in ("exact", "approximate")
    model = onnx.load(output)
    change(model)
    onnx.save(model, output)
    found = client.verify(path, output, reply)
    assert found.status == "failed" and found.samples == 0, found


# MARK: What it is fed, and without a runtime


def test_a_dataset_is_fed(client, folder):
    path, output, data = folder / "original.onnx", folder / "compressed.onnx", folder / "images.npy"
    onnx.save(branching(1.0), path)
    np.save(data, np.ones((5, 3, 8, 8), np.float32))
    found = client.compress(
        path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS, verify=True, dataset_path=data
    ).verification
    assert (found.status, found.samples, found.samples_given) == ("exact", 5, 5)
    np.save(data, np.ones((200, 3, 8, 8), np.float32))
    found = client.compress(
        path, output, overwrite=True, recommendation_ratio=0.5, options=plans.STRESS, verify=True, dataset_path=data
    ).verification
    assert (found.status, found.samples, found.samples_given) == ("exact", 32, 200)
    np.save(data, np.ones((5, 3, 9, 9), np.float32))
    before = output.read_bytes()
    with pytest.raises(espalier.ServerError) as refusal:
        client.compress(
            path, output, overwrite=True, recommendation_ratio=0.3, options=plans.STRESS, verify=True, dataset_path=data
        )
    assert refusal.value.kind == "dataset.mismatch" and output.read_bytes() == before


def test_without_a_runtime_nothing_is_begun(folder, monkeypatch):
    monkeypatch.setenv("ESPALIER_ONNXRUNTIME", "/nonexistent")
    path, output = folder / "original.onnx", folder / "never.onnx"
    onnx.save(branching(1.0), path)
    with espalier.connect(daemon.server_path()) as client:
        with pytest.raises(espalier.ServerError) as refusal:
            client.compress(path, output, recommendation_ratio=0.5, options=plans.STRESS, verify=True)
        assert refusal.value.kind == "runtime.unavailable"
        assert not output.exists()
        reply = client.compress(path, output, recommendation_ratio=0.5, options=plans.STRESS)
        with pytest.raises(espalier.ServerError) as refusal:
            client.verify(path, output, reply)
        assert refusal.value.kind == "runtime.unavailable"
    output.unlink()


def test_cancelled_while_it_runs_it_leaves_nothing(client, folder):
    path, output = folder / "original.onnx", folder / "cancelled.onnx"
    onnx.save(skeletons.materialize("resnet50", "torchscript"), path)
    client.inspect(path)
    for seconds in (0.05, 0.3, 0.6):
        call = client.start_compress(path, output, recommendation_ratio=0.5, verify=True)
        timer = threading.Timer(seconds, call.cancel)
        timer.start()
        try:
            call.result(60)
        except espalier.Cancelled:
            assert not output.exists()
        timer.join()
        output.unlink(missing_ok=True)
        assert not [name for name in os.listdir(folder) if name.startswith(".espalier")]


def test_weights_in_other_files(client, folder, tmp_path):
    path, output = tmp_path / "original.onnx", tmp_path / "compressed.onnx"
    model = skeletons.materialize("resnet18", "torchscript")
    onnx.save_model(model, path, save_as_external_data=True, location="original.data", size_threshold=64)
    reply = client.compress(path, output, recommendation_ratio=0.5, verify=True)
    assert reply.verification.status == "exact"
    assert client.verify(path, output, reply).status == "exact"
    assert sorted(os.listdir(tmp_path)) == ["compressed.onnx", "compressed.onnx.data", "original.data", "original.onnx"]
    with open(tmp_path / "compressed.onnx.data", "r+b") as file:
        file.seek(4096)
        file.write(b"\1\2\3\4")
    assert client.verify(path, output, reply).status == "failed"


# MARK: What a network holds


def small_network(path, *, outputs=("y",), **numbers):
    """Two convolutions; `numbers` at places of their weights."""
    rng = np.random.default_rng(3)
    stored = {"w1": (16, 3, 3, 3), "w2": (6, 16, 3, 3)}
    stored = {name: rng.normal(size=shape).astype(np.float32) for name, shape in stored.items()}
    for name, (place, number) in numbers.items():
        stored[name][place] = number
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "first", pads=[1] * 4),
        helper.make_node("Conv", ["c", "w2"], ["y"], "second", pads=[1] * 4),
    ]
    values = {"x": ["n", 3, 8, 8], "y": ["n", 6, 8, 8]}
    infos = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()}
    graph = helper.make_graph(
        nodes, "net", [infos["x"]], [infos[name] for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(client, folder, number):
    """Silenced channels are multiplied by zero, which leaves NaN what it is: nobody's defect but the weight's."""
    path, output = folder / "original.onnx", folder / "unwritten.onnx"
    # What reads a channel that goes, and one that stays and leaves no number a number.
    for place, gone in ((1, 5, 1, 1), [5]), (np.s_[:, 7, 1, 1], [5]):
        small_network(path, w2=(place, number))
        with pytest.raises(espalier.ServerError) as error:
            client.compress(
                path, output, compression_method="PR_ID", layers=[espalier.LayerSetting("first", gone)], verify=True
            )
        assert error.value.kind == "verify.impossible" and "'w2'" in str(error.value) and not output.exists()


def test_outputs_that_rounding_alone_decides_are_no_verdict(client, folder):
    """Chaos: whatever is added up in another order comes out as something else, in the original too."""
    path, output = folder / "original.onnx", folder / "unwritten.onnx"
    rng = np.random.default_rng(3)
    stored = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)), "w2": rng.normal(0, 0.3, (8, 16, 3, 3)), "four": np.array(4.0),
        **{name: rng.uniform(0.5, 1.5, 8) for name in ("scale", "shift", "mean", "variance")},
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["first"], "first"),
        helper.make_node("Conv", ["first", "w2"], ["second"], "second"),
        helper.make_node("BatchNormalization", ["second", "scale", "shift", "mean", "variance"], ["normal"]),
        helper.make_node("Sigmoid", ["normal"], ["value0"]),
    ]
    for k in range(60):  # the logistic map doubles a difference every time
        nodes += [
            helper.make_node("Mul", [f"value{k}", f"value{k}"], [f"square{k}"]),
            helper.make_node("Sub", [f"value{k}", f"square{k}"], [f"product{k}"]),
            helper.make_node("Mul", [f"product{k}", "four"], [f"value{k + 1}"]),
        ]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("value60", TensorProto.FLOAT, [1, 8, 4, 4])]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "chaos", infos, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    # A channel less leaves the other sums as they were, in their order; factors do not.
    request = {"compression_method": "FD_TK", "layers": [espalier.LayerSetting("second", [4, 4])]}
    with pytest.raises(espalier.ServerError) as error:
        client.compress(path, output, **request, verify=True)
    assert error.value.kind == "verify.impossible" and "rounding" in str(error.value) and not output.exists()
    client.compress(path, output, **request)
    assert output.exists()


def test_outputs_that_are_zero_but_for_rounding_are_no_verdict(client, folder):
    """The mean of what was given a mean of zero."""
    path, output = folder / "mean.onnx", folder / "nothing.onnx"
    rng = np.random.default_rng(4)
    thin = [rng.normal(0, 0.2, (out, 3)) @ rng.normal(0, 0.2, (3, 9 * into)) for out, into in ((16, 3), (32, 16))]
    stored = {
        "w1": thin[0].reshape(16, 3, 3, 3), "w2": thin[1].reshape(32, 16, 3, 3), "w3": rng.normal(0, 0.2, (32, 4)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["first"], "first"),
        helper.make_node("Conv", ["first", "w2"], ["second"], "second"),
        helper.make_node("MeanVarianceNormalization", ["second"], ["normal"]),
        helper.make_node("ReduceMean", ["normal"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w3"], ["y"], "last"),
    ]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "nothing", infos, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    layers = [espalier.LayerSetting("second", [3, 3])]
    with pytest.raises(espalier.ServerError) as error:
        client.compress(path, output, compression_method="FD_TK", layers=layers, verify=True)
    assert error.value.kind == "verify.impossible" and "rounding" in str(error.value) and not output.exists()


def test_an_input_that_is_an_output(client, folder):
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    small_network(path, outputs=("y", "x"))
    reply = client.compress(path, output, recommendation_ratio=0.4, overwrite=True, verify=True)
    assert reply.verification.status == "exact"
