"""Hostile files, the Python text of a GraphModule, which PyTorch executes when it loads one."""

import struct

from hostile_corpus import EFFECT, MARK, PAYLOAD, text
from hostile_pickle import pickled


def code_of(data):
    start = data.index(b"\n\n\ndef forward")
    length = struct.unpack("<I", data[start - 4 : start])[0]
    return start - 5, data[start : start + length].decode()


def coded(name, change, must_fail=True):
    """`change` makes a new forward of the good one's text."""

    def content(data):
        at, old = code_of(data)
        new = change(old)
        return data[:at] + text(new) + data[at + 5 + len(old.encode()) :]

    pickled(f"code_{name}", content, must_fail)


def line(statement):
    """The statement as the last line before the return."""
    return lambda code: code.replace("    return", f"    {statement}\n    return", 1)


STATEMENTS = {
    "import": "import os",
    "import_and_call": f"import os; os.system('{PAYLOAD}')",
    "dunder_import": f"a = __import__('os').system('{PAYLOAD}');  a = None",
    "open": f"a = {EFFECT};  a = None",
    "eval": f'a = eval("{EFFECT}");  a = None',
    "exec": f'exec("{EFFECT}")',
    "lambda": f"a = (lambda: {EFFECT})();  a = None",
    "comprehension": f"a = [{EFFECT} for b in range(3)];  a = None",
    "conditional": f"a = 1 if {EFFECT} else 2;  a = None",
    "nested_call": f"a = torch.relu({EFFECT});  a = None",
    "call_in_subscript": f"a = _5[{EFFECT}];  a = None",
    "class": f"class A: a = {EFFECT}",
    "with": f"with {EFFECT} as a: pass",
    "while": "while True: pass",
    "for": "for a in _5: pass",
    "if": f"if True: {EFFECT}",
    "try": "try: pass",
    "global": "global torch",
    "del": "del _5",
    "assert": f"assert {EFFECT}",
    "raise": "raise ValueError",
    "yield": "a = yield _5",
    "await": "a = await _5",
    "walrus": f"a = (b := {EFFECT});  a = None",
    "f_string": "a = torch.relu(f'{" + f"open(\\'{MARK}\\')" + "}');  a = None",
    "decorator": "@eval",
    "attribute_of_class": "a = self.__class__;  a = None",
    "attribute_of_dict": "a = self.__dict__;  a = None",
    "attribute_globals": "a = self.forward.__globals__;  a = None",
    "subclasses": "a = torch.Tensor.__subclasses__();  a = None",
    "torch_load": "a = torch.load('x');  a = None",
    "torch_hub": "a = torch.hub.load('x', 'y');  a = None",
    "torch_os": f"a = torch.os.system('{PAYLOAD}');  a = None",
    "torch_ops_load": "a = torch.ops.load_library('x');  a = None",
    "torch_save": f"a = torch.save(_5, '{MARK}');  a = None",
    "from_file": f"a = torch.from_file('{MARK}', True, 10);  a = None",
    "getattr_dunder": "a = getattr(self, '__class__');  a = None",
    "assigns_to_self": "self.a = _5",
    "assigns_to_torch": "torch.relu = print",
    "assigns_to_subscript": "_5[0] = 1",
    "augmented": "_5 += 1",
    "star": "a = torch.cat(*_5);  a = None",
    "double_star": "a = torch.relu(**_5);  a = None",
    "unknown_module": 'a = getattr(self, "99")(_5);  a = None',
    "unknown_name": "a = torch.relu(nobody);  a = None",
    "unclosed_text": "a = 'never closed",
    "unclosed_bracket": "a = torch.relu((((_5",
    "closed_too_often": "a = torch.relu(_5)))",
    "zero_byte": "a = \0",
    "no_text": "a = \ud7ff\u202e",
    "tabs": "\ta = 1",
    "backslash": "a = \\\n1",
    "semicolons": "a = 1; b = 2; c = 3",
    "comment_hides": f"a = 1 # \r    {EFFECT}",
    "form_feed": f"a = 1\f{EFFECT}",
    "carriage_return": f"a = 1\r    {EFFECT}",
    "triple_quotes": f"'''\n    '''; {EFFECT}",
    "huge_integer": "a = torch.relu(_5, " + "9" * 5000 + ");  a = None",
    "huge_exponent": "a = _5 * 1e999999;  a = None",
    "deep_brackets": "a = torch.relu(" + "(" * 50_000 + ")" * 50_000 + ");  a = None",
    "deep_lists": "a = torch.relu(" + "[" * 50_000 + "]" * 50_000 + ");  a = None",
    "deep_minus": "a = " + "-" * 50_000 + "1;  a = None",
    "long_name": "a" * 1_000_000 + " = _5",
}
# Statements that the text's own grammar might well have, and that say nothing dangerous.
HARMLESS = {"huge_exponent", "no_text", "long_name", "deep_minus", "tabs", "assert", "unknown_name"}
for _name, _statement in STATEMENTS.items():
    coded(_name, line(_statement), must_fail=_name not in HARMLESS)
coded("empty", lambda code: "")
coded("no_return", lambda code: code[: code.index("    return")])
coded("two_functions", lambda code: code + code.replace("forward", "backward"))
coded("decorated", lambda code: code.replace("def forward", f"@{EFFECT}\ndef forward", 1))
coded("default_is_a_call", lambda code: code.replace("(self, input)", f"(self, input = {EFFECT})", 1))
coded("annotation_is_a_call", lambda code: code.replace("forward(self, input", f"forward(self, input : {EFFECT}", 1))
coded("other_name", lambda code: code.replace("def forward", "def __init__", 1))
coded("async", lambda code: code.replace("def forward", "async def forward", 1))
coded("statement_before", lambda code: f"{EFFECT}\n" + code)
coded("statement_behind", lambda code: code + f"\n{EFFECT}\n")
coded("wraps_a_builtin", lambda code: 'torch.fx._symbolic_trace.wrap("eval")\n' + code, must_fail=False)
coded(
    "two_megabytes",
    lambda code: code.replace("    return", "    a = torch.relu(_5);  a = None\n" * 50_000 + "    return"),
    must_fail=False,
)

IMPORTS = {
    "system": f"import os\nos.system('{PAYLOAD}')",
    "expression": EFFECT,
    "semicolon": f"import torch; {EFFECT}",
    "relu_is_system": "from os import system as relu",
    "star": "from os import *",
    "torch_is_os": "import os as torch",
    "continued": "import torch \\\n, os",
    "none_type_is_a_call": f"NoneType = {EFFECT}",
    "relative": "from . import x",
    "bracketed": "from os import (system)",
}
for _name, _statement in IMPORTS.items():
    pickled(
        f"imports_{_name}",
        lambda data, statement=_statement: replace_imports(data, statement),
    )


def replace_imports(data, statement):
    at = data.index(b"NoneType = type(None)")
    length = struct.unpack("<I", data[at - 4 : at])[0]
    old = data[at : at + length].decode()
    return data[: at - 5] + text(old + "\n" + statement) + data[at + length :]
