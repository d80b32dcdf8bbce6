"""What it takes to fit a compressed network's weights anew, against what cannot be done without, in one run: part of
`make bench`, or `python Tests/Benchmarks/reconstruction.py [--images N]` with Tests/requirements-bench.txt.

ResNet50 at half its MACs is fitted to 256 images of 224x224 (`reconstruct` least_squares). That takes at least one run of
either network over all of them, which ONNX Runtime is timed at here, and for every layer the normal equations and the
solves for the ridges that are tried, whose operations are counted from what the reply says and timed at the rate of this
machine's BLAS on one core (a product of two matrices, double precision, as the daemon calls it).
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Proof"))
import numpy as np
import onnx
import onnxruntime
import threadpoolctl
from bench import Report, Wire, daemon, skeletons

MODEL = ("resnet50", "torchscript")
MEMORY = 2e9 / 2**20
# The ridges that are tried as a rule, and the last fit to all inputs.
SOLVES = 5


def images(count):
    """Pictures of sorts: as smooth as photographs, so that neighbours say much of each other."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, 3, 28, 28)).astype(np.float32)
    return coarse.repeat(8, 2).repeat(8, 3) + 0.3 * rng.normal(size=(count, 3, 224, 224)).astype(np.float32)


def seconds_per_image(path, samples):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    session.run(None, {entry.name: samples[:1]})
    began = time.perf_counter()
    for image in samples:
        session.run(None, {entry.name: image[None]})
    return (time.perf_counter() - began) / len(samples)


def blas_rate(size=1536):
    """Operations per second of a product of matrices."""
    a, b = (np.random.default_rng(seed).normal(size=(size, size)) for seed in range(2))
    with threadpoolctl.threadpool_limits(1, "blas"):
        a @ b
        began = time.perf_counter()
        for _ in range(3):
            a @ b
        return 3 * 2 * size**3 / (time.perf_counter() - began)


def operations(path, layers):
    """Of all normal equations and solves."""
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {node.name: stored[node.input[1]].dims for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    total = 0
    for layer in layers:
        outputs, length = weights[layer["name"]][0], int(np.prod(weights[layer["name"]][1:]))
        total += layer["positions"] * length * (length + 2 * outputs)
        total += SOLVES * (length**3 / 3 + 6 * outputs * length**2)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    count = parser.parse_args().images
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path, data, output = folder / "model.onnx", folder / "images.npy", folder / "fitted.onnx"
        onnx.save(skeletons.materialize(*MODEL), path)
        samples = images(count)
        np.save(data, samples)
        wire = Wire([daemon.server_path()])
        request = {"model": str(path), "compression_method": "PR_L2", "recommendation_method": "SLAMP",
                   "target": {"macs": 0.5}, "output_path": str(output)}  # fmt: skip
        _, plain = wire.ask("compress", {**request, "dry_run": True})
        fitting = {**request, "reconstruct": "least_squares", "dataset_path": str(data)}
        reply, seconds = wire.ask("compress", fitting)
        peak = wire.memory("VmHWM")
        wire.close()
        runs = sum(seconds_per_image(file, samples[:16]) for file in (path, output)) * count
        solves = operations(output, reply["reconstruction"]["layers"]) / blas_rate()
    version = subprocess.run([daemon.server_path(), "--version"], capture_output=True, text=True).stdout.strip()
    found = reply["reconstruction"]
    report.section(f"{version}: fitting {MODEL[0]} at half its MACs to {count} images of 224x224")
    report.row("compress with least_squares", f"{seconds:.1f} s", f"{plain:.2f} s of it without, dry")
    report.row("both networks over all images, ONNX Runtime", f"{runs:.1f} s")
    report.row("normal equations and solves at the BLAS rate", f"{solves:.1f} s")
    report.aim("compress / (runs + solves)", seconds / (runs + solves), 3)
    report.row("peak memory", f"{peak:.0f} MiB")
    report.aim("peak / 2 GB", peak / MEMORY, 1)
    report.row("relative error of the output, held out", f"{found['error_after']:.3f}", f"{found['error_before']:.3f} before")
    report.bound("products of matrices, then running the networks from where the last stage left off")
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
