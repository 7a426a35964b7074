"""Searches and comparisons from Python: the commands, called as functions.

Progress and messages are printed as by the commands.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from study.console.errors import UserError
from study.files import is_uri

if TYPE_CHECKING:
    from study.results.tables import StudyResults


def run_search(**options: Any) -> StudyResults:
    """Run, continue or extend a search, as ``python -m study.run`` does.

    Args:
        **options: The command's options, such as ``num_samples=8``, ``batch_size=[64, 512]`` or
            ``resume="results/NAME"``. ``python -m study.run --help`` lists them.

    Returns:
        Its tables.

    Raises:
        UserError: An option is wrong. The message has one line, and says how to fix it.
    """
    return _call("study.run", [], options)


def run_comparison(comparison: str | Path | None = None, **options: Any) -> StudyResults:
    """Run, continue or extend a comparison, as ``python -m study.compare`` does.

    Args:
        comparison: The name of a built-in comparison or a TOML file; None with ``resume``.
        **options: The command's options, such as ``replicates=3``.

    Returns:
        Its tables.

    Raises:
        UserError: As `run_search`.
    """
    return _call("study.compare", [] if comparison is None else [str(comparison)], options)


def _call(module: str, words: list[str], options: dict[str, Any]) -> StudyResults:
    command = import_module(module)
    parser = command.make_parser()
    parser.error = _refuse
    argv = words + [word for option in options.items() for word in _words(*option)]
    args = parser.parse_args(argv)
    if args.resume is None:
        args.name = command.new_config(args).name
    command.execute(args, argv)
    from study.results.tables import load_study

    if args.resume is None:
        return load_study(args.results_dir / args.name)
    is_stored = is_uri(args.resume)  # the folder here has its name
    name = args.resume.rstrip("/").rpartition("/")[2]
    return load_study(args.results_dir / name if is_stored else args.resume)


def _words(name: str, value: Any) -> list[str]:
    """An option as on a command line."""
    option = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, list | tuple):
        return [option, *map(str, value)]
    return [f"{option}={value}"]  # so that a value may begin with a dash


def _refuse(message: str) -> NoReturn:
    raise UserError(message)
