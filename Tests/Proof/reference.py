"""The proof that a compressed ONNX model is right, independent of whatever compressed it.

`prove` takes the original, the compressed model and the reply's `removed[]`, and holds the compressed model to:
  1. interface: inputs, outputs, opsets and metadata are the original's; nodes keep their names, operators and outputs;
  2. bytes: every stored tensor is the original without the listed slices, bit for bit; what is not listed is untouched;
  3. legality: onnx.checker with full check and strict shape inference pass wherever they passed before, and no
     initializer is left without a reader;
  4. numbers: in ONNX Runtime it equals the masked original (masking.py) on random inputs.
Every violation raises `ProofFailure` saying what was expected and what was found.
"""

import collections
import dataclasses
import math

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper

import masking
import running

TOLERANCE = 1e-4
# Attributes whose numbers follow from channel counts; an attention's scale is written so that it stays as it was.
SIZE_ATTRIBUTES = {
    "group",
    "split",
    "axes",
    "starts",
    "ends",
    "pads",
    "num_outputs",
    "shape",
    "output_shape",
    "hidden_size",
    "num_heads",
    "q_num_heads",
    "kv_num_heads",
    "qkv_hidden_sizes",
    "scale",
}
INTEGERS = {TensorProto.INT64, TensorProto.INT32}


class ProofFailure(AssertionError):
    pass


@dataclasses.dataclass
class Proof:
    """What was compared, and how far apart it was at most (relative to the output's largest magnitude)."""

    largest_difference: float = 0.0
    values_compared: int = 0
    elements_removed: int = 0
    # Private selections of a vector that several layers shared, and vectors of numbers that a shape used to give.
    elements_added: int = 0
    # Largest distance of the masked original from the original: 0 means that what was removed had no effect at all.
    effect: float = 0.0


def require(condition, message):
    if not condition:
        raise ProofFailure(message)


def prove(original, compressed, removed, seed=0, lengths=None, runs=2, tolerance=TOLERANCE):
    check_removed(original, removed)
    check_interface(original, compressed)
    if original.functions and not compressed.functions:  # written out, under names of the writer's choice
        original = onnx.inliner.inline_local_functions(original)
    else:
        check_nodes(original, compressed)
    proof = Proof()
    proof.elements_removed, proof.elements_added = check_tensors(original, compressed, removed)
    check_legal(original, compressed)
    check_numbers(original, compressed, removed, proof, seed, lengths, runs, tolerance)
    return proof


# MARK: what was said


def check_removed(original, removed):
    stored = masking.constants(original.graph)
    seen = set()
    for entry in removed:
        name, axis = entry["parameter"], entry["axis"]
        require(name in stored, f"removed[] names {name!r}, which the original does not store")
        require((name, axis) not in seen, f"removed[] lists axis {axis} of {name!r} twice")
        seen.add((name, axis))
        dims = stored[name].dims
        require(0 <= axis < len(dims), f"removed[]: {name!r} has {len(dims)} axes, not an axis {axis}")
        require(
            ("indices" in entry) != ("indices_per_group" in entry), f"removed[]: {name!r} has no one list of indices"
        )
        require(stored[name].data_type not in INTEGERS - {TensorProto.INT32}, f"removed[] lists the integers {name!r}")
        lists = [entry["indices"]] if "indices" in entry else entry["indices_per_group"]
        for indices in lists:
            require(indices == sorted(set(indices)), f"removed[]: indices of {name!r} are not ascending: {indices}")
            require(all(0 <= i < dims[axis] for i in indices), f"removed[]: {name!r} axis {axis}: {indices} of {dims}")
        require(any(lists), f"removed[] lists no index for {name!r} axis {axis}")


# MARK: interface and nodes


def port(info):
    """Name, dtype and shape, without the documentation string."""
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(info)
    copy.doc_string = ""
    return copy


def check_interface(original, compressed):
    before, after = original.graph, compressed.graph
    stored = {t.name for t in before.initializer}
    for kind in ("input", "output"):
        old = [port(i) for i in getattr(before, kind) if i.name not in stored]
        new = [port(i) for i in getattr(after, kind) if i.name not in stored]
        require(old == new, f"graph {kind}s changed from {old} to {new}")
    listed = [i.name for i in before.input if i.name in stored]
    for info in after.input:
        if info.name in stored:
            tensor = next((t for t in after.initializer if t.name == info.name), None)
            require(tensor is not None, f"the input {info.name!r} had an initializer and has none now")
            dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
            require(
                dims == list(tensor.dims), f"the input {info.name!r} is declared {dims} and stored {list(tensor.dims)}"
            )
            require(info.name in listed, f"{info.name!r} became an input")
    for field in ("opset_import", "metadata_props", "functions"):
        old, new = list(getattr(original, field)), list(getattr(compressed, field))
        if original.functions and not compressed.functions:
            old = [entry for entry in old if field == "metadata_props" or entry in new]
        require(old == new, f"{field} changed")
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        require(getattr(original, field) == getattr(compressed, field), f"{field} changed")
    require(before.name == after.name, "the graph's name changed")


