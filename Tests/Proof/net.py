"""A small builder of ONNX graphs: opset-aware operators, well-conditioned seeded weights, lengths known at every step.

A `Net` keeps the concrete length of every axis of every value, so that blocks can decide what fits. The batch axis is
concrete too (2 stands for a dynamic one) but is never written into a constant where the batch is dynamic.
Weights are stored in the many ways files store them: initializers, Constant nodes, behind Identity, narrow and cast.

Invariant: every finished model passes onnx.checker with full check.
"""

import math

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOATS = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "f64": TensorProto.DOUBLE}


class Net:
    def __init__(self, seed=0, opset=17, dynamic=False, batch=2, dtype="f32", plain=False):
        self.rng = np.random.default_rng(seed)
        self.opset, self.dynamic, self.dtype, self.plain = opset, dynamic, dtype, plain
        self.batch = batch if not dynamic else 2
        self.nodes, self.initializers, self.inputs, self.outputs = [], [], [], []
        self.declared, self.functions, self.domains = [], [], set()
        self.shapes = {}
        self.count = 0

    # MARK: choices

    def chance(self, probability):
        return bool(self.rng.random() < probability)

    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def between(self, low, high):
        return int(self.rng.integers(low, high + 1))

    # MARK: values

    def fresh(self, stem):
        self.count += 1
        return f"{stem}_{self.count}"

    def shape(self, name):
        return self.shapes[name]

    def rank(self, name):
        return len(self.shapes[name])

    def input(self, shape, name=None, dtype=None):
        """A graph input; `shape` starts with the batch unless `name` says it is a plain tensor."""
        name = name or self.fresh("input")
        declared = list(shape)
        if self.dynamic and shape and shape[0] == self.batch:
            declared[0] = "batch"
            if self.dynamic == "space":
                declared[2:] = ["height", "width"][: len(shape) - 2]
        self.inputs.append(helper.make_tensor_value_info(name, dtype or FLOATS[self.dtype], declared))
        self.shapes[name] = tuple(shape)
        return name

    def image(self, channels, *spatial, name=None):
        return self.input((self.batch, channels, *spatial), name)

    def output(self, name):
        """Marks a value as a graph output; the declared shape keeps the batch symbolic."""
        if name in {o.name for o in self.outputs}:
            return
        declared = list(self.shapes[name])
        if self.dynamic and declared and declared[0] == self.batch:
            declared[0] = "batch"
            if self.dynamic == "space":
                declared[2:] = [None] * (len(declared) - 2)
        elif self.dynamic:
            declared = [None] * len(declared)
        self.outputs.append(helper.make_tensor_value_info(name, FLOATS[self.dtype], declared))

    def declare(self, name):
        """Writes a value's shape into the file, as exporters do for some."""
        self.declared.append(helper.make_tensor_value_info(name, FLOATS[self.dtype], self.shapes[name]))

    def integers(self, values, name=None):
        """An int64 constant, as an initializer or a Constant node."""
        array = np.asarray(values, np.int64)
        name = name or self.fresh("ints")
        self.shapes[name] = array.shape
        if not self.plain and self.chance(0.4):
            self.nodes.append(
                helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(array, name))
            )
        else:
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def int32(self, values):
        """A setting of 32-bit integers."""
        name = self.fresh("ints")
        self.initializers.append(numpy_helper.from_array(np.asarray(values, np.int32), name))
        self.shapes[name] = np.shape(values)
        return name

    def store(self, array, stem="w", how=None):
        """A float constant, stored in one of the ways files do it."""
        name = self.fresh(stem)
        self.shapes[name] = array.shape
        target = FLOATS[self.dtype]
        if how is None:
            how = "initializer" if self.plain else self.pick(["initializer"] * 6 + ["constant", "identity", "narrow"])
        if how == "narrow" and self.opset < 13:
            how = "identity"
        if how == "narrow":
            kind = self.pick([TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
            self.initializers.append(typed(array, kind, name + "_stored"))
            self.nodes.append(helper.make_node("Cast", [name + "_stored"], [name], name, to=target))
        elif how == "identity":
            self.initializers.append(typed(array, target, name + "_stored"))
            self.nodes.append(helper.make_node("Identity", [name + "_stored"], [name], name))
        elif how == "constant":
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=typed(array, target, name)))
        else:
            self.initializers.append(typed(array, target, name))
        return name

    def scalar(self, value, how=None):
        return self.store(np.asarray(value, np.float64), "scalar", how)

    def normal(self, *shape, scale=1.0):
        return self.rng.standard_normal(shape) * scale

    def uniform(self, low, high, *shape):
        return self.rng.uniform(low, high, shape)

    # MARK: nodes

    def node(self, op, inputs, shape, outputs=1, **attributes):
        """Appends a node; `shape` is its output's, or a list of shapes where there are several outputs."""
        name = self.fresh(op)
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        for output, lengths in zip(names, [shape] if outputs == 1 else shape):
            self.shapes[output] = tuple(lengths)
        self.nodes.append(helper.make_node(op, inputs, names, name, **attributes))
        self.domains.add(attributes.get("domain", ""))
        return name if outputs == 1 else names

    def unary(self, op, x, **attributes):
        return self.node(op, [x], self.shape(x), **attributes)

    def binary(self, op, a, b):
        return self.node(op, [a, b], np.broadcast_shapes(self.shape(a), self.shape(b)))

    # MARK: layers

    def conv(self, x, out, kernel=3, stride=1, group=1, dilation=1, bias=None, pad=None, weight=None):
        batch, channels, *spatial = self.shape(x)
        dims = len(spatial)
        if isinstance(kernel, int):  # odd where it has to shrink, so that half of it pads to the same length
            kernel = [min(kernel, s if s % 2 else s - 1) for s in spatial]
        dilation = dilation if all(dilation * (k - 1) < s for k, s in zip(kernel, spatial)) else 1
        reach = [dilation * (k - 1) + 1 for k in kernel]
        if weight is None:
            fan = channels // group * math.prod(kernel)
            weight = self.store(self.normal(out, channels // group, *kernel, scale=math.sqrt(2 / fan)), "conv_w")
        inputs = [x, weight]
        if bias if bias is not None else self.chance(0.5):
            inputs.append(self.store(self.normal(out, scale=0.3), "conv_b"))
        attributes = {
            "kernel_shape": kernel,
            "strides": [stride] * dims,
            "dilations": [dilation] * dims,
            "group": group,
        }
        auto = pad is None and not self.plain and self.chance(0.15)
        if auto and dilation == 1:
            attributes["auto_pad"] = self.pick(["SAME_UPPER", "SAME_LOWER"])
            lengths = [-(-s // stride) for s in spatial]
        else:
            pads = [r // 2 if pad is None else pad for r in reach]
            attributes["pads"] = pads + pads
            lengths = [(s + 2 * p - r) // stride + 1 for s, p, r in zip(spatial, pads, reach)]
        return self.node("Conv", inputs, (batch, out, *lengths), **attributes)

    def depthwise(self, x, multiplier=1, kernel=3, stride=1):
        channels = self.shape(x)[1]
        return self.conv(x, channels * multiplier, kernel, stride, group=channels)

    def conv_transpose(self, x, out, kernel=2, stride=2, group=1):
        batch, channels, *spatial = self.shape(x)
        dims = len(spatial)
        fan = channels // group * kernel**dims / stride**dims
        weight = self.store(self.normal(channels, out // group, *[kernel] * dims, scale=math.sqrt(2 / fan)), "deconv_w")
        inputs = [x, weight]
        if self.chance(0.5):
            inputs.append(self.store(self.normal(out, scale=0.3), "deconv_b"))
        lengths = [(s - 1) * stride + kernel for s in spatial]
        return self.node(
            "ConvTranspose",
            inputs,
            (batch, out, *lengths),
            kernel_shape=[kernel] * dims,
            strides=[stride] * dims,
            group=group,
        )

    def gemm(self, x, out, trans_b=None, bias=None, alpha=1.0, beta=1.0):
        rows, channels = self.shape(x)
        trans_b = self.chance(0.5) if trans_b is None else trans_b
        weight = self.normal(out, channels, scale=math.sqrt(2 / channels))
        inputs = [x, self.store(weight if trans_b else weight.T.copy(), "fc_w")]
        if self.opset < 11 or (self.chance(0.7) if bias is None else bias):
            shape = self.pick([(out,), (1, out)]) if not self.plain else (out,)
            inputs.append(self.store(self.normal(*shape, scale=0.3), "fc_b"))
        return self.node("Gemm", inputs, (rows, out), transB=int(trans_b), alpha=alpha, beta=beta)

    def matmul(self, x, out):
        *lead, channels = self.shape(x)
        weight = self.store(self.normal(channels, out, scale=math.sqrt(2 / channels)), "matmul_w")
        return self.node("MatMul", [x, weight], (*lead, out))

    def batch_norm(self, x):
        c = self.shape(x)[1]
        vectors = [
            self.store(v, "bn_" + n, "initializer" if self.plain else None)
            for n, v in (
                ("scale", self.uniform(0.5, 1.5, c)),
                ("bias", self.normal(c, scale=0.3)),
                ("mean", self.normal(c, scale=0.3)),
                ("var", self.uniform(0.5, 1.5, c)),
            )
        ]
        return self.node("BatchNormalization", [x, *vectors], self.shape(x), epsilon=1e-5)

    def instance_norm(self, x):
        c = self.shape(x)[1]
        vectors = [self.store(self.uniform(0.5, 1.5, c), "in_scale"), self.store(self.normal(c, scale=0.3), "in_bias")]
        return self.node("InstanceNormalization", [x, *vectors], self.shape(x))

    def relu(self, x):
        return self.unary("Relu", x)

    def clip(self, x, low, high):
        if self.opset < 11:
            return self.unary("Clip", x, min=low, max=high)
        return self.node("Clip", [x, self.scalar(low), self.scalar(high)], self.shape(x))

    def prelu(self, x, slope_shape):
        return self.node("PRelu", [x, self.store(self.uniform(0.05, 0.5, *slope_shape), "slope")], self.shape(x))

    # MARK: pooling and reduction

    def pool(self, op, x, kernel=2, stride=2, pad=0, **attributes):
        batch, channels, *spatial = self.shape(x)
        dims = len(spatial)
        lengths = [(s + 2 * pad - kernel) // stride + 1 for s in spatial]
        return self.node(
            op,
            [x],
            (batch, channels, *lengths),
            kernel_shape=[kernel] * dims,
            strides=[stride] * dims,
            pads=[pad] * (2 * dims),
            **attributes,
        )

    def global_pool(self, op, x):
        return self.node(op, [x], (*self.shape(x)[:2], *[1] * (self.rank(x) - 2)))

    def reduce(self, op, x, axes, keepdims=1):
        rank = self.rank(x)
        positive = {a % rank for a in axes}
        shape = [1 if i in positive else n for i, n in enumerate(self.shape(x)) if keepdims or i not in positive]
        by_input = self.opset >= 18 or (op == "ReduceSum" and self.opset >= 13)
        if by_input:
            return self.node(op, [x, self.integers(axes)], shape, keepdims=keepdims)
        return self.node(op, [x], shape, axes=list(axes), keepdims=keepdims)

    # MARK: shapes

    def reshape(self, x, target, shape):
        """`target` as the file states it (0, -1 allowed), or the name of a computed tensor; `shape` as it comes out."""
        target = target if isinstance(target, str) else self.integers(target)
        assert math.prod(shape) == math.prod(self.shape(x)), (self.shape(x), shape)
        return self.node("Reshape", [x, target], shape)

    def transpose(self, x, perm):
        return self.node("Transpose", [x], [self.shape(x)[p] for p in perm], perm=list(perm))

    def flatten(self, x, axis=1):
        shape = self.shape(x)
        return self.node("Flatten", [x], (math.prod(shape[:axis]), math.prod(shape[axis:])), axis=axis)

    def squeeze(self, x, axes):
        rank = self.rank(x)
        gone = {a % rank for a in axes} if axes is not None else {i for i, n in enumerate(self.shape(x)) if n == 1}
        shape = [n for i, n in enumerate(self.shape(x)) if i not in gone]
        if axes is None:
            return self.node("Squeeze", [x], shape)
        if self.opset < 13:
            return self.node("Squeeze", [x], shape, axes=sorted(gone))
        return self.node("Squeeze", [x, self.integers(axes)], shape)

    def unsqueeze(self, x, axes):
        shape = list(self.shape(x))
        for axis in sorted(axes):
            shape.insert(axis, 1)
        if self.opset < 13:
            return self.node("Unsqueeze", [x], shape, axes=list(axes))
        return self.node("Unsqueeze", [x, self.integers(axes)], shape)

    def concat(self, parts, axis=1):
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        return self.node("Concat", list(parts), shape, axis=axis)

    def split(self, x, lengths, axis=1, even=False):
        """Pieces of the given lengths; `even` leaves the lengths to the operator."""
        shapes = [[n if i != axis else length for i, n in enumerate(self.shape(x))] for length in lengths]
        if even:
            extra = {"num_outputs": len(lengths)} if self.opset >= 18 else {}
            return self.node("Split", [x], shapes, len(lengths), axis=axis, **extra)
        if self.opset < 13:
            return self.node("Split", [x], shapes, len(lengths), axis=axis, split=list(lengths))
        return self.node("Split", [x, self.integers(lengths)], shapes, len(lengths), axis=axis)

    def slice(self, x, starts, ends, axes, steps=None):
        shape = list(self.shape(x))
        for i, axis in enumerate(axes):
            step = steps[i] if steps else 1
            shape[axis] = len(range(shape[axis])[slice(starts[i], slice_end(ends[i], step), step)])
        if self.opset < 10:
            assert steps is None
            return self.node("Slice", [x], shape, starts=starts, ends=ends, axes=axes)
        inputs = [x, self.integers(starts), self.integers(ends), self.integers(axes)]
        return self.node("Slice", inputs + ([self.integers(steps)] if steps else []), shape)

    def gather(self, x, indices, axis=1):
        indices = np.asarray(indices, np.int64)
        shape = self.shape(x)[:axis] + indices.shape + self.shape(x)[axis + 1 :]
        return self.node("Gather", [x, self.integers(indices)], shape, axis=axis)

    def pad(self, x, pads, mode="constant", value=None):
        rank = self.rank(x)
        shape = [n + pads[i] + pads[i + rank] for i, n in enumerate(self.shape(x))]
        if self.opset < 11:
            return self.node("Pad", [x], shape, pads=list(pads), mode=mode, value=float(value or 0))
        inputs = [x, self.integers(pads)] + ([self.scalar(value)] if value is not None else [])
        return self.node("Pad", inputs, shape, mode=mode)

    def resize(self, x, factor=2, mode="nearest"):
        rank = self.rank(x)
        shape = (*self.shape(x)[:2], *[n * factor for n in self.shape(x)[2:]])
        scales = np.array([1, 1] + [factor] * (rank - 2), np.float32)
        if self.opset <= 10:
            op = "Upsample" if self.opset == 9 else "Resize"
            return self.node(op, [x, self.float32(scales)], shape, mode=mode)
        extra = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
        if mode == "nearest":
            extra["nearest_mode"] = "floor"
        empty = "" if self.opset >= 13 else self.float32(np.zeros(0, np.float32))
        if self.chance(0.5) or self.dynamic:
            return self.node("Resize", [x, empty, self.float32(scales)], shape, **extra)
        no_scales = "" if self.opset >= 13 else self.float32(np.zeros(0, np.float32))
        return self.node("Resize", [x, empty, no_scales, self.integers(shape)], shape, **extra)

    def float32(self, array):
        """A setting, float32 whatever the model computes in."""
        name = self.fresh("setting")
        self.initializers.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        self.shapes[name] = np.shape(array)
        return name

    def expand(self, x, target, shape):
        target = target if isinstance(target, str) else self.integers(target)
        return self.node("Expand", [x, target], shape)

    def depth_to_space(self, x, block, mode="DCR"):
        n, c, h, w = self.shape(x)
        extra = {"mode": mode} if self.opset >= 11 else {}
        return self.node("DepthToSpace", [x], (n, c // block**2, h * block, w * block), blocksize=block, **extra)

    def space_to_depth(self, x, block):
        n, c, h, w = self.shape(x)
        return self.node("SpaceToDepth", [x], (n, c * block**2, h // block, w // block), blocksize=block)

    def dropout(self, x):
        if self.opset < 12:
            return self.unary("Dropout", x, ratio=0.3)
        return self.node("Dropout", [x, self.scalar(0.3)] if self.chance(0.5) else [x], self.shape(x))

    # MARK: shape arithmetic

    def length(self, x, axis):
        """The length of an axis as a tensor of shape (1), computed as exporters do it."""
        shape = self.node("Shape", [x], (self.rank(x),))
        if self.chance(0.5):
            single = self.node("Gather", [shape, self.integers(axis)], (), axis=0)
            return self.unsqueeze(single, [0])
        if self.opset < 10:
            return self.node("Slice", [shape], (1,), starts=[axis], ends=[axis + 1], axes=[0])
        return self.node("Slice", [shape, self.integers([axis]), self.integers([axis + 1]), self.integers([0])], (1,))

    # MARK: the end

    def model(self):
        assert self.outputs
        graph = helper.make_graph(
            self.nodes, "net", self.inputs, self.outputs, self.initializers, value_info=self.declared
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(self.domains - {""})]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="proof", functions=self.functions)
        model.ir_version = max(8 if self.functions else 4, min(helper.find_min_ir_version_for(opsets[:1]), 12))
        return model


def slice_end(end, step):
    """Python's end for ONNX's: everything beyond is "to the end", and for negative steps "past the first"."""
    if step < 0 and end <= -(2**31):
        return None
    return end


def typed(array, kind, name):
    """A TensorProto of the given element type."""
    array = np.asarray(array)
    if kind == TensorProto.BFLOAT16:
        bits = array.astype(np.float32).view(np.uint32) if array.ndim else np.float32(array).reshape(1).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return helper.make_tensor(name, kind, array.shape, rounded.tobytes(), raw=True)
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
