"""Sizes on file that are asked for are those of the file."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


def test_what_rewriting_takes_counts_toward_a_size_on_file(client, folder):
    """Bounds of slices that are computed are computed differently: new nodes, which in a small file are a share of it."""
    rng = np.random.default_rng(2)
    nodes, stored, last = [], {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])}, "x"
    for k in range(6):
        stored[f"weight{k}"] = (rng.normal(size=(24, 3 if k == 0 else 12, 3, 3)) / 6).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [last, f"weight{k}"], [f"c{k}"], f"layer{k}", pads=[1] * 4),
            helper.make_node("Shape", [f"c{k}"], [f"s{k}"]),
            helper.make_node("Gather", [f"s{k}", "one"], [f"n{k}"], axis=0),
            helper.make_node("Div", [f"n{k}", "two"], [f"h{k}"]),
            helper.make_node("Slice", [f"c{k}", "zero", f"h{k}", "one"], [f"a{k}"]),
            helper.make_node("Slice", [f"c{k}", f"h{k}", f"n{k}", "one"], [f"b{k}"]),
            helper.make_node("Sigmoid", [f"b{k}"], [f"g{k}"]),
            helper.make_node("Mul", [f"a{k}", f"g{k}"], [f"m{k}"]),
        ]
        last = f"m{k}"
    infos = {"x": ["n", 3, 6, 6], last: ["n", 12, 6, 6]}
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in infos.items()]
    graph = helper.make_graph(
        nodes, "net", values[:1], values[1:], [numpy_helper.from_array(array, name) for name, array in stored.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path, output = folder / "sliced.onnx", folder / "sliced_out.onnx"
    onnx.save(model, path)
    whole = path.stat().st_size
    for share in 0.9, 0.8, 0.7, 0.6:
        request = {"target": {"size_bytes": share}, "options": {"step_size": 1, "min_num_of_value": 1}}
        reply = client.compress(path, output, overwrite=True, verify=True, **request)
        assert reply.verification.status == "exact"
        assert 0.99 * share * whole <= output.stat().st_size <= share * whole, share
        assert output.stat().st_size == reply.compressed.size_bytes
        assert client.recommend(path, **request).estimate.compressed.size_bytes == reply.compressed.size_bytes


@pytest.mark.parametrize("has_data", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_what_describes_a_row_of_layers_counts_toward_a_size_on_file(client, folder, has_bias, has_data):
    """In a small file new nodes, names and biases are a share of what it takes."""
    rng = np.random.default_rng(3)
    nodes, stored, width = [], {}, 64
    for k in range(6):
        low = rng.normal(size=(width, 12)) @ rng.normal(size=(12, width)) + 0.3 * rng.normal(size=(width, width))
        stored[f"encoder.layers.{k}.weight"] = (low / 30).astype(np.float32)
        inputs = [f"h{k}", f"encoder.layers.{k}.weight"]
        if has_bias:
            stored[f"encoder.layers.{k}.bias"] = rng.normal(size=width).astype(np.float32)
            inputs.append(f"encoder.layers.{k}.bias")
        nodes += [
            helper.make_node("Gemm", inputs, [f"g{k}"], f"/encoder/layers.{k}/Gemm", transB=1),
            helper.make_node("Relu", [f"g{k}"], [f"h{k + 1}"], f"/encoder/layers.{k}/Relu"),
        ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", width]) for name in ("h0", "h6")]
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path, output, dataset = folder / "rows.onnx", folder / "rows_out.onnx", folder / "rows.npy"
    onnx.save(model, path)
    np.save(dataset, rng.normal(1, 1, size=(300, width)).astype(np.float32))
    whole = path.stat().st_size
    for share in 0.9, 0.75, 0.6:
        request = {
            "compression_method": "FD_SVD", "target": {"size_bytes": share},
            "options": {"step_size": 1, "min_num_of_value": 1}, "dataset_path": dataset if has_data else None,
        }  # fmt: skip
        reply = client.compress(path, output, overwrite=True, verify=True, **request)
        assert 0.99 * share * whole <= output.stat().st_size <= share * whole, share
        estimate = client.recommend(path, **request).estimate.compressed.size_bytes
        assert abs(estimate - reply.compressed.size_bytes) <= 0.002 * whole
