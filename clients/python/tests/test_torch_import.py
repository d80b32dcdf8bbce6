"""PyTorch is needed by `espalier.torch` alone."""

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_client_does_not_import_torch():
    done = python("import espalier, sys; sys.exit('torch' in sys.modules or 'espalier.torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_without_torch_the_bridge_says_how_to_get_it():
    done = python("import sys; sys.modules['torch'] = None; import espalier.torch")
    assert done.returncode == 1 and "pip install torch" in done.stderr.splitlines()[-1]
