"""The command `espalier`: models inspected, recommended for, compressed and swept from the shell. `espalier --help`."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from . import completion, tables
from .client import Client
from .commands import choice, parser
from .errors import EspalierError, ServerError
from .results import Size
from .servers import is_running
from .sweeps import Sweep, sweep

REFUSED, USAGE, NO_DAEMON, INTERRUPTED = 1, 2, 3, 130
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def inspect(client: Client, arguments: argparse.Namespace) -> None:
    report = client.inspect(arguments.model, input_shapes=arguments.input_shapes)
    if arguments.json:
        print_json(report.raw)
        return
    print(tables.inspection(report))
    decompositions = tables.decompositions(report)
    if decompositions:
        print("\n" + decompositions)
    print(f"\n{report.parameters:,} parameters, {report.macs:,} MACs, {report.model.size_bytes:,} bytes")


def recommend(client: Client, arguments: argparse.Namespace) -> None:
    advice = client.recommend(arguments.model, **choice(arguments))
    if arguments.json:
        print_json(advice.raw)
        return
    print(tables.recommendation(advice))
    print_sizes(advice.estimate.original, advice.estimate.compressed)
    print_warnings(advice.warnings)


def sensitivity(client: Client, arguments: argparse.Namespace) -> None:
    options: Dict[str, Any] = {"options": dict(arguments.option)}
    shapes, ratios = arguments.input_shapes, arguments.ratio
    found = client.sensitivity(arguments.model, arguments.dataset, ratios=ratios, input_shapes=shapes, **options)
    if arguments.plot:
        found.plot(arguments.plot)
    print_json(found.raw) if arguments.json else print(found.table())


def compress(client: Client, arguments: argparse.Namespace) -> None:
    result = client.compress(
        arguments.model,
        arguments.output,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
        verify=arguments.verify,
        layers=arguments.layer,
        onnx_output_path=arguments.onnx_output,
        **choice(arguments),
    )
    if arguments.json:
        print_json(result.raw)
        return
    if result.replaced:
        print(tables.replacements(result.replaced))
    print_sizes(result.original, result.compressed)
    if result.reconstruction is not None:
        print(tables.reconstruction(result.reconstruction))
    print_warnings(result.warnings)
    if result.output_path is not None and result.output_path.suffix != Path(arguments.model).suffix:
        print(f"warning: {result.output_path.name} has the format of {arguments.model}, whatever it is called")
    print("dry run: nothing is written" if result.output_path is None else f"written to {result.output_path}")
    if arguments.verify:
        found = result.verification
        print(f"verified: {found.status}" + (f" ({found.reason})" if found.reason else ""))


def sweep_grid(client: Client, arguments: argparse.Namespace) -> None:
    methods: List[str] = arguments.methods or [arguments.method]
    grid: Dict[str, Sequence[Any]] = {"compression_method": methods}
    if arguments.target:
        grid["target"] = arguments.target
    else:
        grid["recommendation_ratio"] = arguments.ratio or RATIOS
    found = sweep(
        arguments.model,
        grid,
        output_dir=arguments.output_dir,
        client=client,
        show=False if arguments.json else None,
        input_shapes=arguments.input_shapes,
        dataset_path=arguments.dataset,
        reconstruct=arguments.reconstruct,
        options=dict(arguments.option),
    )
    rows = [point.row() for point in found]
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if arguments.json:
        print_json(rows)
    elif not sys.stdout.isatty():
        print(found.table())
    if len(found.failed) == len(found):
        raise AllFailed(found)


class AllFailed(EspalierError):
    def __init__(self, found: Sweep):
        super().__init__(f"no point of the sweep could be compressed; the first: {found[0].error}")


def models(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.stop:
        client.stop_server()
    elif arguments.release is not None:
        for path in client.release(arguments.release or None):
            print(path)
    elif arguments.json:
        print_json([model.raw for model in client.models()])
    else:
        print(tables.cached(client.models()))


COMMANDS = {
    "inspect": inspect,
    "recommend": recommend,
    "sensitivity": sensitivity,
    "compress": compress,
    "sweep": sweep_grid,
    "models": models,
}


# What the daemon calls by the protocol's names, as it is said here, by kind: the argument, and an example.
HINTS = {
    "model.inputShapes": ("input_shapes", "--input-shape 1,3,224,224"),
    "dataset.required": ("dataset", "--dataset images.npy"),
    "output.exists": ("overwrite", "--overwrite"),
}


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}")


def print_sizes(before: Size, after: Size) -> None:
    rows = [
        (name, f"{getattr(before, member):,}", tables.change(getattr(before, member), getattr(after, member)))
        for name, member in (("parameters", "parameters"), ("MACs", "macs"), ("bytes", "size_bytes"))
    ]
    print("\n" + tables.table(("", ">original", ">compressed"), rows))


def run(arguments: argparse.Namespace) -> None:
    server: Optional[str] = arguments.server
    if arguments.pipe:
        client = Client(pipe=arguments.pipe)
    elif arguments.command == "models" and not is_running(server):
        # One of our own would hold nothing.
        print("[]" if arguments.json else "no shared daemon is running")
        return
    else:
        client = Client(server, daemon="private" if server and arguments.command != "models" else "running")
    with client:
        COMMANDS[arguments.command](client, arguments)


def main() -> int:
    commands = parser()
    if len(sys.argv) == 1:
        commands.print_help()
        return USAGE
    arguments = commands.parse_args()
    if arguments.command == "compress" and not (arguments.output or arguments.dry_run):
        commands.error("compress needs -o PATH, or --dry-run")
    try:
        if arguments.command == "completion":
            print(completion.script(arguments.shell, commands))
        else:
            run(arguments)
    except (ServerError, AllFailed, OSError) as error:
        print(f"espalier: {error}", file=sys.stderr)
        kind = error.kind if isinstance(error, ServerError) else None
        option, example = HINTS.get(kind or "", ("", ""))
        # Of no use to those who have said it.
        if option and not getattr(arguments, option, None):
            print(f"          here: {example}", file=sys.stderr)
        return REFUSED
    except EspalierError as error:
        print(f"espalier: {error}", file=sys.stderr)
        return NO_DAEMON
    except ValueError as error:
        print(f"espalier: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
