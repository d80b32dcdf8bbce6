"""Filter decomposition against what does the same in Python, and against the BLAS floor: part of `make bench`, or
`python Tests/Benchmarks/decomposition.py [--rounds N] [--threads N ...]` with Tests/requirements-bench.txt.

Everything is measured for one thread and for two: the daemon with `--threads N`, NumPy's and SciPy's OpenBLAS with a
limit of N, in turns. Medians over the rounds; every file read is in the page cache. Neither side's first use of OpenBLAS
counts against an aim: a new daemon decomposes once, forgets the model and everything about it, and decomposes anew. The
networks are resnet50 and a single convolution, with weights of a known low rank under noise, in the float32 of the file:
so NumPy works in single precision, as for those who use these routines. We work in double, but for Tucker's first sweep.

The floor of a whole Tucker decomposition is a count of what its algorithm cannot do without, over the rate of NumPy's
dgemm with as many threads (see `tucker_flops`). Nothing reaches it: half of a reduction to tridiagonal form is limited
by memory, not by arithmetic, and small layers are read and converted for longer than they are multiplied.

OpenBLAS may not know the processor and choose slow kernels; OPENBLAS_CORETYPE=SKYLAKEX or the like in the environment
means ours, NumPy's and SciPy's alike.
"""

import argparse
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Proof"))
import daemon  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import skeletons  # noqa: E402
import tensorly  # noqa: E402
import threadpoolctl  # noqa: E402
from bench import Report, Wire, median, milliseconds, timed  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from scipy.optimize import minimize_scalar  # noqa: E402
from tensorly.decomposition import partial_tucker  # noqa: E402

METHODS = ("FD_TK", "FD_SVD")
KERNEL, RANKS = (512, 512, 3, 3), (128, 128)
# An idle thread of OpenBLAS spins for a while before it sleeps; the daemon is not to share its core with it.
SETTLING = 0.3
# Seconds; what takes longer needs no median.
PATIENCE = 5


# MARK: networks


def structured(shape, name):
    """A weight `[O, I, ...]`: decaying components, as many as a tenth to a half of full rank, and noise."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    outputs, inputs, taps = shape[0], shape[1], int(np.prod(shape[2:]))
    rank = max(1, int(min(outputs, inputs) * rng.uniform(0.1, 0.5)))
    decay = np.arange(1, rank + 1) ** -0.5
    if taps == 1:
        signal = (rng.standard_normal((outputs, rank)) * decay) @ rng.standard_normal((rank, inputs))
    else:
        core = rng.standard_normal((rank, taps, rank)) * decay[:, None, None] * decay
        signal = rng.standard_normal((outputs, rank)) @ core.reshape(rank, -1)
        signal = signal.reshape(outputs, taps, rank) @ rng.standard_normal((rank, inputs))
        signal = signal.swapaxes(1, 2).reshape(shape)
    noise = rng.standard_normal(shape)
    whole = signal.reshape(shape) / np.sqrt(np.mean(signal**2)) + noise / np.sqrt(3)
    return (whole * np.sqrt(1.5 / (inputs * taps))).astype(np.float32)


def resnet50():
    model = skeletons.materialize("resnet50", "torchscript")
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            tensor.CopyFrom(numpy_helper.from_array(structured(tuple(tensor.dims), tensor.name), tensor.name))
    return model


def one_convolution():
    shape = [1, KERNEL[1], 7, 7]
    weight = numpy_helper.from_array(structured(KERNEL, "kernel"), "weight")
    node = helper.make_node("Conv", ["x", "weight"], ["y"], "conv", kernel_shape=KERNEL[2:], pads=[1] * 4)
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, KERNEL[0], 7, 7])], [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def kernels(model, layers):
    """By layer of `inspect`: its weight `[O, I, ...]`."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return {layer["name"]: numpy_helper.to_array(weights[layer["parameter"]]) for layer in layers}


def unfoldings(kernel):
    """The matrices whose ranks are wanted, in the order in which the daemon lists them."""
    outputs, inputs = kernel.shape[:2]
    if kernel.size == outputs * inputs:
        return [kernel.reshape(outputs, inputs)]
    return [np.moveaxis(kernel, 1, 0).reshape(inputs, -1), kernel.reshape(outputs, -1)]


# MARK: the routine in Python


def bounded(objective, lower, upper, _):
    return minimize_scalar(objective, bounds=(lower, upper), method="bounded").x


def exhaustive(objective, lower, upper, kinks):
    """The objective has many local minima, some at its kinks."""
    points = [*np.geomspace(lower, upper, 5000), *(kinks[(lower < kinks) & (kinks < upper)] * (1 - 1e-12))]
    return min(points, key=objective)


