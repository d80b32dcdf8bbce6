"""A long run of the random networks beyond the suite's seeds: `python Tests/Proof/soak.py --seeds 5000 [--first 1000]`.

Prints every failing seed at once, and at the end the smallest failing network with its plan.
"""

import argparse
import tempfile
import time

import daemon
import espalier
import graphs
import plans


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1000, help="the suite runs those below 320")
    arguments = parser.parse_args()
    failures, proofs, largest, began = [], 0, 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, espalier.connect(daemon.server_path(), restart=False) as client:
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            model = graphs.random_graph(seed)
            try:
                for _, proof in plans.prove_all(client, model, folder, seed):
                    proofs += 1
                    largest = max(largest, proof.largest_difference)
            except Exception as failure:  # a soak goes on and reports; the exit status tells
                print(f"seed {seed} ({len(model.graph.node)} nodes): {str(failure).splitlines()[0][:200]}", flush=True)
                failures.append((len(model.graph.node), seed, str(failure), graphs.describe(model)))
                if isinstance(failure, espalier.ServerStopped):
                    break
    print(
        f"{arguments.seeds} networks, {proofs} proofs, largest difference {largest:.1e}, {len(failures)} failures, "
        f"{time.monotonic() - began:.0f} s"
    )
    if failures:
        _, seed, failure, text = min(failures)
        print(f"\nthe smallest, seed {seed}: {failure}\n{text}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
