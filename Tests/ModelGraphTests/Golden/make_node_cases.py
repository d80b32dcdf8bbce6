"""Writes node_cases.json from the node tests of the onnx package: `python make_node_cases.py`.

Needs onnx with the packages its node tests import. Each case is one node with the shapes and, where they are few, the
elements of its inputs and outputs as the operator's reference implementation computed them. One case per line; cases
that differ in nothing the shapes depend on are left out.
"""

import collections
import json
import pathlib
import warnings

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

warnings.filterwarnings("ignore")
FEW = 16  # elements
PER_OPERATOR = 24
# Losses, signals and images: not operators of networks to prune.
LEFT_OUT = {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "DFT", "STFT", "ImageDecoder", "MelWeightMatrix"}
FIRST_OPSET = 9


def described(array):
    """Shape, dtype and, if they are few and finite, elements."""
    array = np.asarray(array)
    result = {"shape": list(array.shape), "dtype": onnx.helper.np_dtype_to_tensor_dtype(array.dtype)}
    if array.dtype in (np.int32, np.int64, np.bool_) and array.size <= FEW:
        result["elements"] = array.ravel().astype(np.int64).tolist()
    elif array.dtype.kind == "f" and array.size <= FEW // 2 and np.isfinite(array).all():
        # The shortest decimals that give the same number.
        result["elements"] = [float(str(element)) for element in array.ravel()]
    return result


def attribute(value):
    """An attribute in JSON; None where it is of a kind that decides no shape."""
    content = onnx.helper.get_attribute_value(value)
    kind = onnx.AttributeProto.AttributeType.Name(value.type)
    if kind in ("INT", "INTS", "FLOAT", "FLOATS", "STRING"):
        plain = content.decode() if isinstance(content, bytes) else list(content) if kind.endswith("S") else content
        return {kind.lower(): plain}
    if kind == "TENSOR":
        return {"tensor": described(onnx.numpy_helper.to_array(content))}
    return None


def cases():
    seen, count = set(), collections.Counter()
    for case in collect_testcases(None):
        if case.kind != "node" or case.model is None or len(case.model.graph.node) != 1:
            continue
        node = case.model.graph.node[0]
        opset = max(entry.version for entry in case.model.opset_import)
        inputs, outputs = case.data_sets[0]
        given, produced = [n for n in node.input if n], [n for n in node.output if n]
        arrays = [*inputs, *outputs]
        if node.domain or node.op_type in LEFT_OUT or opset < FIRST_OPSET:
            continue
        if len(given) != len(inputs) or len(produced) != len(outputs):
            continue
        if any(not isinstance(a, (np.ndarray, np.generic)) or a.dtype.kind in "OUScV" for a in arrays):
            continue
        known = dict(zip(given, map(described, inputs))) | dict(zip(produced, map(described, outputs)))
        attributes = {a.name: attribute(a) for a in node.attribute}
        line = {
            "op": node.op_type, "opset": opset,
            "inputs": [known.get(n) for n in node.input], "outputs": [known.get(n) for n in node.output],
            "attributes": {n: a for n, a in attributes.items() if a is not None},
        }
        # The elements of a first input of several axes are data; so are those of the outputs computed from it.
        key = json.dumps([line["op"], line["attributes"], [i and i["shape"] for i in line["inputs"]],
                          [i and i.get("elements") for i in line["inputs"][1:]]])
        if key not in seen and count[node.op_type] < PER_OPERATOR:
            seen.add(key)
            count[node.op_type] += 1
            yield line | {"name": case.name}


if __name__ == "__main__":
    lines = [json.dumps(case, separators=(",", ":"), sort_keys=True) for case in cases()]
    path = pathlib.Path(__file__).with_name("node_cases.json")
    path.write_text("[\n" + ",\n".join(sorted(lines)) + "\n]\n")
    print(len(lines), "cases,", path.stat().st_size, "bytes")
