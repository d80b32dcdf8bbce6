"""Exports real architectures and writes their skeletons: `python Tests/Zoo/make_zoo.py [--only NAME ...]`.

Needs what Tests/requirements-zoo.txt lists; nothing is downloaded, for only the structure is kept (skeletons.py).
Run it to add an architecture or to follow a new exporter; the tests read the files it leaves.
Exporters: `torchscript` (fixed shapes), `dynamic` (torchscript with a symbolic batch, for texts a symbolic length as
well), `dynamo` (torch.export), `attention` (the same with opset 23, which has Attention as an operator), `fused`
(torchscript, then ONNX Runtime's transformer optimizer) and `quantized` (torchscript, then ONNX Runtime's static
quantization to int8).
"""

import argparse
import os
import tempfile
import warnings

import numpy as np
import onnx
import torch

import skeletons
from architectures import architectures

warnings.filterwarnings("ignore")
# One fused kernel for a whole encoder layer: no exporter knows it.
torch.backends.mha.set_fastpath_enabled(False)


def distinct(model):
    """Different numbers everywhere, as in a trained network: exporters merge tensors that are equal."""
    with torch.no_grad():
        statistics = [buffer for name, buffer in model.named_buffers() if "running_" in name]
        for tensor in [*model.parameters(), *statistics]:
            tensor.uniform_(0.5, 1.5)
    return model.eval()


def export(architecture, model, exporter):
    """The model as one exporter writes it."""
    inputs = architecture.inputs(exporter)
    names = [f"input{i}" if i else "input" for i in range(len(inputs))]
    outputs = model(*inputs)
    count = 1 if torch.is_tensor(outputs) else len(outputs)
    named = {"input_names": names, "output_names": [f"output{i}" if i else "output" for i in range(count)]}
    if exporter == "dynamic":
        named["dynamic_axes"] = dict(zip(names, architecture.axes)) | {n: {0: "batch"} for n in named["output_names"]}
    with tempfile.TemporaryDirectory() as folder:
        path, changed = os.path.join(folder, "model.onnx"), os.path.join(folder, "changed.onnx")
        if exporter in ("dynamo", "attention"):
            opset = 23 if exporter == "attention" else 18
            torch.onnx.export(
                model, inputs, path, dynamo=True, opset_version=opset, external_data=False, verbose=False, **named
            )
            return onnx.load(path)
        torch.onnx.export(model, inputs, path, dynamo=False, opset_version=17, **named)
        if exporter == "fused":
            from onnxruntime.transformers.optimizer import optimize_model

            kind, heads, width = architecture.fusion
            optimize_model(path, kind, num_heads=heads, hidden_size=width, opt_level=0).save_model_to_file(changed)
            return onnx.load(changed)
        if exporter == "quantized":
            quantize(path, changed, inputs[0].shape)
            return onnx.load(changed)
        return onnx.load(path)


def quantize(path, output, shape):
    from onnxruntime import quantization

    class Samples(quantization.CalibrationDataReader):
        def __init__(self):
            generator = np.random.default_rng(0)
            self.rest = [{"input": generator.standard_normal(shape, np.float32)} for _ in range(4)]

        def get_next(self):
            return self.rest.pop() if self.rest else None

    quantization.quantize_static(
        path, output, Samples(), quant_format=quantization.QuantFormat.QDQ, per_channel=True
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--exporters", nargs="*")
    arguments = parser.parse_args()
    for name, architecture in architectures().items():
        if arguments.only and name not in arguments.only:
            continue
        torch.manual_seed(0)
        model = distinct(architecture.make())
        for exporter in arguments.exporters or architecture.exporters:
            with torch.no_grad():
                path = skeletons.write(export(architecture, model, exporter), name, exporter)
            print(f"{path.relative_to(skeletons.FOLDER)}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
