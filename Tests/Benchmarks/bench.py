"""Speed and memory, as ratios taken in one run: `make bench`, or `python Tests/Benchmarks/bench.py [--rounds N]`.

Each figure is compared with what does the same job without us, on the same machine, in turns: onnx for loading, `cp`
for writing, a pipe for a round trip, the toolchain's language servers for starting and answering. Medians (p50) over
the rounds. Round trips are timed by roundtrip.c, so that Python's own microseconds do not soften the ratios; the rest
by the bytes on the wire. Every file read is in the page cache, for both sides.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Proof"))
import daemon  # noqa: E402
import onnx  # noqa: E402
import skeletons  # noqa: E402

MODEL = ("resnet50", "torchscript")
LOAD_BY_ONNX = """
import sys, time, onnx
began = time.perf_counter()
onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1]))
print(time.perf_counter() - began)
"""
INITIALIZE = {"processId": None, "rootUri": None, "capabilities": {}}


class Wire:
    """A daemon on pipes, asked one request at a time; times are from the first byte out to the last byte in."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.id = 0
        self.ask("initialize", INITIALIZE)
        self.send({"jsonrpc": "2.0", "method": "initialized", "params": {}})

    def send(self, message):
        body = json.dumps(message).encode()
        data = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        began = time.perf_counter()
        self.process.stdin.write(data)
        self.process.stdin.flush()
        return began

    def ask(self, method, params=None):
        """The result and the seconds it took."""
        self.id += 1
        began = self.send({"jsonrpc": "2.0", "id": self.id, "method": method, **({"params": params} if params else {})})
        while True:
            length = 0
            while (line := self.process.stdout.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                elif not line:
                    raise RuntimeError("the daemon stopped")
            body = self.process.stdout.read(length)
            seconds = time.perf_counter() - began
            message = json.loads(body)
            if message.get("id") == self.id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"], seconds

    def memory(self, field):
        """VmHWM, VmRSS, RssAnon, ... in MiB."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise KeyError(field)

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Report:
    def __init__(self):
        self.missed = 0

    def section(self, title):
        print(f"\n{title}")

    def row(self, name, value, note=""):
        print(f"  {name:<46} {value:>12}  {note}")

    def aim(self, name, ratio, limit, at_least=False):
        met = ratio >= limit if at_least else ratio <= limit
        self.missed += not met
        sign = ">=" if at_least else "<="
        self.row(name, f"{ratio:.2f} x", f"aim {sign} {limit:g} x: {'met' if met else 'MISSED'}")

    def bound(self, text):
        print(f"  bound by: {text}")


def milliseconds(seconds):
    return f"{seconds * 1e3:.2f} ms"


def median(values):
    return statistics.median(values)


def timed(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


# MARK: the four questions


def cold_inspect(report, server, path, rounds):
    ours, whole, theirs = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        wire = Wire([server])
        ours.append(wire.ask("inspect", {"model": str(path)})[1])
        whole.append(time.perf_counter() - began)
        wire.close()
        output = subprocess.run([sys.executable, "-c", LOAD_BY_ONNX, path], capture_output=True, text=True, check=True)
        theirs.append(float(output.stdout))
    report.section(
        f"Cold inspect of {MODEL[0]} ({path.stat().st_size / 1e6:.0f} MB) against onnx.load + onnx.shape_inference"
    )
    report.row("inspect, new daemon, first request", milliseconds(median(ours)))
    report.row("the same from the start of the process", milliseconds(median(whole)))
    report.row("onnx.load + infer_shapes, imports not counted", milliseconds(median(theirs)))
    report.aim("times faster", median(theirs) / median(ours), 5, at_least=True)
    report.bound("shape inference and coupling over the nodes; no weight is read, the file is only mapped")


def recommending(report, server, path, rounds):
    wire = Wire([server])
    cold, warm = [], []
    request = {"model": str(path), "compression_method": "PR_L2", "recommendation_method": "SLAMP"}
    for _ in range(rounds):
        wire.ask("release", {"model": str(path)})
        cold.append(wire.ask("recommend", {**request, "recommendation_ratio": 0.5})[1])
        for step in range(1, 20):
            warm.append(wire.ask("recommend", {**request, "recommendation_ratio": step / 20})[1])
    wire.close()
    report.section(f"Recommending on the warm model ({len(warm)} requests, ratios 0.05 to 0.95)")
    report.row("cold: load, couple, score, rank", milliseconds(median(cold)))
    report.row("warm p50, with the wire", milliseconds(median(warm)))
    report.row("warm p99", milliseconds(sorted(warm)[len(warm) * 99 // 100]))
    report.row("cold / warm", f"{median(cold) / median(warm):.0f} x")
    report.aim("warm p50 against 2 ms", median(warm) / 2e-3, 1)
    report.bound("cold: reading every weight once for its norm (memory and page faults); warm: ranking and JSON")


def writing(report, server, path, folder, rounds):
    wire = Wire([server])
    request = {"model": str(path), "compression_method": "PR_L2", "recommendation_method": "SLAMP"}
    wire.ask("recommend", {**request, "recommendation_ratio": 0.3})
    output, copy = folder / "compressed.onnx", folder / "copy.onnx"
    ours, copies, synced, dry = [], [], [], []
    for _ in range(rounds):
        for file in (output, copy):
            file.unlink(missing_ok=True)
        os.sync()
        ours.append(wire.ask("compress", {**request, "recommendation_ratio": 0.3, "output_path": str(output)})[1])
        dry.append(
            wire.ask(
                "compress",
                {**request, "recommendation_ratio": 0.3, "dry_run": True, "output_path": str(folder / "never.onnx")},
            )[1]
        )
        os.sync()
        copies.append(timed(lambda: subprocess.run(["cp", output, copy], check=True)))
        copy.unlink()
        os.sync()
        synced.append(
            timed(
                lambda: (subprocess.run(["cp", output, copy], check=True), subprocess.run(["sync", copy], check=True))
            )
        )
    size = output.stat().st_size
    wire.close()
    report.section(f"Compress and write at 0.3 ({size / 1e6:.0f} MB out) against copying the output")
    report.row("compress, planned, written, synced, renamed", milliseconds(median(ours)))
    report.row("  of which the plan and its certificate (dry)", milliseconds(median(dry)))
    report.row("cp", milliseconds(median(copies)))
    report.row("cp, then sync of the file", milliseconds(median(synced)))
    report.aim("compress / cp", median(ours) / median(copies), 3)
    report.row(
        "compress / (cp + sync)", f"{median(ours) / median(synced):.2f} x", "like for like: we sync before the rename"
    )
    report.bound("gathering kept channels from the mapped original, then the disk: cp alone never waits for it")


def round_trips(report, server, folder, rounds, count):
    tool = folder / "roundtrip"
    source = pathlib.Path(__file__).with_name("roundtrip.c")
    subprocess.run(["cc", "-O2", "-o", tool, source], check=True)
    binaries = pathlib.Path(shutil.which("swift")).resolve().parent
    initialize = json.dumps(INITIALIZE)

    def measure(*arguments):
        output = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=True, cwd=folder)
        return json.loads(output.stdout)

    servers = {"espalierd": ["ping", [server]], "espalierd, unknown method": ["bench/unknown", [server]]}
    for name in ("clangd", "sourcekit-lsp"):
        if (binaries / name).exists():
            servers[name + ", unknown method"] = ["bench/unknown", [str(binaries / name)]]
    for method, command in servers.values():  # warm the page cache
        measure("lsp", method, initialize, 10, *command)
    measured, raw, starts = {name: [] for name in servers}, [], {name: [] for name in servers}
    for _ in range(rounds):
        for name, (method, command) in servers.items():
            slow = command[0].endswith("sourcekit-lsp")
            measured[name].append(measure("lsp", method, initialize, count // 10 if slow else count, *command))
            for _ in range(5):
                starts[name].append(measure("lsp", method, initialize, 1, *command)["initialize_us"])
        ours = measured["espalierd"][-1]
        raw.append(measure("raw", ours["request"], ours["answer"], count))

    def field(name, key):
        return median([m[key] for m in measured[name]])

    floor = median([m["p50_ns"] for m in raw])
    report.section(f"A small request's round trip, p50 of {count} requests, {rounds} rounds in turns")
    report.row(f"pipe, {raw[0]['request']} bytes there, {raw[0]['answer']} back", f"{floor / 1e3:.1f} us")
    for name in measured:
        report.row(name, f"{field(name, 'p50_ns') / 1e3:.1f} us", f"p99 {field(name, 'p99_ns') / 1e3:.1f} us")
    report.aim("ping / pipe", field("espalierd", "p50_ns") / floor, 2)
    others = [name for name in measured if not name.startswith("espalierd")]
    for name in others:
        ratio = field("espalierd, unknown method", "p50_ns") / field(name, "p50_ns")
        report.aim(f"unknown method / {name.split(',')[0]}", ratio, 1)
    report.bound("waking the other process twice; what we add is one thread hand-over and parsing")
    report.section("From start to the initialize result, and memory when idle")
    for name in ("espalierd", *others):
        report.row(
            name.split(",")[0],
            f"{median(starts[name]) / 1e3:.1f} ms",
            f"{field(name, 'rss_kib') / 1024:.1f} MiB resident",
        )
    for name in others:
        plain = name.split(",")[0]
        report.aim(f"start / {plain}", median(starts["espalierd"]) / median(starts[name]), 1)
        report.aim(f"idle memory / {plain}", field("espalierd", "rss_kib") / field(name, "rss_kib"), 1)
    report.bound("the dynamic loader and the Swift runtime's own pages")


def peak_memory(report, server, path, folder):
    wire = Wire([server])
    idle = wire.memory("VmRSS")
    request = {"model": str(path), "compression_method": "PR_L2", "recommendation_method": "SLAMP"}
    wire.ask("inspect", {"model": str(path)})
    inspected = wire.memory("VmHWM")
    wire.ask("recommend", {**request, "recommendation_ratio": 0.5})
    wire.ask("compress", {**request, "recommendation_ratio": 0.5, "output_path": str(folder / "peak.onnx")})
    peak, own = wire.memory("VmHWM"), wire.memory("RssAnon")
    wire.close()
    size = path.stat().st_size / 2**20
    report.section(f"Memory for a model of {size:.0f} MiB")
    report.row("idle", f"{idle:.1f} MiB")
    report.row("peak after inspect", f"{inspected:.1f} MiB")
    report.row("peak after recommend and compress", f"{peak:.1f} MiB", f"{own:.1f} MiB of it private, after compress")
    report.aim("peak / (1.3 x model + 60 MB)", peak / (1.3 * size + 60e6 / 2**20), 1)
    report.bound("the mapped file's own pages, which the system may take back; the rest is labels and buffers")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=5000, help="requests per round trip measurement")
    arguments = parser.parse_args()
    server, report = daemon.server_path(), Report()
    print(
        f"{subprocess.run([server, '--version'], capture_output=True, text=True).stdout.strip()}, "
        f"{os.cpu_count()} cores, onnx {onnx.__version__}, medians of {arguments.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = folder / "model.onnx"
        onnx.save(skeletons.materialize(*MODEL), path)
        os.sync()
        cold_inspect(report, server, path, arguments.rounds)
        recommending(report, server, path, arguments.rounds)
        writing(report, server, path, folder, arguments.rounds)
        round_trips(report, server, folder, arguments.rounds, arguments.count)
        peak_memory(report, server, path, folder)
    print(f"\n{'every aim met' if not report.missed else f'{report.missed} aims missed'}")


if __name__ == "__main__":
    main()
