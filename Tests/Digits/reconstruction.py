"""Measures for docs/reconstruction.md, and plots, how accurate three trained networks are at a share of their MACs,
with and without reconstruction, beside what other tools make of them, without training and after two epochs of it.

Usage: `python Tests/Digits/reconstruction.py [--output FOLDER] [--results FILE]`, with Tests/requirements-digits.txt
and a built daemon (`make reconstruction-table`). Every network of Tests/Digits/models, as a PyTorch module, is
compressed by the daemon with each method, for targets on MACs, without reconstruction, with `bias` and with
`least_squares` on unlabelled images, and run on images that neither training nor the daemon saw. `--results` keeps what
was measured in a file, and goes on from there.

Invariant: every number comes from running the network that was written.
"""

import argparse
import pathlib
import tempfile

import numpy as np
import torch

import digits
import peers
import tables
import torch_networks

import measured
from tables import MODELS, NETWORKS, POINT

METHODS = ("PR_RANDOM", "PR_L2", "PR_GM", "PR_REC", "FD_TK", "FD_SVD", "automatic")
SHARES = (0.7, 0.5, 0.3, 0.2)
# Of these the networks are trained on as well.
TUNED = (0.5, 0.3)
MODES = ("none", "bias", "least_squares")
# How many inputs are tried, and with what.
COUNTS = (4, 8, 16, 32, 64, 128, 256, 512)
COUNTED = {"compression_method": "PR_REC", "target": {"macs": 0.5}, "reconstruct": "least_squares"}
SHAPES = [{"shape": [1, 1, 8, 8]}]


class Measurement:
    """Of one network: our methods and the peers, at every share. Results are `[share of MACs, accuracy, accuracy after
    training on, or None]`, or None where a target is out of reach."""

    def __init__(self, bench, name, data, results):
        self.bench, self.name, self.results = bench, name, results
        self.train, self.train_labels, self.images, self.labels = data
        self.model = torch_networks.network(name, MODELS / f"{name}.onnx")
        self.path = bench.folder / f"{name}.pt"
        torch_networks.save(self.model, self.path)
        self.dataset = bench.folder / "images.npy"

    def accuracies(self, model, share):
        plain = torch_networks.accuracy(model, self.images, self.labels)
        if share not in TUNED:
            return [plain, None]
        tuned = torch_networks.tuned(model, self.name, self.train, self.train_labels)
        return [plain, torch_networks.accuracy(tuned, self.images, self.labels)]

    def ours(self, method, share, mode):
        needs_data = mode == "least_squares" or method.startswith("FD_") or method in ("PR_REC", "automatic")
        outcome = self.bench.outcome(
            self.path, compression_method=method, target={"macs": share}, reconstruct=mode, input_shapes=SHAPES,
            dataset_path=self.dataset if needs_data else None,
        )  # fmt: skip
        return outcome and [outcome.macs, *self.accuracies(torch_networks.load(outcome.path), share)]

    def theirs(self, peer, share):
        path = self.bench.folder / "peer.onnx"
        found = peers.at(peer, self.bench.client, self.name, self.model, share, path)
        if found is None:
            return None
        macs, model = found
        if model is None:
            return [macs, digits.accuracy(path, self.images, self.labels), None]
        return [macs, *self.accuracies(model, share)]

    def counted(self, count):
        path = self.bench.folder / f"{count}.npy"
        np.save(path, self.train[:count])
        outcome = self.bench.outcome(self.path, input_shapes=SHAPES, dataset_path=path, **COUNTED)
        return [outcome.macs, outcome.accuracy, None]

    def everything(self):
        measure = self.results.measure
        measure((self.name, "original"), lambda: [1, *self.accuracies(self.model, TUNED[0])])
        for share in SHARES:
            for key, peer in peers.PEERS.items():
                measure((self.name, key, share), lambda: self.theirs(peer, share))
            for method in METHODS:
                for mode in MODES:
                    measure((self.name, method, mode, share), lambda: self.ours(method, share, mode))
        for count in COUNTS:
            measure((self.name, "inputs", count), lambda: self.counted(count))


def percent(value):
    return f"{100 * value:.1f}"


def cell(found, column, share):
    """Accuracy, and the share of MACs where it is another than what was asked for."""
    if found is None or found[column] is None:
        return "–"
    aside = f" ({found[0]:.2f})" if abs(found[0] - share) > POINT else ""
    return percent(found[column]) + aside


def rows(name):
    """`(method, reconstruct, key by share)` of what can do anything at all."""
    for method in METHODS:
        for mode in MODES:
            yield f"`{method}`" if method != "automatic" else method, mode, lambda share: (name, method, mode, share)
    for key, peer in peers.PEERS.items():
        yield peer.title, "", lambda share: (name, key, share)