def check_nodes(original, compressed):
    """Nodes that live on keep name, operator, domain, outputs, and attributes but for sizes; their order stays."""
    position = {}
    for index, node in enumerate(compressed.graph.node):
        for name in node.output:
            if name:
                require(name not in position, f"two nodes compute {name!r}")
                position[name] = index
    last = -1
    for node in original.graph.node:
        name = next((o for o in node.output if o), None)
        if name is None:
            continue
        if name not in position:
            require(node.op_type == "Constant", f"the node that computes {name!r} is gone")
            continue
        new = compressed.graph.node[position[name]]
        require(position[name] > last, f"the order of nodes changed at {name!r}")
        last = position[name]
        require(list(new.output) == list(node.output), f"outputs of {node.name!r} changed")
        require(new.name == node.name, f"the node that computes {name!r} was renamed to {new.name!r}")
        if node.op_type == "Slice" and new.op_type == "Gather":
            continue
        require((new.op_type, new.domain) == (node.op_type, node.domain), f"{name!r} is computed by {new.op_type} now")
        if node.op_type == "Constant":
            continue
        old_attributes = {a.name: a for a in node.attribute}
        new_attributes = {a.name: a for a in new.attribute}
        for key in old_attributes.keys() | new_attributes.keys():
            if key not in SIZE_ATTRIBUTES:
                require(old_attributes.get(key) == new_attributes.get(key), f"attribute {key} of {node.name!r} changed")


# MARK: bytes


def raw(tensor):
    return numpy_helper.to_array(tensor).tobytes()


def sliced(array, entries):
    """`array` without the slices listed: what a compressed model must store, by numpy.take."""
    per_group = next((e for e in entries if "indices_per_group" in e), None)
    if per_group is None:
        for entry in entries:
            kept = np.setdiff1d(np.arange(array.shape[entry["axis"]]), entry["indices"])
            array = np.take(array, kept, entry["axis"])
        return array
    axis, blocks = per_group["axis"], per_group["indices_per_group"]
    gone = next((set(e["indices"]) for e in entries if e["axis"] == 0), set())
    rows = array.shape[0] // len(blocks)
    parts = []
    for block, indices in enumerate(blocks):
        kept_rows = [r for r in range(block * rows, (block + 1) * rows) if r not in gone]
        if kept_rows:
            kept = np.setdiff1d(np.arange(array.shape[axis]), indices)
            parts.append(np.take(array[kept_rows], kept, axis))
    lengths = {p.shape[axis] for p in parts}
    require(len(lengths) == 1, f"groups keep different numbers of channels: {[p.shape for p in parts]}")
    array = np.concatenate(parts)
    return sliced(array, [e for e in entries if e is not per_group and e["axis"] != 0])


