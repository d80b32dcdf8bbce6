"""Keras's files against Keras itself, in one run: part of `make bench`, or
`python Tests/Benchmarks/keras_files.py [--rounds N]` in an environment with Tests/requirements-bench.txt.

One network, ResNet50 of keras.applications with random weights, as `.keras` and as `.h5`. All sides take turns on the same
files, which are in the page cache. Keras loads in a process that has imported it and has loaded the file before, so that
neither imports nor first calls count; ours is a new daemon each time, asked once. Loading gives Keras a model that runs
and us the whole answer to `inspect`: shapes, costs, groups of coupled channels; what it takes to load Keras's own answer
to that, names and shapes without weights, is told besides. Nothing prunes Keras models any more, so that the other side
of pruning is what people write by hand: a script that halves the channels inside every residual block, by the norms of
its filters, and saves the model. It has the network in memory; we get a path, and our file is proved, synced and renamed.
"""

import argparse
import os
import pathlib
import subprocess
import tempfile
import time

os.environ["KERAS_BACKEND"] = "torch"

from peers import RATIO, THREADS, daemon, timed, torch  # sets the number of threads
from bench import Report, Wire, median, milliseconds

import keras
import numpy as np

FORMS = (".keras", ".h5")


def load(path):
    return keras.models.load_model(path, compile=False)


def reading(report, server, path, rounds):
    load(path)
    ours, whole, theirs, skeletons = [], [], [], []
    network = load(path)
    for _ in range(rounds):
        began = time.perf_counter()
        wire = Wire([server])
        ours.append(wire.ask("inspect", {"model": str(path)})[1])
        whole.append(time.perf_counter() - began)
        peak = wire.memory("VmHWM")
        wire.close()
        theirs.append(timed(lambda: load(path))[0])
        settings = network.get_config()  # it does not survive
        skeletons.append(timed(lambda: keras.Model.from_config(settings))[0])
    size = path.stat().st_size
    report.section(f"Load to inspect of ResNet50{path.suffix} ({size / 1e6:.0f} MB) against keras.models.load_model")
    report.row("inspect, new daemon, first request", milliseconds(median(ours)))
    report.row("the same from the start of the process", milliseconds(median(whole)))
    report.row("keras.models.load_model, imports not counted", milliseconds(median(theirs)))
    report.row("  of which the layers without their weights", milliseconds(median(skeletons)))
    report.aim("times faster", median(theirs) / median(ours), 10, at_least=True)
    report.row("peak memory after inspect", f"{peak:.1f} MiB", f"the file has {size / 2**20:.0f} MiB")
    report.bound("reading the configuration and the table of datasets, shape inference and coupling")


# MARK: by hand

INSIDE = ("_1", "_2")


def pruned_by_hand(network):
    """Half of what is between the convolutions of each block, chosen by the norms of the filters: a new network from the
    edited configuration, and the old one's weights without the slices."""
    settings, kept = network.get_config(), {}
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.name[:-5].endswith(INSIDE):
            kernel, bias = layer.get_weights()
            norms = np.sqrt((kernel.astype(np.float64) ** 2).sum((0, 1, 2)))
            kept[layer.name[:-5]] = np.sort(np.argsort(-norms)[: int(len(norms) * RATIO)])
    for entry in settings["layers"]:
        name = entry["config"]["name"]
        if name.endswith("_conv") and name[:-5] in kept:
            entry["config"]["filters"] = len(kept[name[:-5]])
        entry.pop("build_config", None)
    smaller = keras.Model.from_config(settings)
    for old, new in zip(network.layers, smaller.layers, strict=True):
        stem, _, kind = old.name.rpartition("_")
        values = old.get_weights()
        if stem in kept and values:
            values = [value[..., kept[stem]] for value in values]
        before = {"_2": "_1", "_3": "_2"}.get(stem[-2:])
        if kind == "conv" and before and stem[:-2] + before in kept:
            values[0] = values[0][:, :, kept[stem[:-2] + before]]
        if values:
            new.set_weights(values)
    return smaller


def writing(report, server, path, network, rounds):
    output, peer = path.with_stem("pruned"), path.with_stem("peer")
    inside = [
        f"{layer.name}" for layer in network.layers if layer.name.endswith("_conv") and layer.name[:-5].endswith(INSIDE)
    ]
    request = {
        "model": str(path), "compression_method": "PR_L2", "output_path": str(output),
        "layers": [{"name": name, "values": [1 - RATIO]} for name in inside],
    }  # fmt: skip
    ours, loaded, theirs, saves, loads = [], [], [], [], []
    for _ in range(rounds):
        for file in (output, peer):
            file.unlink(missing_ok=True)
        os.sync()
        loads.append(timed(lambda: load(path))[0])
        seconds, smaller = timed(lambda: pruned_by_hand(network))
        saves.append(timed(lambda: smaller.save(peer))[0])
        theirs.append(seconds + saves[-1])
        os.sync()
        wire = Wire([server])
        reply, seconds = wire.ask("compress", request)
        ours.append(seconds)
        peak = wire.memory("VmHWM")
        output.unlink()
        os.sync()
        loaded.append(wire.ask("compress", request)[1])
        wire.close()
    left = reply["compressed"]["parameters"] / reply["original"]["parameters"]
    report.section(f"Halve the blocks of ResNet50{path.suffix} and write it, against doing so by hand in Keras")
    report.row("compress, new daemon, first request", milliseconds(median(ours)), f"{left:.2f} of the parameters left")
    report.row("compress, loaded before", milliseconds(median(loaded)))
    report.row(
        "a script in Keras, the network in memory", milliseconds(median(theirs)),
        f"{smaller.count_params() / network.count_params():.2f} left",
    )  # fmt: skip
    report.row("  of which model.save, without a sync", milliseconds(median(saves)))
    report.row("times faster", f"{median(theirs) / median(ours):.2f} x")
    report.row("  where both load first", f"{(median(loads) + median(theirs)) / median(ours):.2f} x")
    report.row("  where neither does", f"{median(theirs) / median(loaded):.2f} x")
    report.row("peak memory", f"{peak:.1f} MiB", f"the files have {path.stat().st_size / 2**20:.0f} MiB and less")
    report.bound("scoring the filters, then the disk and reading the written file again to check it")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    server, report = daemon.server_path(), Report()
    print(
        f"{subprocess.run([server, '--version'], capture_output=True, text=True).stdout.strip()}, "
        f"keras {keras.__version__} with torch {torch.__version__}, "
        f"{os.cpu_count()} cores, {THREADS} threads, medians of {arguments.rounds} rounds"
    )
    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(weights=None)
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            path = pathlib.Path(folder) / f"resnet50{form}"
            network.save(path)
            os.sync()
            reading(report, server, path, arguments.rounds)
            writing(report, server, path, network, arguments.rounds)
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
