"""All commands under one name: ``mnist-study run …``, or ``python -m study run …``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import shtab

from study.cli import Parser, place, place_or_uri
from study.console.text import hint

PROG = "mnist-study"
COMMANDS = {
    "run": ("study.run", "search for the best hyperparameters"),
    "compare": ("study.compare", "train fixed configurations with several seeds each"),
    "finalize": ("study.finalize", "confirm the best of a search with fresh seeds"),
    "status": ("study.status", "show what studies are doing"),
    "report": ("analysis.report", "write a page about results"),
    "predict": ("study.predict", "read the digit in a picture; save a model"),
    "replay": ("study.replay", "train a trial again from its record"),
}
COMPLETION = "completion"
EPILOG = f"""{PROG} COMMAND --help shows the options of a command.

To complete commands and options with the tab key, add this line to ~/.bashrc:
  eval "$({PROG} completion bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Only the first word is parsed here: the rest is the command's.
    parser = _parser()
    if words and not words[0].startswith("-") and words[0] not in (*COMMANDS, COMPLETION):
        parser.error(f"{words[0]}: unknown command{hint(words[0], COMMANDS)}")
    args = parser.parse_args(words[:1])
    if args.command != COMPLETION:
        return import_module(COMMANDS[args.command][0]).main(words[1:])
    print(shtab.complete(_whole_parser(), _shell(words[1:])))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROG,
        description="A hyperparameter study of two networks on MNIST.",
        epilog=EPILOG,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, what) in COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)
    commands.add_parser(COMPLETION, help="print a script that completes commands in your shell")
    return parser


def _shell(words: list[str]) -> str:
    parser = Parser(prog=f"{PROG} completion", description="Print a script for your shell.")
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return parser.parse_args(words).shell


def _whole_parser() -> argparse.ArgumentParser:
    """All commands with all their options, for `shtab`."""
    parser = argparse.ArgumentParser(prog=PROG)
    commands = parser.add_subparsers()
    for name, (module, what) in COMMANDS.items():
        own = import_module(module).make_parser()
        for action in own._actions:
            is_named = action.option_strings or action.choices
            if action.type in (place, place_or_uri) or not is_named:
                setattr(action, "complete", shtab.FILE)  # noqa: B010 -- argparse has no such field
        commands.add_parser(name, help=what, parents=[own], add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