def evbmf_rank(matrix, minimize=bounded, **svd):
    """Nakajima et al., JMLR 14 (2013), with the noise variance sought between the bounds of their paper of NIPS 2012:
    in public implementations by SciPy's bounded scalar minimization. It wants rows <= columns.
    """
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    rows, columns = matrix.shape
    alpha = rows / columns
    tau_bar = 2.5129 * np.sqrt(alpha)
    x_bar = (1 + tau_bar) * (1 + alpha / tau_bar)
    found = np.linalg.svd(matrix, **svd)
    s = found if svd.get("compute_uv") is False else found[1]

    def objective(variance):
        x = s**2 / (columns * variance)
        signal, noise = x[x > x_bar], x[x <= x_bar]
        difference = signal - (1 + alpha)
        tau = 0.5 * (difference + np.sqrt(difference**2 - 4 * alpha))
        return (
            np.sum(noise - np.log(noise))
            + np.sum(signal - tau)
            + np.sum(np.log((tau + 1) / signal))
            + alpha * np.sum(np.log(tau / alpha + 1))
        )

    first = int(min(np.ceil(rows / (1 + alpha)) - 1, rows))
    lower = max(s[first] ** 2 / (columns * x_bar), np.mean(s[first:] ** 2) / columns)
    upper = np.sum(s**2) / (rows * columns)
    variance = minimize(objective, lower, upper, s**2 / (columns * x_bar))
    return int(np.sum(s > np.sqrt(columns * variance * x_bar)))


# MARK: the four questions


def server_command(server, threads):
    return [server, "--threads", str(threads)]


def vbmf(report, server, path, model, threads, rounds):
    request = {"model": str(path), "recommendation_method": "VBMF", "recommendation_ratio": 0}
    forms = {
        "np.linalg.svd(Y), as published": {},
        "  with full_matrices=False": {"full_matrices": False},
        "  with compute_uv=False": {"compute_uv": False},
    }
    ours, whole, theirs = [], [], {form: [] for form in forms}
    for _ in range(rounds):
        time.sleep(SETTLING)
        began = time.perf_counter()
        wire = Wire(server_command(server, threads))
        layers = wire.ask("inspect", {"model": str(path)})[0]["layers"]
        replies = [wire.ask("recommend", {**request, "compression_method": method}) for method in METHODS]
        whole.append(time.perf_counter() - began)
        ours.append(sum(seconds for _, seconds in replies))
        wire.close()
        found = {layer["name"]: layer["ranks"]["vbmf"] for reply, _ in replies for layer in reply["available_layers"]}
        weights = kernels(model, [layer for layer in layers if layer["name"] in found])
        for form, arguments in forms.items():
            if theirs[form] and theirs[form][0] > PATIENCE:
                continue
            ranks = {}

            def work():
                for name, kernel in weights.items():
                    ranks[name] = [evbmf_rank(matrix, **arguments) for matrix in unfoldings(kernel)]

            theirs[form].append(timed(work))
    pairs = [pair for name in weights for pair in zip(found[name], ranks[name])]
    disputed = [
        (own, matrix)
        for name, kernel in weights.items()
        for own, other, matrix in zip(found[name], ranks[name], unfoldings(kernel)) if own != other
    ]
    lowest = sum(own == evbmf_rank(m.astype(np.float64), exhaustive, compute_uv=False) for own, m in disputed)
    report.section(f"VBMF ranks of resnet50's {len(pairs)} matrices, {threads} thread{'s' * (threads > 1)}")
    report.row("ours: recommend FD_TK + FD_SVD after inspect", milliseconds(median(ours)), "new daemon, model loaded")
    report.row("  from the start of the process", milliseconds(median(whole)))
    for form, seconds in theirs.items():
        report.row(form, milliseconds(median(seconds)), f"{median(seconds) / median(ours):.1f} x ours")
    same = sum(a == b for a, b in pairs)
    report.row(
        "same rank", f"{same} of {len(pairs)}",
        f"the others differ by {max(abs(a - b) for a, b in pairs)} at most; "
        f"ours is at the lowest objective in {lowest} of these {len(disputed)}",
    )
    report.row("largest and least rank", f"{max(a for a, _ in pairs)}, {min(a for a, _ in pairs)}")
    report.aim("times faster than the published routine", median(theirs[next(iter(forms))]) / median(ours), 20, True)
    report.bound("Gram matrices in double (dsyrk) and their eigenvalues (dsyevd, half of it limited by memory)")


