"""Weightless networks: ONNX files whose large float initializers have been emptied, and what refills them.

A skeleton keeps everything an exporter wrote (nodes, names, metadata, integers, small constants) but the numbers of
float initializers of more than 64 elements; gzip makes a hundred-megabyte network a few kilobytes. `materialize` fills
them again from a generator seeded by each tensor's name, at the scale its reader needs: He's for what is summed over,
positive for variances, near one for scales and embeddings. So the network is well conditioned, and the same everywhere.

Invariant: materialize(strip(model)) has the structure of `model`, bit for bit but for the emptied numbers.
"""

import gzip
import math
import pathlib
import re
import zlib

import numpy as np
import onnx
from onnx import TensorProto

FOLDER = pathlib.Path(__file__).resolve().parent / "skeletons"
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
LARGEST_KEPT = 64
NORMS = {"LayerNormalization", "InstanceNormalization", "GroupNormalization"}


def strip(model):
    for node in model.graph.node:
        for entry in node.metadata_props:  # stack traces: of the exporting machine, only the modules' own paths
            entry.value = re.sub(r'File "[^"]*?/(?:site-packages|Tests)/', 'File "', entry.value)
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS and math.prod(tensor.dims) > LARGEST_KEPT:
            for field in ("raw_data", "float_data", "double_data", "int32_data"):
                tensor.ClearField(field)
    return model


def write(model, name, exporter):
    path = FOLDER / exporter / f"{name}.onnx.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(strip(model).SerializeToString(deterministic=True))
    return path


def available(exporter):
    return sorted(path.name.removesuffix(".onnx.gz") for path in (FOLDER / exporter).glob("*.onnx.gz"))


def materialize(name, exporter):
    """The network with weights."""
    model = onnx.ModelProto.FromString(gzip.decompress((FOLDER / exporter / f"{name}.onnx.gz").read_bytes()))
    roles = readers(model.graph)
    for tensor in model.graph.initializer:
        if (
            tensor.data_type in FLOATS
            and not (tensor.raw_data or tensor.float_data or tensor.double_data or tensor.int32_data)
            and math.prod(tensor.dims)
        ):
            rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
            array = numbers(rng, tuple(tensor.dims), *roles.get(tensor.name, (None, 0)))
            tensor.raw_data = array.astype(FLOATS[tensor.data_type]).tobytes()
    return model


def readers(graph):
    """Per initializer: the first node that reads it and the position, seen through Identity, Cast and Transpose."""
    through, roles = {}, {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            source = through.get(name, name)
            if node.op_type in ("Identity", "Cast", "Transpose"):
                through[node.output[0]] = source
            else:
                roles.setdefault(source, (node, position))
    return roles


def numbers(rng, shape, node, position):
    op = node.op_type if node is not None else None
    normal = lambda scale: rng.standard_normal(shape, np.float32) * np.float32(scale)
    if op == "Conv" and position == 1:
        return normal(math.sqrt(2 / math.prod(shape[1:]))) * spread(rng, shape, 0)
    if op == "ConvTranspose" and position == 1:
        strides = next((list(a.ints) for a in node.attribute if a.name == "strides"), [1])
        return normal(math.sqrt(2 * math.prod(strides) / (shape[0] * math.prod(shape[2:])))) * spread(rng, shape, 1)
    if op in ("Gemm", "MatMul") and len(shape) == 2:
        transposed = op == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
        return normal(math.sqrt(2 / shape[1 if transposed else 0])) * spread(rng, shape, 0 if transposed else 1)
    if op == "BatchNormalization" and position in (1, 4):
        return rng.uniform(0.5 if position == 1 else 0.75, 1.5, shape)
    if (op in NORMS and position == 1) or (op == "Mul" and max(shape) == math.prod(shape)):
        return rng.uniform(0.5, 1.5, shape)  # a scale per channel
    if op in ("DequantizeLinear", "QuantizeLinear") and position == 1:
        return rng.uniform(0.002, 0.006, shape)
    if op == "Gather":
        return normal(1) * spread(rng, shape, len(shape) - 1)
    if op in ("LSTM", "GRU", "RNN") and position in (1, 2):
        return normal(1 / math.sqrt(shape[2])) * spread(rng, shape, 1)
    if op == "MatMul" and len(shape) > 2:
        return normal(math.sqrt(2 / shape[-2 if position else -1]))
    return normal(0.1)


def spread(rng, shape, axis):
    """A factor per filter: trained filters differ in norm; where none differs, a criterion by norm is a toss-up."""
    factors = np.exp(rng.normal(0, 0.5, shape[axis])).astype(np.float32)
    factors /= np.sqrt(np.mean(np.square(factors)))
    return factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])
