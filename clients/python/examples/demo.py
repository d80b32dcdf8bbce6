"""Compresses two networks trained on digits, by weights alone and with images that nobody labelled, and measures what
is left of them in ONNX Runtime.

Run by `make demo`. Needs the package espalier, a built espalierd (ESPALIER_SERVER), numpy and onnxruntime. Nothing is
retrained: the accuracies are those of the networks as they come out of the daemon, on 300 images that training has
never seen.
"""

import argparse
import os
import pathlib
import statistics
import time

import numpy as np
import onnxruntime

import espalier
from espalier import tables

MODELS = pathlib.Path(__file__).resolve().parent / "models"
NETWORKS = {
    "digits_resnet": "a residual CNN (TorchScript export, batch normalization kept)",
    "digits_mobile": "depthwise convolutions and squeeze-excite gates (dynamo export)",
}
RATIOS = (0.1, 0.2, 0.3, 0.45, 0.6)
# What is left of the multiply-adds where samples help.
SHARES = (0.5, 0.3, 0.2)
# Calls per measured time; the median is shown.
REPEATS = 9


def timed(function, *arguments, **options):
    """`(result, milliseconds)` of one call."""
    begin = time.perf_counter()
    result = function(*arguments, **options)
    return result, (time.perf_counter() - begin) * 1e3


def repeated(function, *arguments, **options):
    """As `timed`, with the median of several calls."""
    results, times = zip(*(timed(function, *arguments, **options) for _ in range(REPEATS)))
    return results[-1], statistics.median(times)


def accuracy(path, images, labels) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    return float((logits.argmax(axis=1) == labels).mean())


def share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:3.0f} %)"


def show_inspection(client: espalier.Client, model: pathlib.Path):
    cold, cold_ms = timed(client.inspect, model)
    warm, warm_ms = repeated(client.inspect, model)
    prunable = sum(group.prunable for group in warm.groups)
    print(tables.inspection(warm))
    print(f"\n{prunable} of {len(warm.groups)} groups of coupled channels can be pruned")
    print(f"inspect: {cold_ms:.1f} ms from disk, {warm_ms:.1f} ms warm\n")
    assert not cold.cached and warm.cached


def show_sweep(client: espalier.Client, model: pathlib.Path, output: pathlib.Path, images, labels) -> list:
    """One row per ratio, the untouched network first; the files written."""
    score = accuracy(model, images, labels)
    rows, written = [], []
    for ratio in RATIOS:
        advice, recommend_ms = repeated(client.recommend, model, recommendation_ratio=ratio)
        path = output / f"{model.stem}-{ratio:.0%}.onnx".replace("%", "")
        result, compress_ms = timed(client.compress, model, path, layers=advice.available_layers, overwrite=True)
        before, after = result.original, result.compressed
        if not rows:
            sizes = share(before.parameters, before.parameters), share(before.macs, before.macs)
            rows.append(("–", "", "", *sizes, f"{before.size_bytes:,}", f"{score:.1%}"))
        rows.append(
            (
                f"{ratio:.0%}",
                f"{recommend_ms:.1f} ms",
                f"{compress_ms:.1f} ms",
                share(after.parameters, before.parameters),
                share(after.macs, before.macs),
                f"{after.size_bytes:,}",
                f"{accuracy(path, images, labels):.1%}",
            )
        )
        written.append(path)
    columns = (">channels removed", ">recommend", ">compress", ">parameters", ">MACs", ">bytes", ">accuracy")
    print(tables.table(columns, rows))
    return written


def show_refits(client: espalier.Client, model: pathlib.Path, output: pathlib.Path, images, labels) -> list:
    """One row per size, once by weights alone and once with images that nobody labelled; the files written."""
    samples = MODELS / "digits_calibration.npy"
    rows, written = [], []
    for size in SHARES:
        target = {"macs": size}
        alone, fitted = (output / f"{model.stem}-{size:.1f}-{kind}.onnx" for kind in ("alone", "fitted"))
        client.compress(model, alone, target=target, overwrite=True)
        _, fitted_ms = timed(
            client.compress, model, fitted, target=target, compression_method="automatic", reconstruct="least_squares",
            dataset_path=samples, overwrite=True,
        )  # fmt: skip
        scores = (f"{accuracy(path, images, labels):.1%}" for path in (alone, fitted))
        rows.append((f"{size:.0%}", *scores, f"{fitted_ms / 1e3:.1f} s"))
        written += [alone, fitted]
    count = len(np.load(samples))
    print(f"\nwith {count} images without labels: methods chosen layer by layer, weights fitted anew\n")
    print(tables.table((">MACs left", ">PR_L2 alone", ">automatic, fitted", ">took"), rows))
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("demo-output"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    with np.load(MODELS / "digits_heldout.npz") as held_out:
        images, labels = held_out["images"], held_out["labels"]

    client, start_ms = timed(espalier.Client)
    written = []
    with client:
        print(f"{client.server_info['name']} {client.server_info['version']} started in {start_ms:.0f} ms")
        for name, description in NETWORKS.items():
            title = f"{name}.onnx: {description}"
            print(f"\n{title}\n{'=' * len(title)}\n")
            show_inspection(client, MODELS / f"{name}.onnx")
            written += show_sweep(client, MODELS / f"{name}.onnx", output, images, labels)
            written += show_refits(client, MODELS / f"{name}.onnx", output, images, labels)

    print(
        f"\nAccuracy: {len(labels)} images that training never saw, in ONNX Runtime {onnxruntime.__version__}; "
        "nothing was retrained.\n"
        f"Times: as this client sees them; recommend is the median of {REPEATS} calls, compress writes the file."
    )
    print("The smaller networks:")
    for path in written:
        print(f"  {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
