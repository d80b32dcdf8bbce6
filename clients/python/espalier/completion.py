"""What makes a shell complete the command `espalier`, made from its parser: what can be said is said once.

eval "$(espalier completion bash)"
espalier completion zsh > "${fpath[1]}/_espalier"
espalier completion fish > ~/.config/fish/completions/espalier.fish
"""

from __future__ import annotations

import argparse
from typing import Dict, List

from .requests import COMPRESSION_METHODS, Options

# What options take that is neither free text nor a file.
VALUES = {
    "--method": ["automatic", *COMPRESSION_METHODS],
    "--methods": ["automatic", *COMPRESSION_METHODS],
    "--target": [f"{what}=" for what in ("macs", "parameters", "size_bytes", "energy")],
    "--option": [f"{name}=" for name in Options.__annotations__],
}
FILES = ("--dataset", "--output", "-o", "--onnx-output", "--output-dir", "--csv", "--plot", "--pipe", "--server", "--release")


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    return {"bash": bash, "zsh": zsh, "fish": fish}[shell](subcommands(parser))


def subcommands(parser: argparse.ArgumentParser) -> Dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options(command: argparse.ArgumentParser) -> List[argparse.Action]:
    return [action for action in command._actions if action.option_strings]


def spellings(action: argparse.Action) -> List[str]:
    return list(action.option_strings)


def words(action: argparse.Action) -> List[str]:
    """What an option or argument can be followed by, where that is a matter of words."""
    known = next((VALUES[name] for name in action.option_strings if name in VALUES), None)
    return known or list(action.choices or [])


def takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def help_of(action: argparse.Action) -> str:
    return (action.help or "").replace("%%", "%").partition("; ")[0].partition(": ")[0]


def bash(commands: Dict[str, argparse.ArgumentParser]) -> str:
    cases: List[str] = []
    for name, command in commands.items():
        values: Dict[str, List[str]] = {}
        for action in options(command):
            if words(action):
                values["|".join(spellings(action))] = words(action)
        inner = "".join(
            f'          {pattern}) COMPREPLY=($(compgen -W "{" ".join(choices)}" -- "$word")); return ;;\n'
            for pattern, choices in values.items()
        )
        given = " ".join(spelling for action in options(command) for spelling in spellings(action))
        positional = next(
            (words(action) for action in command._actions if not action.option_strings and words(action)), []
        )
        cases.append(
            f"      {name})\n"
            + (f'        case "$before" in\n{inner}        esac\n' if inner else "")
            + f'        [[ "$word" == -* ]] && {{ COMPREPLY=($(compgen -W "{given}" -- "$word")); return; }}\n'
            + (f'        COMPREPLY=($(compgen -W "{" ".join(positional)}" -- "$word"))\n' if positional else "")
            + "        ;;\n"
        )
    return f"""_espalier() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
  COMPREPLY=()
  # The shell takes "=" for a word of its own: macs=0.5 is the caller's to finish.
  [[ "$word" == = || "$before" == = ]] && return
  if (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W "{" ".join(commands)} --help --version" -- "$word"))
    return
  fi
  case "$command" in
{"".join(cases)}  esac
}}
complete -o default -o nosort -F _espalier espalier"""


def zsh(commands: Dict[str, argparse.ArgumentParser]) -> str:
    cases: List[str] = []
    for name, command in commands.items():
        specs: List[str] = []
        for action in options(command):
            for spelling in spellings(action):
                repeat = "*" if isinstance(action, argparse._AppendAction) else ""
                value = ""
                if takes_value(action):
                    choices = f"({' '.join(words(action))})" if words(action) else "_files"
                    value = f":{(action.metavar or action.dest)!s}:{choices}".replace("[", "").replace("]", "")
                specs.append(_quoted(f"{repeat}{spelling}[{_plain(help_of(action))}]{value}"))
        for action in command._actions:
            if not action.option_strings:
                specs.append(
                    _quoted(f":{action.dest}:" + (f"({' '.join(words(action))})" if words(action) else "_files"))
                )
        cases.append(f"    {name}) _arguments -S " + " \\\n      ".join(specs) + " ;;\n")
    names = " ".join(_quoted(f"{name}:{_plain(command.description or '')}") for name, command in commands.items())
    return f"""#compdef espalier
_espalier() {{
  if (( CURRENT == 2 )); then
    local -a commands=({names})
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{"".join(cases)}  esac
}}
_espalier "$@\""""


def fish(commands: Dict[str, argparse.ArgumentParser]) -> str:
    lines = [
        f"complete -c espalier -n __fish_use_subcommand -f -a {name} -d {_quoted(_plain(command.description or ''))}"
        for name, command in commands.items()
    ]
    for name, command in commands.items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for action in options(command):
            parts = [f"complete -c espalier {seen}"]
            for spelling in spellings(action):
                parts.append(f"-l {spelling[2:]}" if spelling.startswith("--") else f"-s {spelling[1:]}")
            if words(action):
                parts.append(f"-x -a '{' '.join(words(action))}'")
            elif takes_value(action):
                parts.append("-r" if any(each in FILES for each in action.option_strings) else "-x")
            parts.append(f"-d {_quoted(_plain(help_of(action)))}")
            lines.append(" ".join(parts))
        for action in command._actions:
            if not action.option_strings and words(action):
                lines.append(f"complete -c espalier {seen} -f -a '{' '.join(words(action))}'")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Without what shells would read as theirs."""
    return "".join(" " if character in "[]:'\"`$\\" else character for character in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "") + "'"
