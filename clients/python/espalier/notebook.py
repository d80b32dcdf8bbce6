"""The notebook's magics, after `%load_ext espalier`.

    %%compress model.onnx --ratio 0.5 -o smaller.onnx --verify
    step_size = 8
    exclude = ["*/head/*"]

The line is that of the shell's `espalier compress`; the cell's assignments are options, whose values may use the
notebook's variables. What comes back is the cell's value. `%inspect_model model.onnx` shows what a model is made of.
"""

from __future__ import annotations

import ast
import shlex
from typing import Any, Dict, Mapping, Optional

from .client import Client, connect
from .commands import choice, parser
from .results import Compression, Inspection

_client: Optional[Client] = None


def client() -> Client:
    """The user's shared daemon, connected to once: a restarted kernel finds its models warm."""
    global _client
    if _client is None:
        _client = connect()
    return _client


def compress(line: str, cell: Optional[str], names: Mapping[str, Any]) -> Compression:
    arguments = _parsed("compress", line)
    given = choice(arguments)
    given["options"] = {**(given["options"] or {}), **options(cell or "", names)}
    return client().compress(
        arguments.model,
        arguments.output,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
        verify=arguments.verify,
        layers=arguments.layer,
        onnx_output_path=arguments.onnx_output,
        **given,
    )


def inspect_model(line: str) -> Inspection:
    arguments = _parsed("inspect", line)
    return client().inspect(arguments.model, input_shapes=arguments.input_shapes)


def options(cell: str, names: Mapping[str, Any]) -> Dict[str, Any]:
    """The assignments of a cell. Values are expressions; anything but assignments to names is refused."""
    found: Dict[str, Any] = {}
    for statement in ast.parse(cell).body:
        if not isinstance(statement, ast.Assign) or not all(isinstance(each, ast.Name) for each in statement.targets):
            raise SyntaxError(f"line {statement.lineno}: expected an option, such as step_size = 8")
        value = eval(compile(ast.Expression(statement.value), "<%%compress>", "eval"), dict(names))
        found.update({target.id: value for target in statement.targets if isinstance(target, ast.Name)})
    return found


def _parsed(command: str, line: str) -> Any:
    try:
        return parser().parse_args([command, *shlex.split(line)])
    except SystemExit:
        # argparse has said what is wrong; a kernel must not end of it.
        raise ValueError(f"%{command}: not understood, see above") from None


def load(ipython: Any) -> None:
    """What `%load_ext espalier` does."""

    def compress_magic(line: str, cell: Optional[str] = None) -> Compression:
        return compress(line, cell, ipython.user_ns)

    ipython.register_magic_function(compress_magic, magic_kind="line_cell", magic_name="compress")
    ipython.register_magic_function(inspect_model, magic_kind="line", magic_name="inspect_model")
