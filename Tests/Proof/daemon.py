"""Where the daemon and the Python client are: ESPALIER_SERVER or the build folder, and clients/python of this tree."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
for _folder in (ROOT / "clients" / "python", ROOT / "Tests" / "Zoo", ROOT / "Tests" / "Proof"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))


def server_path():
    return os.environ.get("ESPALIER_SERVER") or str(ROOT / ".build" / "release" / "espalierd")
