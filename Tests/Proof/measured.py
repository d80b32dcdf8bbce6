"""Numbers that take long to measure: kept in a file as they come, and put into pages that are written by hand around
them.

Invariant: of a page nothing changes but the part that is named.
"""

import json
import re


class Results:
    """Numbers by key, a tuple; kept in the file at `path`, unless that is None, and taken from there next time."""

    def __init__(self, path):
        self.path = path
        self.found = json.loads(path.read_text()) if path and path.exists() else {}

    def __getitem__(self, key):
        return self.found[name(key)]

    def __contains__(self, key):
        return name(key) in self.found

    def measure(self, key, function):
        """What `function` returns, which is not asked again."""
        if key in self:
            return
        self.found[name(key)] = found = function()
        print(name(key), found, flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.found, indent=0))


def name(key):
    return "/".join(map(str, key))


def replace_part(page, part, lines):
    """What stands between `<!-- measured: PART -->` and `<!-- end -->`. Raises where the page has no such part, or
    several."""
    begin, end = f"<!-- measured: {part} -->", "<!-- end -->"
    body = "\n".join(lines).strip("\n")
    text, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}",
        lambda _: f"{begin}\n\n{body}\n\n{end}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page} has {count} parts named {part}, not one")
    page.write_text(text)
