"""What replies call the variables of a model, over which axes of which variables layers sum, and what the entries of a
reply remove: for any generation of Keras, so that nothing of Keras is imported here.
"""

import numpy as np

TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Convolution2DTranspose")
CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
CELLS = ("LSTMCell", "GRUCell", "SimpleRNNCell")
# Parts of a layer that go by the attribute that holds them; others go by their own names, as attention's "query".
ROLES = ("layer", "forward_layer", "backward_layer", "cell")


def named(model, path=""):
    """(name, variable, innermost layer) of every variable: the names of models, layers and parts, then its own."""
    for layer in model.layers:
        yield from named_of_layer(layer, path + layer.name)


def named_of_layer(layer, path):
    if hasattr(layer, "layers"):
        yield from named(layer, path + "/")
        return
    own = "variables" if hasattr(layer, "_trainable_variables") else "weights"
    for variable in [*getattr(layer, f"_trainable_{own}"), *getattr(layer, f"_non_trainable_{own}")]:
        yield f"{path}/{base(variable)}", variable, layer
    for part in layer._flatten_layers(recursive=False, include_self=False):
        roles = [role for role in ROLES if getattr(layer, role, None) is part]
        yield from named_of_layer(part, f"{path}/{roles[0] if roles else part.name}")


def base(variable):
    """"kernel" of "c1/kernel:0"."""
    return variable.name.split("/")[-1].split(":")[0]


def by_dataset(entries, datasets):
    """The reply's entries with the path of the dataset in the place of the parameter's name."""
    return [{**entry, "parameter": datasets[entry["parameter"]]} for entry in entries]


def silence(whole, removed, products, assign):
    """Makes a model its own masked original: zeros at what sums over removed channels, and at all that makes them where
    activations are multiplied with one another. `assign` puts an array into a variable."""
    held = {name: (variable, layer) for name, variable, layer in named(whole)}
    for entry in removed:
        variable, layer = held[entry["parameter"]]
        name, value = base(variable), np.asarray(variable)
        if entry["axis"] in input_axes(layer, name, value.ndim) or (products and not is_statistic(layer, name)):
            assign(variable, silenced(value, entry))


def input_axes(layer, name, rank):
    """The axes over which `layer` sums when it applies its variable `name` of that rank."""
    kind = type(layer).__name__
    if kind in TRANSPOSED:
        return {rank - 1} if name == "kernel" else set()
    if kind.startswith("Separable"):
        return {rank - 2} if name == "pointwise_kernel" else set()
    if kind in CONVOLUTIONS:
        return {rank - 2} if name == "kernel" else set()
    if kind == "EinsumDense":
        operands, result = layer.equation.split("->")
        return {axis for axis, letter in enumerate(operands.split(",")[1]) if letter not in result and name == "kernel"}
    if kind == "Dense":
        return {0} if name == "kernel" else set()
    if kind in CELLS:
        return {0} if name in ("kernel", "recurrent_kernel") else set()
    return set()


def is_statistic(layer, name):
    return type(layer).__name__ == "BatchNormalization" and name.startswith("moving_")


def blocks(shape, entry):
    """(part of the variable, indices in it) for everything that an entry of `removed` takes.

    Channels within their group are counted within it; groups are blocks of a kernel's last axis, its outputs.
    """
    groups = entry.get("indices_per_group")
    if groups is None:
        yield slice(None), entry["indices"]
        return
    width = shape[-1] // len(groups)
    for group, indices in enumerate(groups):
        yield slice(group * width, (group + 1) * width), indices


def silenced(value, entry):
    """The array with zeros where the entry removes."""
    value = np.array(value)
    for part, indices in blocks(value.shape, entry):
        place = [slice(None)] * value.ndim
        place[-1] = part
        place[entry["axis"]] = indices
        value[tuple(place)] = 0
    return value


def remaining(stored, removed, adjusted=()):
    """The arrays, by dataset, that the compressed file has to hold, bit for bit. What is left is multiplied where the reply
    says so."""
    stored = dict(stored)
    # Along an axis that groups count for themselves first, for they are blocks of another axis, which may be cut, too.
    for entry in sorted(removed, key=lambda entry: "indices_per_group" not in entry):
        value = stored[entry["parameter"]]
        parts = [np.delete(value[..., part], indices, entry["axis"]) for part, indices in blocks(value.shape, entry)]
        stored[entry["parameter"]] = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    for entry in adjusted:
        value = stored[entry["parameter"]]
        stored[entry["parameter"]] = (value.astype(np.float64) * entry["factor"]).astype(value.dtype)
    return stored
