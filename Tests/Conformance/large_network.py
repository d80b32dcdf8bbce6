"""A chain of convolutions with weights of 2.4 MB each."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_large_network(path, depth=40, channels=256):
    weights = np.random.default_rng(0).standard_normal((channels, channels, 3, 3), dtype=np.float32)
    nodes, stored, value = [], [], "x"
    for index in range(depth):
        weight = weights[np.roll(np.arange(channels), index)] if index else weights[:, :3]
        stored.append(numpy_helper.from_array(np.ascontiguousarray(weight), f"w{index}"))
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
        value = f"r{index}"
    stored.append(numpy_helper.from_array(weights[:10, :, :1, :1].copy(), "head"))
    nodes.append(helper.make_node("Conv", [value, "head"], ["y"], "head"))
    graph = helper.make_graph(
        nodes, "large", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10, 8, 8])], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