def network_table(results, name):
    original = results[name, "original"]
    titles = [f"{share:g}" for share in SHARES] + [f"{share:g}, tuned" for share in TUNED]
    lines = [
        f"\n### {NETWORKS[name]}\n",
        f"The original: {percent(original[1])} %, and {percent(original[2])} % after two more epochs.\n",
        f"| method | reconstruct | {' | '.join(titles)} |",
        f"| --- | --- |{' ---: |' * len(titles)}",
    ]
    idle = []
    for method, mode, key in rows(name):
        if all(results[key(share)] is None for share in SHARES):
            idle += [method] if method not in idle else []
            continue
        cells = [cell(results[key(share)], 1, share) for share in SHARES]
        cells += [cell(results[key(share)], 2, share) for share in TUNED]
        lines.append(f"| {method} | {mode} | {' | '.join(cells)} |")
    if idle:
        lines.append(f"\nUnable to bring it to {SHARES[0]} of the MACs, let alone to fewer: {', '.join(idle)}.")
    return lines


def summary(results):
    """What a user gets at half of the MACs and below, beside the best of the peers, plain and trained on."""
    lines = [
        "| network | MACs left | original | `PR_REC`, refitted | automatic, refitted | other tools | tuned |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, title in NETWORKS.items():
        for share in TUNED:
            others = [found for key in peers.PEERS if (found := results[name, key, share])]
            best, tuned = (max(found[column] or 0 for found in others) for column in (1, 2))
            refitted = [results[name, method, "least_squares", share][1] for method in ("PR_REC", "automatic")]
            cells = [results[name, "original"][1], *refitted, best, tuned]
            lines.append(f"| {title} | {share:g} | {' | '.join(percent(value) for value in cells)} |")
    return lines


def counts_table(results):
    lines = [f"| network | {' | '.join(map(str, COUNTS))} |", f"| --- |{' ---: |' * len(COUNTS)}"]
    for name, title in NETWORKS.items():
        lines.append(f"| {title} | {' | '.join(percent(results[name, 'inputs', count][1]) for count in COUNTS)} |")
    return lines


# Told apart by anybody (Okabe and Ito 2008), in print by marker, and what is refitted by its line.
OURS = {
    "PR_L2": ("#D55E00", "o"),
    "PR_REC": ("#0072B2", "s"),
    "decomposed": ("#009E73", "^"),
    "automatic": ("#CC79A7", "D"),
}
THEIRS = {"torch-l2": ("0.35", "x"), "torch-lamp": ("0.35", "+"), "onnxsim": ("0.6", "1")}
LINES = {"none": ("--", "none", ""), "least_squares": ("-", "full", ", refitted")}
# Accuracies that are marked. Errors are drawn by their logarithm; none at all counts as half an image.
TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
LEAST_ERROR = 0.5 / digits.HELD_OUT


def plot(results, path):
    figure, axes = tables.frames("reconstruction", NETWORKS.values(), 4.9)
    handles = {}

    def draw(axis, label, key, line, color, marker, fill):
        found = [results[key(share)] for share in SHARES]
        points = [(entry[0], max(1 - entry[1], LEAST_ERROR)) for entry in found if entry]
        if points:
            (handles[label],) = axis.plot(
                *zip(*points), line, color=color, marker=marker, fillstyle=fill, markersize=6, label=label
            )

    for axis, name in zip(axes, NETWORKS):
        error = 1 - results[name, "original"][1]
        handles["original"] = axis.axhline(error, color="0.55", linewidth=1, linestyle=":", label="original")
        for label, (color, marker) in OURS.items():
            method = {"decomposed": "FD_TK" if name == "resnet" else "FD_SVD"}.get(label, label)
            for mode, (line, fill, suffix) in LINES.items():
                title = f"{label}{suffix}" if label != "decomposed" else f"FD_TK or FD_SVD{suffix}"
                draw(axis, title, lambda share: (name, method, mode, share), line, color, marker, fill)
        for key, (color, marker) in THEIRS.items():
            draw(axis, peers.PEERS[key].title, lambda share: (name, key, share), "-.", color, marker, "full")
        axis.set(xlim=(0.15, 0.75), yscale="log", ylim=(1.05, 0.8 * LEAST_ERROR))
    axes[0].set_yticks([1 - tick for tick in TICKS], [f"{100 * tick:g} %" for tick in TICKS])
    axes[0].minorticks_off()
    axes[0].set_ylabel("accuracy, nothing trained")
    tables.save(figure, handles.values(), 4, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "docs")
    parser.add_argument("--results", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, data = measured.Results(arguments.results), digits.split()
    train, _, images, labels = data
    with tables.connect() as client, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        np.save(folder / "images.npy", train[: digits.CALIBRATION])
        bench = tables.Bench(
            client, folder, lambda path: torch_networks.accuracy(torch_networks.load(path), images, labels)
        )
        for name in NETWORKS:
            Measurement(bench, name, data, results).everything()
    page = arguments.output / "reconstruction.md"
    measured.replace_part(page, "summary", summary(results))
    measured.replace_part(page, "networks", [line for name in NETWORKS for line in network_table(results, name)])
    measured.replace_part(page, "inputs", counts_table(results))
    plot(results, arguments.output / "images" / "reconstruction.svg")


if __name__ == "__main__":
    main()
