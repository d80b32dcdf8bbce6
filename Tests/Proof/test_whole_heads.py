"""Whole heads that go: a head's score is the mean of its channels', against NumPy."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

HEADS, WIDTH, FEATURES = 4, 6, 10


def attention(path, rng):
    stored = {name: rng.normal(size=(FEATURES, HEADS * WIDTH)) * rng.uniform(0.2, 2, HEADS * WIDTH) for name in "qkv"}
    stored["out"] = rng.normal(size=(HEADS * WIDTH, FEATURES))
    nodes = []
    for name in "qkv":
        nodes += [
            helper.make_node("MatMul", ["x", name], [f"{name}_flat"], f"{name}_projection"),
            helper.make_node("Reshape", [f"{name}_flat", "split"], [f"{name}_split"], f"{name}_reshape"),
            helper.make_node(
                "Transpose", [f"{name}_split"], [f"{name}_heads"], f"{name}_transpose",
                perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3],
            ),
        ]  # fmt: skip
    nodes += [
        helper.make_node("MatMul", ["q_heads", "k_heads"], ["products"], "scores"),
        helper.make_node("Mul", ["products", "scale"], ["scaled"], "scaling"),
        helper.make_node("Softmax", ["scaled"], ["shares"], "softmax", axis=-1),
        helper.make_node("MatMul", ["shares", "v_heads"], ["mixed"], "mixing"),
        helper.make_node("Transpose", ["mixed"], ["turned"], "turning", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "join"], ["joined"], "joining"),
        helper.make_node("MatMul", ["joined", "out"], ["y"], "projection"),
    ]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()]
    initializers += [
        numpy_helper.from_array(np.array([0, 0, HEADS, WIDTH]), "split"),
        numpy_helper.from_array(np.array([0, 0, HEADS * WIDTH]), "join"),
        numpy_helper.from_array(np.float32(WIDTH**-0.5), "scale"),
    ]
    graph = helper.make_graph(
        nodes, "attention", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], initializers,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return stored


def norms(filters):
    return np.linalg.norm(filters, axis=1)


def distances(filters):
    return np.linalg.norm(filters[:, None] - filters[None], axis=2).sum(1)


SCORES = {"PR_L2": norms, "PR_L1": lambda filters: np.abs(filters).sum(1), "PR_GM": distances}


@pytest.mark.parametrize("axis", [-2, 0])
@pytest.mark.parametrize("method", SCORES)
def test_a_head_has_the_mean_score_of_its_channels(client, folder, method, axis):
    path = folder / "heads.onnx"
    for seed in range(6):
        stored = attention(path, np.random.default_rng(seed))
        score = sum(SCORES[method](stored[name].astype(np.float32).T).reshape(HEADS, WIDTH).mean(1) for name in "qkv")
        first, second = np.sort(np.argsort(score, kind="stable")[:2]) * WIDTH
        reply = client.compress(
            path, dry_run=True, compression_method=method, recommendation_ratio=0.5,
            options={"reshape_channel_axis": axis, "layer_norm": "none", "min_num_of_value": 1, "step_size": 1},
        )  # fmt: skip
        wanted = [*range(first, first + WIDTH), *range(second, second + WIDTH)]
        for name in "qkv":
            (removed,) = [entry.indices for entry in reply.removed if entry.parameter == name]
            assert removed == wanted
