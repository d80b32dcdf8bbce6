"""The package is typed: mypy in strict mode has nothing to say of it, and knows what the clients' methods give."""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "espalier"

USE = """
import espalier

async def both(client: espalier.Client, other: espalier.AsyncClient) -> None:
    reveal_type(client.inspect("m.onnx"))
    reveal_type(client.start_compress("m.onnx", "o.onnx", recommendation_ratio=0.5).result())
    reveal_type(await other.recommend("m.onnx", target={"macs": 0.5}))
    client.recommend("m.onnx", ratio=0.5)
"""


def mypy(*arguments, cwd):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cwd / ".mypy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_types_hold_and_are_seen(tmp_path):
    (tmp_path / "use.py").write_text(USE)
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if "torch" not in path.parts]
    done = mypy("--follow-imports=silent", *modules, tmp_path / "use.py", cwd=tmp_path)
    told = re.findall(r"(?:note|error): (.*)", done.stdout)
    assert told == [
        'Revealed type is "espalier.results.Inspection"',
        'Revealed type is "espalier.results.Compression"',
        'Revealed type is "espalier.results.Recommendation"',
        'Unexpected keyword argument "ratio"  [call-arg]',
    ], done.stdout
