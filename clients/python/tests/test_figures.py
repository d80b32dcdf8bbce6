"""What docs/images/coupling.py draws is what the daemon does with the same blocks; the pictures are those it draws."""

import runpy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import espalier
from test_espalierd import MODELS

IMAGES = MODELS.parents[3] / "docs" / "images"
FIGURES = runpy.run_path(str(IMAGES / "coupling.py"))


def network(nodes, weights, shapes, path):
    rng = np.random.default_rng(0)
    stored = [numpy_helper.from_array(rng.standard_normal(shape).astype("float32"), name) for name, shape in weights]
    stored += [numpy_helper.from_array(np.array(shape, "int64"), name) for name, shape in shapes.items()]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5] if not shapes else [1, 5, 3])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "block", [entry], [made], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


def residual(path):
    weights = [(w.name, (w.outputs, w.inputs, 1, 1)) for w in FIGURES["RESIDUAL"]]

    def conv(name, x, y):
        return helper.make_node("Conv", [x, name], [y], name=name)

    nodes = [
        conv("stem", "x", "s"), conv("conv1", "s", "a"), helper.make_node("Relu", ["a"], ["b"]),
        conv("conv2", "b", "c"), helper.make_node("Add", ["s", "c"], ["d"]), conv("head", "d", "y"),
    ]  # fmt: skip
    network(nodes, weights, {}, path)
    return "stem", lambda weight, rows: 0 if rows else 1


def attention(path):
    """With what is around it: an embedding that makes the stream, the shortcut, a head."""
    weights = [(w.name, (w.inputs, w.outputs)) for w in FIGURES["ATTENTION"]] + [("embed", (3, 4)), ("head", (4, 3))]

    def product(name, x, y):
        return helper.make_node("MatMul", [x, name], [y], name=name)

    def transposed(x, y, order):
        return helper.make_node("Transpose", [x], [y], perm=order)

    nodes = [product("embed", "x", "t")]
    for name in ("query", "key", "value"):
        nodes += [
            product(name, "t", name + "1"),
            helper.make_node("Reshape", [name + "1", "split"], [name + "2"]),
            transposed(name + "2", name + "3", [0, 2, 3, 1] if name == "key" else [0, 2, 1, 3]),
        ]  # fmt: skip
    nodes += [
        helper.make_node("MatMul", ["query3", "key3"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "value3"], ["v"]),
        transposed("v", "w", [0, 2, 1, 3]),
        helper.make_node("Reshape", ["w", "join"], ["z"]), product("output", "z", "o"),
        helper.make_node("Add", ["t", "o"], ["u"]), product("head", "u", "y"),
    ]  # fmt: skip
    network(nodes, weights, {"split": [1, 5, 2, 3], "join": [1, 5, 6]}, path)
    return "query", lambda weight, rows: 1 if rows else 0


@pytest.mark.parametrize("build", [residual, attention])
def test_what_goes_with_a_unit_is_what_the_picture_marks(build, espalierd, tmp_path):
    layer, axis = build(tmp_path / "block.onnx")
    drawn = FIGURES["BLOCKS"][build.__name__]
    marked = {}
    for weight in drawn:
        for chosen, rows in ((weight.rows, True), (weight.columns, False)):
            if chosen:
                marked[weight.name, axis(weight, rows)] = list(chosen)
    chosen = next(weight.rows for weight in drawn if weight.name == layer)
    with espalier.Client(espalierd, progress=False) as client:
        report = client.inspect(tmp_path / "block.onnx")
        channels = {found.name: found.channels[1:] for found in report.layers}
        setting = espalier.LayerSetting(layer, list(chosen))
        result = client.compress(tmp_path / "block.onnx", dry_run=True, compression_method="PR_ID", layers=[setting])
    assert {(entry.parameter, entry.axis): entry.indices for entry in result.removed} == marked
    # Units of one colour are one group, whichever layers they are of.
    colors = {weight.name: weight.row_color for weight in drawn}
    groups = {found.name: found.group for found in report.layers if colors.get(found.name, "fixed") != "fixed"}
    assert len(set(groups.values())) == len({colors[name] for name in groups})


@pytest.mark.parametrize("name", FIGURES["BLOCKS"])
def test_the_pictures_are_up_to_date(name):
    assert (IMAGES / f"coupling-{name}.svg").read_text() == FIGURES[name](), "python3 docs/images/coupling.py"
