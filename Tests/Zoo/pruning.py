"""One network of the zoo, pruned with the defaults and proved: what the tests demand and docs/zoo.md reports."""

import dataclasses
import time

import numpy as np
import onnx

import reference
import running
import skeletons
import twin

# Rounding alone, measured as the distance between two evaluations of the same network, grows with depth.
TOLERANCE = 1e-4


@dataclasses.dataclass
class Outcome:
    verdict: twin.Verdict
    # Shares of the original that are left, and how long inspecting and compressing took together, in seconds.
    parameters: float
    macs: float
    seconds: float
    # What the daemon says is approximate: the names of operators. Where it was asked to verify, what it found.
    said: set
    verified: str


def prune(client, folder, exporter, name, **asked):
    """`asked` is of compress; a ratio of 0.5 if nothing is. Raises ProofFailure where the file is not what the reply says, or is no legal model with the same interface."""
    path, output = folder / "zoo.onnx", folder / "zoo-pruned.onnx"
    original = skeletons.materialize(name, exporter)
    onnx.save(original, path)
    client.release()
    start = time.monotonic()
    client.inspect(path)
    reply = client.compress(path, output, **(asked or {"recommendation_ratio": 0.5}), overwrite=True)
    seconds = time.monotonic() - start
    removed = [{k: v for k, v in dataclasses.asdict(r).items() if v is not None} for r in reply.removed]
    compressed = onnx.load(output)
    reference.check_removed(original, removed)
    reference.check_interface(original, compressed)
    reference.check_nodes(original, compressed)
    reference.check_tensors(original, compressed, removed)
    reference.check_legal(original, compressed)
    inputs = running.random_inputs(original, np.random.default_rng(0), batch=2)
    return Outcome(
        twin.compare(original, compressed, removed, inputs, TOLERANCE),
        reply.compressed.parameters / reply.original.parameters,
        reply.compressed.macs / reply.original.macs,
        seconds,
        {entry["name"] for entry in reply.verification.raw.get("approximations", [])},
        reply.verification.status,
    )
