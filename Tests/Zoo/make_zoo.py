"""Exports real architectures and writes their skeletons: `python Tests/Zoo/make_zoo.py [--only NAME ...]`.

Needs what Tests/requirements-zoo.txt lists; nothing is downloaded, for only the structure is kept (skeletons.py).
Run it to add an architecture or to follow a new exporter; the tests read the files it leaves.
Exporters: `torchscript` (fixed shapes), `dynamic` (torchscript with a symbolic batch, for texts a symbolic length as
well) and `dynamo` (torch.export).
"""

import argparse
import io
import os
import tempfile
import warnings

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


def export(model, exporter, inputs, axes):
    names = [f"input{i}" if i else "input" for i in range(len(inputs))]
    outputs = model(*inputs)
    count = 1 if torch.is_tensor(outputs) else len(outputs)
    named = {"input_names": names, "output_names": [f"output{i}" if i else "output" for i in range(count)]}
    if exporter == "dynamo":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            torch.onnx.export(
                model, inputs, path, dynamo=True, opset_version=18, external_data=False, verbose=False, **named
            )
            return onnx.load(path)
    if exporter == "dynamic":
        open_axes = dict(zip(names, axes)) | {name: {0: "batch"} for name in named["output_names"]}
        named["dynamic_axes"] = open_axes
    file = io.BytesIO()
    torch.onnx.export(model, inputs, file, dynamo=False, opset_version=17, **named)
    return onnx.ModelProto.FromString(file.getvalue())


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
                exported = export(model, exporter, architecture.inputs(exporter), architecture.axes)
            path = skeletons.write(exported, name, exporter)
            print(f"{path.relative_to(skeletons.FOLDER)}: {path.stat().st_size / 1024:.0f} KiB", flush=True)


if __name__ == "__main__":
    main()