def decompose_anew(wire, request, seconds):
    """The answers to `compress` and to the `inspect` before it, of a model of which nothing else is known."""
    model = {"model": request["model"]}
    wire.ask("release", model)
    layers = wire.ask("inspect", model)[0]["layers"]
    reply, taken = wire.ask("compress", request)
    seconds.append(taken)
    return reply, layers


def tucker(report, server, path, model, threads, rounds):
    kernel = numpy_helper.to_array(model.graph.initializer[0])
    request = {
        "model": str(path), "compression_method": "FD_TK", "layers": [{"name": "conv", "values": list(RANKS)}],
    }
    output = path.with_name("tucker.onnx")
    first, ours, written, theirs = [], [], [], []
    for _ in range(rounds):
        time.sleep(SETTLING)
        wire = Wire(server_command(server, threads))
        for seconds in first, ours:
            reply = decompose_anew(wire, {**request, "dry_run": True}, seconds)[0]
        decompose_anew(wire, {**request, "output_path": str(output), "overwrite": True}, written)
        wire.close()
        began = time.perf_counter()
        (core, factors), errors = partial_tucker(kernel, rank=list(RANKS), modes=[0, 1])
        theirs.append(time.perf_counter() - began)
    wide = [factor.astype(np.float64) for factor in (core, *factors)]
    product = tensorly.tenalg.multi_mode_dot(wide[0], wide[1:], modes=[0, 1])
    their_error = np.linalg.norm(kernel - product) / np.linalg.norm(kernel)
    our_error = reconstruction_error(onnx.load(output), kernel)
    report.section(
        f"Tucker-2 of a {'x'.join(map(str, KERNEL))} kernel at ranks {RANKS}, {threads} thread{'s' * (threads > 1)}"
    )
    report.row("ours: compress (dry) after inspect", milliseconds(median(ours)), "both spectra, factors, proof")
    report.row("  with the written, synced file", milliseconds(median(written)))
    report.row("  the first of a new daemon", milliseconds(median(first)))
    report.row("tensorly.partial_tucker, defaults", milliseconds(median(theirs)), f"{len(errors)} sweeps")
    reported = reply["replaced"][0]["relative_error"]
    report.row("relative error of ours, of the file", f"{our_error:.6f}", f"reported {reported:.6f}")
    report.row("relative error of tensorly's", f"{their_error:.6f}")
    report.aim("times faster", median(theirs) / median(ours), 10, at_least=True)
    report.aim("how far our error is above theirs, in 1e-4 of it", (our_error / their_error - 1) / 1e-4, 1)
    report.bound("two Gram matrices in double and their eigenvalues, which only the report needs all; then products")


def reconstruction_error(model, kernel):
    """Of the file's three layers against the kernel."""
    tensors = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    first, core, last = (tensors[node.input[1]] for node in model.graph.node)
    product = tensorly.tenalg.multi_mode_dot(core, [last[:, :, 0, 0], first[:, :, 0, 0].T], modes=[0, 1])
    return np.linalg.norm(kernel - product) / np.linalg.norm(kernel)


def tucker_flops(shape, ranks):
    """What Tucker-2 of a layer cannot do without, in operations, additions and multiplications apart, as (all Gram
    matrices, all eigenproblems, all products). `ranks` is [input, output]; None where VBMF's ranks keep the layer.

    Gram matrices by symmetry, n^2 k; eigenvalues by tridiagonal form, 4/3 n^3, what comes after for nothing;
    eigenvectors 2 n^2 m more. A sweep and a half, the fewest that can tell that more gain nothing; in the second a basis
    is only advanced, at the least by one product and an orthonormalization, 2 n^2 m + 2 n m^2. All count as done in
    double, though the first sweep's products are not.
    """
    outputs, inputs, taps = shape[0], shape[1], int(np.prod(shape[2:]))
    gram = outputs**2 * inputs * taps + inputs**2 * outputs * taps
    eigen = 4 / 3 * (outputs**3 + inputs**3)
    products = 0
    if ranks:
        by_input, by_output = ranks
        eigen += 2 * inputs**2 * by_input  # vectors of the Gram matrix by inputs; its tridiagonal form is there
        for half in range(3):
            by_outputs = half % 2 == 0  # the basis that is found; the kernel is projected on the other
            (size, rank), (_, others) = (
                ((outputs, by_output), (inputs, by_input)) if by_outputs else ((inputs, by_input), (outputs, by_output))
            )
            products += 2 * outputs * taps * inputs * others
            gram += size**2 * taps * others
            eigen += 2 * size**2 * rank + (4 / 3 * size**3 if half == 0 else 2 * size * rank**2)
        products += 2 * outputs * taps * by_input * by_output  # the core
    return np.array([gram, eigen, products])