def check_tensors(original, compressed, removed):
    before, after = masking.constants(original.graph), masking.constants(compressed.graph)
    entries = {}
    for entry in removed:
        entries.setdefault(entry["parameter"], []).append(entry)
    used_before, used = readers(original), readers(compressed)
    use_counts = collections.Counter(name for node in original.graph.node for name in node.input)
    gone = added = 0
    for name, tensor in before.items():
        if name not in after:
            require(name not in used, f"{name!r} is read and no longer stored")
            shared = is_vector(tensor) and use_counts[name] > 1  # each use may have got its own selection
            require(tensor.data_type in INTEGERS or shared, f"the stored tensor {name!r} is gone")
            continue
        new = after[name]
        require(new.data_type == tensor.data_type, f"{name!r} changed its dtype")
        if name in entries:
            whole = numpy_helper.to_array(tensor)
            expected = sliced(whole, entries[name])
            require(tuple(new.dims) == expected.shape, f"{name!r} is {tuple(new.dims)}, expected {expected.shape}")
            require(expected.tobytes() == raw(new), f"{name!r} does not hold the original numbers of what it keeps")
            gone += whole.size - expected.size if tensor.data_type not in INTEGERS else 0
        elif tensor.data_type in INTEGERS:
            continue  # sizes and bounds: held by the checker and by the numbers
        else:
            require(
                list(new.dims) == list(tensor.dims) and raw(new) == raw(tensor),
                f"{name!r} changed from {list(tensor.dims)} to {list(new.dims)} and is not listed in removed[]",
            )
    for name in after.keys() - before.keys():
        if after[name].data_type not in INTEGERS and after[name].dims:  # a scalar is no parameter
            vectors = [t for n, t in before.items() if is_vector(t) and use_counts[n] > 0]
            few = math.prod(after[name].dims) <= 4
            require(few or any(is_selection(after[name], t) for t in vectors), f"a tensor {name!r} was added")
            added += math.prod(after[name].dims)
    for name in before.keys() - after.keys():
        if before[name].data_type not in INTEGERS:
            gone += math.prod(before[name].dims)
    for tensor in compressed.graph.initializer:
        require(tensor.name in used or tensor.name not in used_before, f"nothing reads the initializer {tensor.name!r}")
        require(tensor.name in used or tensor.name in before, f"nothing reads the new initializer {tensor.name!r}")
    return gone, added


def is_vector(tensor):
    """Do its elements lie along one axis? Only what does is shared by layers that prune different channels."""
    return max(tensor.dims, default=0) == math.prod(tensor.dims)


def is_selection(new, old):
    """Is the vector `new` what is left of the vector `old` when some elements are taken out, bit for bit?"""
    if new.data_type != old.data_type or len(new.dims) != len(old.dims) or not is_vector(new):
        return False
    rest = iter(numpy_helper.to_array(old).reshape(-1))
    return all(any(a.tobytes() == b.tobytes() for b in rest) for a in numpy_helper.to_array(new).reshape(-1))


def readers(model):
    names = set()

    def collect(graph):
        for node in graph.node:
            names.update(node.input)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    collect(attribute.g)
                for sub in attribute.graphs:
                    collect(sub)
        names.update(o.name for o in graph.output)

    collect(model.graph)
    return names


# MARK: legality


def problem(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:  # the checker raises its own and pybind's errors
        return str(error)
    return None


def check_legal(original, compressed):
    for what, function, options in (
        ("onnx.checker", onnx.checker.check_model, {"full_check": True}),
        ("strict shape inference", onnx.shape_inference.infer_shapes, {"strict_mode": True, "data_prop": True}),
    ):
        found = problem(function, compressed, **options)
        if found:
            require(problem(function, original, **options), f"{what} passes on the original and now says: {found}")


# MARK: numbers


def check_numbers(original, compressed, removed, proof, seed, lengths, runs, tolerance):
    original, compressed = running.widened(original), running.widened(compressed)
    masked = running.session(masking.masked_original(original, removed))
    whole, small = running.session(original), running.session(compressed)
    names = [o.name for o in original.graph.output]
    rng = np.random.default_rng(seed)
    batches = ([1, 3] if running.is_dynamic(original) else [1]) * runs
    for batch in batches[: max(runs, 2) if running.is_dynamic(original) else runs]:
        inputs = running.random_inputs(
            original, rng, batch, lengths or {"height": 4 + 2 * batch, "width": 6 + 2 * batch}
        )
        first = whole.run(None, inputs)
        expected = masked.run(None, inputs)
        found = small.run(None, inputs)
        for name, complete, want, got in zip(names, first, expected, found):
            require(want.shape == got.shape, f"output {name!r} is {got.shape}, expected {want.shape}")
            require(want.dtype == got.dtype, f"output {name!r} is {got.dtype}, expected {want.dtype}")
            proof.values_compared += got.size
            if not np.issubdtype(want.dtype, np.floating):
                require((want == got).all(), f"output {name!r} differs")
                continue
            if want.size == 0:
                continue
            require(np.isfinite(want).all(), f"output {name!r} of the masked original is not finite: a bad test model")
            scale = np.abs(want).max()
            if scale == 0:  # everything that reached it is gone
                require(not got.any(), f"output {name!r} is all zero in the masked original and is not here")
                continue
            difference = float(np.abs(want.astype(np.float64) - got).max() / scale)
            proof.largest_difference = max(proof.largest_difference, difference)
            proof.effect = max(proof.effect, float(np.abs(want.astype(np.float64) - complete).max() / scale))
            require(
                difference <= tolerance,
                f"output {name!r} differs from the masked original by {difference:.2e} of its largest magnitude",
            )
