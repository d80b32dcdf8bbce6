"""Pruning against the tools a user could pick instead, in one run: part of `make bench`, or
`python Tests/Benchmarks/peers.py [--rounds N] [--only NAME ...]` in an environment with Tests/requirements-bench.txt.

The same networks for all, with random weights: resnet50 and densenet121 and swin_t of torchvision, and a BERT encoder
of 24 layers. Torch-Pruning gets the network in memory, warmed up by one forward pass, and is timed while it builds its
graph and prunes; onnxsim gets the parsed model in memory. We get a path and a new process each time: connecting,
loading, analysis, scores, SLAMP, plan, proof and the written, synced file all count. Imports, exports and the peers'
own loading do not, except in the file-to-file rows. Everybody may use as many threads as we do; every file read is in
the page cache.
"""

import argparse
import copy
import importlib.metadata
import math
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
import warnings

# What we score groups with: ConcurrentLoop.mostThreads, or all cores where there are fewer.
THREADS = min(4, os.cpu_count())
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "Benchmarks"), str(TESTS / "Zoo"), str(TESTS / "Proof")]

import daemon  # noqa: E402
import onnx  # noqa: E402
import onnxsim  # noqa: E402
import onnxsim.pruning  # noqa: E402
import torch  # noqa: E402
import torch_pruning  # noqa: E402
from bench import Report, Wire, median, milliseconds  # noqa: E402
from vision import torchvision_models  # noqa: E402

RATIO = 0.5
# Seconds that Torch-Pruning gets for one network; more than that counts as that.
PATIENCE = 60


def image_network(name):
    torch.manual_seed(0)
    return getattr(torchvision_models(), name)(weights=None).eval(), (torch.randn(1, 3, 224, 224),)


class Encoder(torch.nn.Module):
    """BERT's encoder, written out: torch's own fused layer keeps Torch-Pruning from tracing it."""

    class Layer(torch.nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v, self.o = (torch.nn.Linear(width, width) for _ in range(4))
            self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)

        def forward(self, x):
            split = [p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v)]
            scores = split[0] @ split[1].transpose(-1, -2) / math.sqrt(split[0].shape[-1])
            x = self.norm1(x + self.o((scores.softmax(-1) @ split[2]).transpose(1, 2).flatten(2)))
            return self.norm2(x + self.down(torch.nn.functional.gelu(self.up(x))))

    def __init__(self, layers, width=256, heads=4, words=4000):
        super().__init__()
        self.words = torch.nn.Embedding(words, width)
        self.layers = torch.nn.ModuleList(self.Layer(width, heads) for _ in range(layers))
        self.head = torch.nn.Linear(width, 10)

    def forward(self, ids):
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


def encoder(layers):
    torch.manual_seed(0)
    return Encoder(layers).eval(), (torch.randint(0, 4000, (1, 32)),)


NETWORKS = {
    "resnet50": lambda: image_network("resnet50"),
    "densenet121": lambda: image_network("densenet121"),
    "swin_t": lambda: image_network("swin_t"),
    "bert, 24 layers": lambda: encoder(24),
}


def timed(function):
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def torch_prune(network, inputs):
    """Torch-Pruning's graph of the network, which is then pruned in place; the classifier stays, as ours does by itself."""
    heads = {
        p: layer.heads
        for layer in getattr(network, "layers", [])
        if isinstance(layer, Encoder.Layer)
        for p in (layer.q, layer.k, layer.v)
    }
    pruner = torch_pruning.pruner.BasePruner(
        network, inputs, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), pruning_ratio=RATIO,
        global_pruning=True, round_to=2, num_heads=heads,
        ignored_layers=[m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features in (10, 1000)],
    )
    pruner.step()


def torch_pruning_seconds(network, inputs):
    """How long that takes, and what is left."""
    network = copy.deepcopy(network)
    before = sum(p.numel() for p in network.parameters())
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        seconds, _ = timed(lambda: torch_prune(network, inputs))
    except TimeoutError:
        return PATIENCE, f"stopped after {PATIENCE} s, which count"
    except Exception as error:  # a network it cannot prune is a result, too
        return None, f"{type(error).__name__}: {str(error)[:60]}"
    finally:
        signal.alarm(0)
    return seconds, f"{sum(p.numel() for p in network.parameters()) / before:.2f} left"


def give_up(*_):
    raise TimeoutError


def parameters(model):
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)


def onnxsim_seconds(path, output):
    """In memory, and from file to file; the share of the parameters that is left."""
    loading, model = timed(lambda: onnx.load(path))
    pruning, pruned = timed(lambda: onnxsim.pruning.apply_structured_pruning(model, RATIO))
    saving, _ = timed(lambda: onnx.save(pruned, output))
    return pruning, loading + pruning + saving, parameters(pruned) / parameters(model)


