"""A model inspected, recommended for or compressed from the shell: python -m espalier --help."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, Tuple

from . import tables
from .client import Client
from .errors import EspalierError
from .results import LayerSetting, Size
from .session import VERSION


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="espalier", description="Makes trained neural networks smaller with espalierd.")
    main.add_argument("--version", action="version", version=VERSION)
    main.add_argument("--pipe", metavar="PATH", help="use the running server at this Unix socket")
    main.add_argument("--server", metavar="PATH", help="start this server (default: ESPALIER_SERVER, then PATH)")
    commands = main.add_subparsers(dest="command", required=True)

    commands.add_parser("inspect", help="layers, and what can be pruned or decomposed").add_argument("model")
    recommend = commands.add_parser("recommend", help="how much to take from each layer, or which ranks to give it")
    compress = commands.add_parser("compress", help="write the smaller model")
    for command in (recommend, compress):
        command.add_argument("model")
        amount = command.add_mutually_exclusive_group(required=True)
        amount.add_argument(
            "--ratio",
            type=float,
            help="share of the channels to remove, 0 to 1; with FD_*, -1 to 1: lower or higher ranks than VBMF's",
        )
        amount.add_argument(
            "--target",
            type=target,
            metavar="WHAT=SHARE",
            help="what to leave of macs, parameters or size_bytes, such as macs=0.5; with FD_* also energy=0.9, of the "
            "squared norm of each layer",
        )
        if command is compress:
            amount.add_argument(
                "--layer",
                type=layer,
                action="append",
                metavar="NAME=VALUES",
                help="do this to this layer; may be repeated. VALUES is a share to remove, channel numbers (PR_ID), or "
                "ranks (FD_*), such as conv1=16,24",
            )
        command.add_argument(
            "--method",
            default="PR_L2",
            help="compression method (default PR_L2): PR_* remove channels; FD_SVD (matrices and 1x1 convolutions), "
            "FD_TK and FD_CP (other convolutions; FD_CP with --layer only) decompose layers",
        )
        command.add_argument(
            "--dataset",
            metavar="PATH",
            help="samples: .npy, .npz or a folder of them; FD_* then keep what layers make of these, not weights",
        )
        command.add_argument(
            "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="such as step_size=8"
        )
    compress.add_argument("-o", "--output", required=True)
    compress.add_argument("--overwrite", action="store_true")
    compress.add_argument("--verify", action="store_true", help="run the result before it is written")
    return main


def target(text: str) -> Dict[str, float]:
    name, _, share = text.partition("=")
    return {name: float(share)}


def layer(text: str) -> LayerSetting:
    """What is done to one layer. A name may hold "=", values do not."""
    name, equals, values = text.rpartition("=")
    if not equals:
        raise ValueError(text)
    numbers = [float(value) if "." in value else int(value) for value in values.split(",")]
    return LayerSetting(name=name, channels=[], values=numbers)


def option(text: str) -> Tuple[str, Any]:
    """The value is JSON where it reads as such, else a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def choice(arguments: argparse.Namespace) -> Dict[str, Any]:
    return {
        "recommendation_ratio": arguments.ratio,
        "target": arguments.target,
        "compression_method": arguments.method,
        "dataset_path": arguments.dataset,
        "options": dict(arguments.option),
    }


def run(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.command == "inspect":
        report = client.inspect(arguments.model)
        print(tables.inspection(report))
        decompositions = tables.decompositions(report)
        if decompositions:
            print("\n" + decompositions)
        print(f"\n{report.parameters:,} parameters, {report.macs:,} MACs, {report.model.size_bytes:,} bytes")
    elif arguments.command == "recommend":
        advice = client.recommend(arguments.model, **choice(arguments))
        print(tables.recommendation(advice))
        print_sizes(advice.estimate.original, advice.estimate.compressed)
    else:
        result = client.compress(
            arguments.model,
            arguments.output,
            overwrite=arguments.overwrite,
            verify=arguments.verify,
            layers=arguments.layer,
            **choice(arguments),
        )
        if result.replaced:
            print(tables.replacements(result.replaced))
        print_sizes(result.original, result.compressed)
        for warning in result.warnings:
            print(f"warning: {warning}")
        print(f"written to {result.output_path}")
        if arguments.verify:
            found = result.verification
            print(f"verified: {found.status}" + (f" ({found.reason})" if found.reason else ""))


def print_sizes(before: Size, after: Size) -> None:
    rows = [
        (name, f"{getattr(before, member):,}", tables.change(getattr(before, member), getattr(after, member)))
        for name, member in (("parameters", "parameters"), ("MACs", "macs"), ("bytes", "size_bytes"))
    ]
    print("\n" + tables.table(("", ">original", ">compressed"), rows))


def main() -> int:
    arguments = parser().parse_args()
    try:
        with Client(arguments.server, pipe=arguments.pipe) as client:
            run(client, arguments)
    except EspalierError as error:
        print(f"espalier: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
