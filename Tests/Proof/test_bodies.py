"""What lies behind If, Loop and Scan can be pruned, and what reaches them stays."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Net:
    """A convolution, what a test puts behind it, and three more."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.nodes, self.stored = [], []

    def store(self, array, name):
        self.stored.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def convolution(self, x, name, inputs, outputs, size=3):
        weight = self.rng.normal(size=(outputs, inputs, size, size)) / np.sqrt(inputs * size * size)
        pads = [size // 2] * 4
        self.nodes.append(
            helper.make_node("Conv", [x, self.store(weight.astype(np.float32), f"{name}.weight")], [f"{name}.out"], name, pads=pads)
        )
        self.nodes.append(helper.make_node("Relu", [f"{name}.out"], [f"{name}.map"]))
        return f"{name}.map"

    def save(self, path, middle):
        last = middle(self, self.convolution("x", "first", 3, 8))
        for name, inputs, outputs in ("second", 8, 24), ("third", 24, 32), ("fourth", 32, 5):
            last = self.convolution(last, name, inputs, outputs)
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", FLOAT, ["n", 3, 10, 10])],
            [helper.make_tensor_value_info(last, FLOAT, None)], self.stored,
        )  # fmt: skip
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def body(nodes, outputs, inputs=(), stored=()):
    return helper.make_graph(
        nodes, "body", [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs], stored,
    )  # fmt: skip


def choice(net, x):
    """Weights within the branches."""
    branches = {}
    for branch in "then_branch", "else_branch":
        weight = numpy_helper.from_array(net.rng.normal(size=(8, 8, 1, 1)).astype(np.float32), f"{branch}.weight")
        node = helper.make_node("Conv", [x, f"{branch}.weight"], [f"{branch}.out"])
        branches[branch] = body([node], [(f"{branch}.out", FLOAT)], stored=[weight])
    net.nodes += [
        helper.make_node("ReduceMean", [x], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", net.store(np.float32(0.1), "bound")], ["flag"]),
        helper.make_node("If", ["flag"], ["chosen"], "choice", **branches),
    ]
    return "chosen"


def loop(net, x):
    inner = body(
        [
            helper.make_node("Conv", ["v", net.store(net.rng.normal(size=(8, 8, 1, 1)).astype(np.float32), "w")], ["c"]),
            helper.make_node("Tanh", ["c"], ["v2"]),
            helper.make_node("Identity", ["go"], ["go2"]),
        ],
        [("go2", TensorProto.BOOL), ("v2", FLOAT)],
        [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", FLOAT, None)],
    )
    net.nodes.append(
        helper.make_node("Loop", [net.store(np.int64(3), "trips"), "", x], ["looped"], "loop", body=inner)
    )
    return "looped"


def scan(net, x):
    """Along the height."""
    inner = body(
        [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Tanh", ["t"], ["s2"]),
         helper.make_node("Identity", ["s2"], ["o"])],
        [("s2", FLOAT), ("o", FLOAT)], [("s", FLOAT, None), ("e", FLOAT, None)],
    )  # fmt: skip
    net.nodes += [
        helper.make_node("ReduceMean", [x], ["start"], axes=[2], keepdims=0),
        helper.make_node(
            "Scan", ["start", x], ["end", "scanned"], "scan", body=inner, num_scan_inputs=1, scan_input_axes=[2],
            scan_output_axes=[2],
        ),
    ]  # fmt: skip
    return "scanned"


@pytest.mark.parametrize("middle", [choice, loop, scan])
def test_what_lies_behind_is_pruned(client, folder, middle):
    path, output = folder / "original.onnx", folder / "compressed.onnx"
    Net().save(path, middle)
    reply = client.compress(
        path, output, recommendation_ratio=0.5, options={"step_size": 1, "min_num_of_value": 1}, verify=True,
        overwrite=True,
    )  # fmt: skip
    assert reply.verification.status == "exact"
    cut = {entry.parameter for entry in reply.removed}
    assert {"second.weight", "third.weight", "fourth.weight"} <= cut and "first.weight" not in cut
    shapes = {value.name: list(value.dims) for value in onnx.load(output).graph.initializer}
    assert shapes["second.weight"][1] == 8 and shapes["second.weight"][0] < 24 and shapes["third.weight"][0] < 32
