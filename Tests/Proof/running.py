"""Running ONNX models in ONNX Runtime for proofs: no graph optimization unless bytes are multiplied, two threads, random
inputs, and networks stored in narrow floats widened to float32, so that a comparison at 1e-4 sees faults and not rounding.

Invariant: nothing here changes what a model computes, save for the precision it computes in.
"""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

NARROW = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
ort.set_default_logger_severity(3)


# Where processors lack instructions for products of bytes, sums of two overflow 16 bits, so that what a channel gives depends
# on its neighbours. ONNX Runtime takes exact ones only if it is told to and may rearrange the graph.
BYTE_PRODUCTS = {
    "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QGemm",
    "QLinearConv", "QLinearMatMul",
}  # fmt: skip


def session(model):
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if any(node.op_type in BYTE_PRODUCTS for node in model.graph.node):
        level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.graph_optimization_level = level
    options.intra_op_num_threads = 2
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model, inputs):
    return session(model).run(None, inputs)


def run_node(node, inputs, opset_import):
    """One operator on numpy arrays, by ONNX's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in inputs.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one", infos, outputs)
    model = onnx.helper.make_model(graph, opset_imports=opset_import)
    return ReferenceEvaluator(model).run(None, inputs)


def real_inputs(model):
    stored = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in stored]


def is_dynamic(model):
    return any(not d.HasField("dim_value") for i in real_inputs(model) for d in i.type.tensor_type.shape.dim)


def random_inputs(model, rng, batch=1, lengths=None):
    """Standard normal numbers for every graph input; a symbolic leading axis gets `batch`, others come by name."""
    inputs = {}
    for info in real_inputs(model):
        kind = info.type.tensor_type
        shape = []
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value"):
                shape.append(dim.dim_value)
            elif lengths and dim.dim_param in lengths:
                shape.append(lengths[dim.dim_param])
            else:
                shape.append(batch if axis == 0 else 8)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if np.issubdtype(dtype, np.integer):
            inputs[info.name] = rng.integers(0, 8, shape).astype(dtype)
        elif dtype == np.bool_:
            inputs[info.name] = np.asarray(rng.random(shape) < 0.5)
        else:
            inputs[info.name] = rng.standard_normal(shape).astype(np.float32).astype(dtype)
    return inputs


def widened(model):
    """The same network with every half, bfloat16 and double tensor, cast and declaration as float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    widen_graph(wide.graph)
    return wide


def widen_graph(graph):
    for tensor in graph.initializer:
        widen_tensor(tensor)
    for info in list(graph.input) + list(graph.output) + list(graph.value_info):
        if info.type.tensor_type.elem_type in NARROW:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen_tensor(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                widen_graph(attribute.g)
            elif attribute.name in ("to", "dtype") and attribute.i in NARROW:
                attribute.i = TensorProto.FLOAT


def widen_tensor(tensor):
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
