"""The masked original of a Keras model, made in Keras.

As in Tests/Torch/masking_torch.py, which has the twin too: zeros at the removed *inputs* of what sums over channels,
and, where two activations are multiplied, at the removed outputs besides. All of it in Keras's own terms: the variable
that a dataset holds, and its axes as Keras orders them.
"""

import torch

import files_keras
import kernels
import masking_torch


def silence(model, removed, products):
    """Makes the model its own masked original."""
    kernels.silence(model, removed, products, lambda variable, value: variable.assign(value))
    return model


def judge(original, whole, compressed, inputs, tolerance):
    """Whether `compressed` computes what `whole`, the masked original, does; where statistics run across removed
    channels, whether their twins do."""

    def running(model):
        return lambda *values: model(files_keras.given(list(values)), training=False)

    models = [running(model) for model in (original, whole, compressed)]
    return masking_torch.compared(*models, [torch.from_numpy(value) for value in inputs], tolerance)


def distance(expected, found):
    return masking_torch.distance(*([torch.from_numpy(value) for value in values] for values in (expected, found)))
