"""PyTorch's files against PyTorch itself, in one run: part of `make bench`, or
`python Tests/Benchmarks/torch_files.py [--rounds N]` in an environment with Tests/requirements-bench.txt.

One network, resnet50 of torchvision with random weights, as a GraphModule (`torch.save`) and as an exported program
(`torch.export.save`). All sides take turns on the same files, which are in the page cache. PyTorch reads in a process
that has imported it and has read the file before, so that neither imports nor first calls count; ours is a daemon that
forgets the model before each round. Reading gives PyTorch a module and us the whole answer to `inspect`: shapes, costs,
groups of coupled channels.

Where files are written, Torch-Pruning has the network in memory, and we have looked at the model, but not at its
weights. It ends with what `torch.save` writes of its module or, where the file was a `.pt2`, with what `torch.export`
makes of it, for nothing else of PyTorch's writes one; our file is proved, synced and renamed besides. How it is where
both have to load, and where only we do, is told without an aim.
"""

import argparse
import copy
import importlib.metadata
import os
import pathlib
import subprocess
import tempfile
import warnings

from peers import RATIO, THREADS, daemon, image_network, timed, torch, torch_prune  # sets the number of threads
from bench import Report, Wire, median, milliseconds

SHAPES = [{"batch": 1, "channel": 3, "dimension": [224, 224]}]
SUFFIXES = {"torch.fx": ".pt", "torch.export": ".pt2"}


def write(network, inputs, format, path):
    if format == "torch.fx":
        torch.save(torch.fx.symbolic_trace(network), path)
    else:
        torch.export.save(torch.export.export(network, inputs), path)


def read(format, path):
    """What PyTorch makes of the file."""
    return torch.load(path, weights_only=False) if format == "torch.fx" else torch.export.load(path)


def model(format, path):
    """A GraphModule does not say which shapes its inputs have."""
    return {"model": str(path), **({"input_shapes": SHAPES} if format == "torch.fx" else {})}


def reading(report, wire, format, path, rounds):
    read(format, path)
    ours, theirs = [], []
    for _ in range(rounds):
        wire.ask("release", {"model": str(path)})
        ours.append(wire.ask("inspect", model(format, path))[1])
        theirs.append(timed(lambda: read(format, path))[0])
    name = "torch.load" if format == "torch.fx" else "torch.export.load"
    report.section(f"Load to inspect of resnet50{path.suffix} ({path.stat().st_size / 1e6:.0f} MB) against {name}")
    report.row("inspect, nothing cached", milliseconds(median(ours)))
    report.row(f"{name}, imports not counted", milliseconds(median(theirs)))
    report.aim("times faster", median(theirs) / median(ours), 3, at_least=True)
    report.bound("reading the program, shape inference and coupling; no weight is read, the file is only mapped")


def writing(report, wire, format, path, network, inputs, rounds):
    output, peer = path.with_stem("pruned"), path.with_stem("peer")
    request = {
        **model(format, path), "compression_method": "PR_L2", "recommendation_method": "SLAMP",
        "recommendation_ratio": RATIO, "output_path": str(output),
    }
    def save(candidate):
        if format == "torch.fx":
            torch.save(candidate, peer)
        else:
            torch.export.save(torch.export.export(candidate, inputs), peer)

    cold, dry, ours, theirs, loads, saves = [], [], [], [], [], []
    for _ in range(rounds):
        for file in (output, peer):
            file.unlink(missing_ok=True)
        loads.append(timed(lambda: read(format, path))[0])
        candidate = copy.deepcopy(network)
        os.sync()
        pruning = timed(lambda: torch_prune(candidate, inputs))[0]
        saves.append(timed(lambda: save(candidate))[0])
        theirs.append(pruning + saves[-1])
        os.sync()
        wire.ask("release", {"model": str(path)})
        wire.ask("inspect", model(format, path))
        reply, seconds = wire.ask("compress", request)
        ours.append(seconds)
        output.unlink()
        os.sync()
        wire.ask("release", {"model": str(path)})
        cold.append(wire.ask("compress", request)[1])
        wire.ask("release", {"model": str(path)})
        wire.ask("inspect", model(format, path))
        dry.append(wire.ask("compress", {**request, "dry_run": True})[1])
    left = reply["compressed"]["parameters"] / reply["original"]["parameters"]
    their_left = sum(p.numel() for p in candidate.parameters()) / sum(p.numel() for p in network.parameters())
    saving = "torch.save" if format == "torch.fx" else "torch.export"
    report.section(f"Prune and write resnet50{path.suffix} at {RATIO} against Torch-Pruning and {saving}")
    report.row("compress, inspected before", milliseconds(median(ours)), f"{left:.2f} of the parameters left")
    report.row("  of which SLAMP, plan and certificate (dry)", milliseconds(median(dry)))
    report.row("compress, nothing cached", milliseconds(median(cold)))
    report.row(f"Torch-Pruning in memory, then {saving}", milliseconds(median(theirs)), f"{their_left:.2f} left")
    report.row(f"  of which {saving}, without a sync", milliseconds(median(saves)))
    report.aim("times faster", median(theirs) / median(ours), 10, at_least=True)
    report.row("  where both load first", f"{(median(loads) + median(theirs)) / median(cold):.2f} x")
    report.row("  where only we do", f"{median(theirs) / median(cold):.2f} x")
    report.bound("scoring every weight, surgery on the program, then reading the written file again to check it")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    server, report = daemon.server_path(), Report()
    print(
        f"{subprocess.run([server, '--version'], capture_output=True, text=True).stdout.strip()}, "
        f"torch {torch.__version__}, Torch-Pruning {importlib.metadata.version('torch-pruning')}, "
        f"{os.cpu_count()} cores, {THREADS} threads, medians of {arguments.rounds} rounds"
    )
    network, inputs = image_network("resnet50")
    with tempfile.TemporaryDirectory() as name:
        wire = Wire([server])
        for format, suffix in SUFFIXES.items():
            path = pathlib.Path(name) / f"resnet50{suffix}"
            write(network, inputs, format, path)
            os.sync()
            reading(report, wire, format, path, arguments.rounds)
            writing(report, wire, format, path, network, inputs, arguments.rounds)
        wire.close()
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