def our_seconds(server, path, output):
    """From starting the process to the last byte of the reply, which follows the written file (what Python then makes of
    its text is not ours); the share of the parameters that is left."""
    request = {"model": str(path), "compression_method": "PR_L2", "recommendation_method": "SLAMP"}
    output.unlink(missing_ok=True)
    began = time.perf_counter()
    wire = Wire([server])
    starting = time.perf_counter() - began
    reply, compressing = wire.ask(
        "compress", {**request, "recommendation_ratio": RATIO, "output_path": str(output)}
    )
    planning = wire.ask("release", {"model": None}) and wire.ask(
        "compress", {**request, "recommendation_ratio": RATIO, "output_path": str(output), "dry_run": True}
    )[1]
    warm = [
        wire.ask("recommend", {**request, "recommendation_ratio": step / 20})[1] for step in range(1, 20)
    ]
    wire.close()
    return starting + compressing, compressing, planning, median(warm), reply["compressed"]["parameters"] / reply["original"]["parameters"]


def export(network, inputs, path):
    with torch.no_grad():
        torch.onnx.export(network, inputs, str(path), opset_version=17, dynamo=False)


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def compare(report, server, folder, names, rounds):
    ratios = {"torch": [], "onnxsim": [], "files": [], "warm": []}
    for name in names:
        network, inputs = NETWORKS[name]()
        path, output = folder / "model.onnx", folder / "pruned.onnx"
        export(network, inputs, path)
        with torch.no_grad():
            network(*inputs)
        ours, theirs, tools = [], [], []
        for _ in range(rounds):
            ours.append(our_seconds(server, path, output))
            if not theirs or theirs[0][0] is not None and theirs[0][0] < PATIENCE / 10:  # minutes need no median
                theirs.append(torch_pruning_seconds(network, inputs))
            tools.append(onnxsim_seconds(str(path), str(output)))
        whole, compressing, planning, warm, left = (median([o[k] for o in ours]) for k in range(5))
        report.section(f"{name} ({path.stat().st_size / 1e6:.0f} MB) at {RATIO}")
        report.row("ours, new process to written file", milliseconds(whole), f"{left:.2f} of the parameters left")
        report.row("  the request alone", milliseconds(compressing))
        report.row("  load, analysis, SLAMP, plan and proof (dry)", milliseconds(planning))
        report.row("  recommend, warm", milliseconds(warm))
        in_memory, files, left = (median([t[k] for t in tools]) for k in range(3))
        report.row("onnxsim.pruning, in memory", milliseconds(in_memory), f"{left:.2f} left")
        report.row("onnx.load + onnxsim.pruning + onnx.save", milliseconds(files))
        ratios["onnxsim"].append(in_memory / planning)
        ratios["files"].append(files / whole)
        times = [t for t, _ in theirs if t is not None]
        if times:
            report.row("Torch-Pruning, graph and pruning", milliseconds(median(times)), theirs[-1][1])
            ratios["torch"].append(median(times) / planning)
            ratios["warm"].append(min(median(times), in_memory) / warm)
        else:
            report.row("Torch-Pruning", "none", theirs[-1][1])
            ratios["warm"].append(in_memory / warm)
    report.section("Times faster, geometric mean")
    report.aim("cold, in memory: Torch-Pruning / ours", geometric_mean(ratios["torch"]), 20, at_least=True)
    report.row("cold, in memory: onnxsim / ours", f"{geometric_mean(ratios['onnxsim']):.2f} x")
    report.aim("file to file: onnx + onnxsim / ours", geometric_mean(ratios["files"]), 5, at_least=True)
    report.aim("warm recommend: the faster peer / ours", geometric_mean(ratios["warm"]), 100, at_least=True)


def growth(report, server, folder, rounds):
    """Inspect is loading, shapes and coupling: from 12 to 96 layers it should grow by 8."""
    report.section("Analysis against depth: inspect of an encoder, new process")
    seconds = {}
    for layers in (12, 24, 48, 96):
        path = folder / f"encoder{layers}.onnx"
        export(*encoder(layers), path)
        times = []
        for _ in range(rounds):
            wire = Wire([server])
            times.append(wire.ask("inspect", {"model": str(path)})[1])
            wire.close()
        path.unlink()
        seconds[layers] = median(times)
        report.row(f"{layers} layers", milliseconds(seconds[layers]), f"{seconds[layers] / layers * 1e6:.0f} us a layer")
    report.aim("96 layers / 12 layers, against 8", seconds[96] / seconds[12] / 8, 1.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    server, report = daemon.server_path(), Report()
    print(
        f"torch {torch.__version__}, Torch-Pruning {importlib.metadata.version('torch-pruning')}, onnxsim {onnxsim.__version__}, "
        f"{os.cpu_count()} cores, {THREADS} threads, medians of {arguments.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        compare(report, server, folder, arguments.only, arguments.rounds)
        growth(report, server, folder, arguments.rounds)
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
