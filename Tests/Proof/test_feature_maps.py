"""PR_NN and PR_SNP on real forward passes: which channels go, against NumPy on ONNX Runtime's own feature maps.

Scores are computed here from their definitions: singular values of every map, and of every head's whole matrix of
attention scores.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import running

PLAIN = {"layer_norm": "none", "group_policy": "none", "step_op": "none", "min_num_of_value": 1}
TOKENS, HEADS, WIDTH = 9, 3, 8


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def save(path, nodes, initializers, shape, output):
    graph = helper.make_graph(
        nodes,
        "feature_maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def values(path, names, samples):
    model = onnx.load(path)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = running.session(model)
    return session.run(names, {"x": samples})


def convolutional(path, rng):
    """Convolutions with a written-out activation, a residual sum, and a pooled tail."""
    weights = {
        "a": rng.normal(size=(12, 3, 3, 3)),
        "b": rng.normal(size=(10, 12, 3, 3)),
        "c": rng.normal(size=(12, 10, 1, 1)),
        "head": rng.normal(size=(12, 5)),
    }
    norm = {name: rng.uniform(0.5, 1.5, 12) for name in ("scale", "bias", "mean", "variance")}
    initializers = [tensor(k, v.astype(np.float32)) for k, v in {**weights, **norm}.items()]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["a_out"], "conv_a", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a_out", "scale", "bias", "mean", "variance"], ["a_norm"], "norm"),
        helper.make_node("Relu", ["a_norm"], ["stream"], "relu"),
        helper.make_node("Conv", ["stream", "b"], ["b_out"], "conv_b", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["b_out"], ["gate"], "sigmoid"),
        helper.make_node("Mul", ["b_out", "gate"], ["swish"], "mul"),
        helper.make_node("Conv", ["swish", "c"], ["c_out"], "conv_c"),
        helper.make_node("Add", ["c_out", "stream"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head"], ["y"], "gemm"),
    ]
    save(path, nodes, initializers, (3, 8, 6), "y")


def attention(path, rng):
    total = HEADS * WIDTH
    weights = {name: rng.normal(size=(total, total)) for name in ("q", "k", "v", "o")}
    initializers = [tensor(k, v.astype(np.float32)) for k, v in weights.items()]
    initializers += [tensor("heads", [0, TOKENS, HEADS, WIDTH]), tensor("flat", [0, TOKENS, total])]
    initializers += [tensor("scale", np.float32(0.1))]
    nodes = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["x", name], [f"{name}_out"], f"project_{name}"),
            helper.make_node("Reshape", [f"{name}_out", "heads"], [f"{name}_split"]),
            helper.make_node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=order),
        ]
    nodes += [
        helper.make_node("MatMul", ["q_heads", "k_heads"], ["scores"], "scores"),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v_heads"], ["mixed"], "mixed"),
        helper.make_node("Transpose", ["mixed"], ["mixed_tokens"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["mixed_tokens", "flat"], ["joined"]),
        helper.make_node("MatMul", ["joined", "o"], ["y"], "out"),
    ]
    save(path, nodes, initializers, (TOKENS, total), "y")


def nuclear_norms(maps):
    return np.linalg.svd(maps.astype(np.float64), compute_uv=False).sum(-1).mean(0)


def lowest(scores, count):
    return sorted(np.argsort(scores, kind="stable")[:count].tolist())


def removed(client, path, samples, method, parameter, axis, ratio, layer, **options):
    np.save(path.parent / "samples.npy", samples)
    reply = client.compress(
        path,
        path.parent / "never.onnx",
        compression_method=method,
        layers=[setting(layer, ratio)],
        options={**PLAIN, **options},
        dataset_path=path.parent / "samples.npy",
        dry_run=True,
    )
    return next(r.indices for r in reply.removed if (r.parameter, r.axis) == (parameter, axis))


def setting(name, ratio):
    import espalier

    return espalier.LayerSetting(name, [ratio])


@pytest.mark.parametrize("seed", range(4))
def test_nuclear_norms(client, tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "convolutional.onnx"
    convolutional(path, rng)
    samples = rng.normal(size=(5, 3, 8, 6)).astype(np.float32)
    stream, swish, c, total = (nuclear_norms(v) for v in values(path, ["stream", "swish", "c_out", "sum"], samples))

    def gone(parameter, ratio, layer, **options):
        return removed(client, path, samples, "PR_NN", parameter, 0, ratio, layer, **options)

    assert gone("b", 0.5, "conv_b") == lowest(swish, 5)
    assert gone("a", 0.5, "add") == lowest(stream + c, 6)
    assert gone("a", 0.5, "add", layer_norm="tss_norm") == lowest(stream / stream.sum() + c / c.sum(), 6)
    assert gone("c", 0.25, "add", policy="backward") == lowest(total, 3)


def pair_scores(queries, keys, energy):
    left, sigma, right = np.linalg.svd(queries @ keys.T)
    share = np.cumsum(sigma**2) / (sigma**2).sum()
    count = int(np.searchsorted(share, energy - 1e-12)) + 1 if energy < 1 else int(energy)
    along = np.abs(left[:, :count].T @ queries) * np.abs(right[:count] @ keys)
    return along.sum(0) / (np.linalg.norm(queries, axis=0) * np.linalg.norm(keys, axis=0))


@pytest.mark.parametrize("gamma", [0.9, 2])
def test_attention_scores(client, tmp_path, gamma):
    rng = np.random.default_rng(7)
    path = tmp_path / "attention.onnx"
    attention(path, rng)
    samples = rng.normal(size=(6, TOKENS, HEADS * WIDTH)).astype(np.float32)
    queries, keys = (v.astype(np.float64) for v in values(path, ["q_heads", "k_heads"], samples))
    expected = []
    for head in range(HEADS):
        scores = np.mean(
            [pair_scores(queries[s, head], keys[s, head].T, gamma) for s in range(len(samples))], axis=0
        )
        expected += [head * WIDTH + i for i in lowest(scores, 3)]
    for parameter in ("q", "k"):
        found = removed(
            client, path, samples, "PR_SNP", parameter, 1, 3 / WIDTH, "project_q", snp_gamma=gamma
        )
        assert found == expected

    weight = numpy_helper.to_array(next(t for t in onnx.load(path).graph.initializer if t.name == "v")).T
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    redundancy = (1 - np.abs(unit @ unit.T)).sum(1)
    expected = [
        head * WIDTH + i for head in range(HEADS) for i in lowest(redundancy[head * WIDTH : (head + 1) * WIDTH], 2)
    ]
    assert removed(client, path, samples, "PR_SNP", "v", 1, 0.25, "project_v", snp_gamma=gamma) == expected


def heads(path, form, rng, width=24, count=3, tokens=7):
    """Attention over queries, keys and values that three layers, or one, make with a bias: written out, or fused."""
    stored = {f"w{k}": rng.normal(0, 0.4, (width, width)).astype(np.float32) for k in "qkvo"}
    biases = {k: rng.normal(0, 0.8, width).astype(np.float32) for k in "qkv"}
    nodes = [helper.make_node("MatMul", ["x", f"w{k}"], [f"m{k}"], f"layer_{k}") for k in "qkv"]
    operands = [f"m{k}" for k in "qkv"]
    if form.startswith("packed"):
        stored["wqkv"] = np.concatenate([stored.pop(f"w{k}") for k in "qkv"], 1)
        stored["bias"] = np.concatenate([biases[k] for k in "qkv"])
        nodes = []
    if form == "packed, written out":
        stored["parts"] = np.array([width] * 3)
        nodes = [
            helper.make_node("MatMul", ["x", "wqkv"], ["product"], "layer_qkv"),
            helper.make_node("Add", ["product", "bias"], ["packed"]),
            helper.make_node("Split", ["packed", "parts"], [f"a{k}" for k in "qkv"], axis=-1),
        ]
    elif form == "packed":
        pass
    elif form == "bias inside":
        stored["bias"] = np.concatenate([biases[k] for k in "qkv"])
        operands.append("bias")
    else:
        for k in "qkv":
            stored[f"b{k}"] = biases[k]
            nodes.append(helper.make_node("Add", [f"m{k}", f"b{k}"], [f"a{k}"], f"add_{k}"))
        operands = [f"a{k}" for k in "qkv"]
    if form.endswith("written out"):
        stored["apart"] = np.array([0, 0, count, width // count])
        stored["together"] = np.array([0, 0, width])
        stored["scale"] = np.float32(1 / np.sqrt(width // count))
        for k, order in zip("qkv", [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]):
            nodes.append(helper.make_node("Reshape", [f"a{k}", "apart"], [f"r{k}"]))
            nodes.append(helper.make_node("Transpose", [f"r{k}"], [f"t{k}"], perm=order))
        nodes += [
            helper.make_node("MatMul", ["tq", "tk"], ["scores"]), helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
            helper.make_node("Softmax", ["scaled"], ["shares"], axis=-1),
            helper.make_node("MatMul", ["shares", "tv"], ["seen"]),
            helper.make_node("Transpose", ["seen"], ["back"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["back", "together"], ["attended"]),
        ]  # fmt: skip
    elif form == "packed":
        fused = {"domain": "com.microsoft", "num_heads": count}
        nodes.append(helper.make_node("Attention", ["x", "wqkv", "bias"], ["attended"], "fused", **fused))
    elif form == "standard":
        nodes.append(helper.make_node("Attention", operands, ["attended"], q_num_heads=count, kv_num_heads=count))
    else:
        fused = {"domain": "com.microsoft", "num_heads": count}
        nodes.append(helper.make_node("MultiHeadAttention", operands, ["attended"], **fused))
    nodes.append(helper.make_node("MatMul", ["attended", "wo"], ["y"], "out"))
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", tokens, width]) for name in "xy"]
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "heads", info[:1], info[1:], initializers)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("axis", [-1, -2])
def test_fused_attention_is_seen_as_if_written_out(client, tmp_path, axis, seed):
    path, samples = tmp_path / "heads.onnx", tmp_path / "samples.npy"
    np.save(samples, np.random.default_rng(1).normal(0, 1, (6, 7, 24)).astype(np.float32))
    options = {**PLAIN, "scope": "layer", "group_policy": "none", "reshape_channel_axis": axis}

    def gone(form):
        heads(path, form, np.random.default_rng(seed))
        reply = client.compress(
            path, tmp_path / "smaller.onnx", compression_method="PR_SNP", recommendation_ratio=0.4,
            options=options, dataset_path=samples, overwrite=True,
        )  # fmt: skip
        found = {entry.parameter: entry.indices for entry in reply.removed if entry.axis == 1}
        for k, parameter in enumerate(["wq", "wk", "wv"] if "wqkv" in found else []):
            found[parameter] = [i - 24 * k for i in found["wqkv"] if i // 24 == k]
        found.pop("wqkv", None)
        return found

    wanted = gone("written out")
    assert len(wanted["wq"]) >= 6
    for form in ["standard", "bias outside", "bias inside", "packed, written out", "packed"]:
        assert gone(form) == wanted, form


def test_what_is_refused(client, tmp_path):
    import espalier

    path = tmp_path / "convolutional.onnx"
    convolutional(path, np.random.default_rng(0))

    def kind(samples, method="PR_NN"):
        np.save(tmp_path / "samples.npy", samples)
        with pytest.raises(espalier.ServerError) as error:
            client.recommend(
                path, recommendation_ratio=0.5, compression_method=method, dataset_path=tmp_path / "samples.npy"
            )
        return error.value.kind

    with pytest.raises(espalier.ServerError) as error:
        client.recommend(path, recommendation_ratio=0.5, compression_method="PR_NN")
    assert error.value.kind == "dataset.required"
    good = np.ones((2, 3, 8, 6), np.float32)
    # Here it has nothing to measure, which makes no good data of bad.
    assert kind(good * np.nan, "PR_SNP") == "dataset.nonFinite"
    assert kind(good * np.inf) == "dataset.nonFinite"
    assert kind(good[:, :2]) == "dataset.mismatch"
    assert kind(good.astype(np.float64)) == "dataset.mismatch"