def dgemm_rate(size=1536):
    """Operations per second, the best of a few products of square matrices in double."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size))
    return 2 * size**3 / min(timed(lambda: a @ b) for _ in range(5))


def scaling(report, threads):
    """OpenBLAS waits for its threads by spinning: where others keep a core busy, it takes many times as long."""
    with threadpoolctl.threadpool_limits(1):
        alone = dgemm_rate()
    ratio = dgemm_rate() / alone
    report.section(f"dgemm of NumPy with {threads} threads: {ratio:.2f} times the rate of one")
    if ratio < 0.75 * threads:
        print("  The machine has not as many cores free: what follows for so many threads says little, least of peers.")


def whole_tucker(report, server, path, model, threads, rounds):
    request = {
        "model": str(path), "compression_method": "FD_TK", "recommendation_method": "VBMF", "recommendation_ratio": 0,
    }
    output = path.with_name("resnet50_tucker.onnx")
    first, ours, written, rates = [], [], [], []
    for _ in range(rounds):
        rates.append(dgemm_rate())
        time.sleep(SETTLING)
        wire = Wire(server_command(server, threads))
        for seconds in first, ours:
            reply, layers = decompose_anew(wire, {**request, "dry_run": True}, seconds)
        decompose_anew(wire, {**request, "output_path": str(output), "overwrite": True}, written)
        wire.close()
    kept = {layer["name"]: layer["ranks"]["kept"] for layer in reply["layers"] if "ranks" in layer}
    weights = kernels(model, [layer for layer in layers if layer["name"] in kept])
    flops = sum(tucker_flops(weights[name].shape, kept[name]) for name in kept)
    floor = flops.sum() / median(rates)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(("Gram", "eigen", "products"), flops / flops.sum()))
    report.section(f"The whole FD_TK of resnet50 by VBMF at 0, {threads} thread{'s' * (threads > 1)}")
    report.row(
        "compress (dry) after inspect", milliseconds(median(ours)),
        f"{sum(ranks is not None for ranks in kept.values())} of {len(kept)} layers decomposed",
    )
    report.row("  with the written, synced file", milliseconds(median(written)))
    report.row("  the first of a new daemon", milliseconds(median(first)))
    report.row("dgemm of NumPy", f"{median(rates) / 1e9:.1f} GFLOPS")
    report.row("operations it cannot do without", f"{flops.sum() / 1e9:.1f} G", shares)
    report.row("the floor", milliseconds(floor))
    report.aim("compress / floor", median(ours) / floor, 2)
    report.bound("reductions to tridiagonal form run at memory's speed; ranks, rounding, report and proof count for us")


def again(report, server, path, threads):
    wire = Wire(server_command(server, threads))
    report.section(f"Recommending again at another ratio (-0.95 to 0.95), {threads} thread{'s' * (threads > 1)}")
    for method in METHODS:
        request = {"model": str(path), "compression_method": method, "recommendation_method": "VBMF"}
        cold = wire.ask("recommend", {**request, "recommendation_ratio": 0})[1]
        warm = [
            wire.ask("recommend", {**request, "recommendation_ratio": step / 20})[1]
            for _ in range(10) for step in range(-19, 20)
        ]
        report.row(
            f"{method}, p50 with the wire", milliseconds(median(warm)),
            f"p99 {milliseconds(sorted(warm)[len(warm) * 99 // 100])}, cold {milliseconds(cold)}",
        )
        report.aim(f"{method}, p50 against 1 ms", median(warm) / 1e-3, 1)
    wire.close()
    report.bound("singular values are kept with the model: what is left is arithmetic on ranks, and JSON")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    server, report = daemon.server_path(), Report()
    print(
        f"{subprocess.run([server, '--version'], capture_output=True, text=True).stdout.strip()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "tensorly"))
        + f", OpenBLAS for {' and '.join(sorted({i['architecture'] for i in threadpoolctl.threadpool_info()}))}"
        + f", {os.cpu_count()} cores, medians of {arguments.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        network, convolution = resnet50(), one_convolution()
        path, small = folder / "resnet50.onnx", folder / "convolution.onnx"
        onnx.save(network, path)
        onnx.save(convolution, small)
        os.sync()
        for threads in arguments.threads:
            with threadpoolctl.threadpool_limits(threads):
                if threads > 1:
                    scaling(report, threads)
                vbmf(report, server, path, network, threads, arguments.rounds)
                tucker(report, server, small, convolution, threads, arguments.rounds)
                whole_tucker(report, server, path, network, threads, arguments.rounds)
                again(report, server, path, threads)
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
