"""What the commands that train have in common: options, errors, the words at the end."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.comparison import ComparisonConfig
from study.config import StudyConfig, UserError, require_positive
from study.data import default_data_dir
from study.files import is_uri
from study.progress import format_duration

if TYPE_CHECKING:
    from study.storage import Storage


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong and where the options are explained."""

    def error(self, message: str) -> Any:
        """Exit with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def number(text: str) -> float:
    """A finite number, as argparse type."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def duration(text: str) -> float:
    """``90s``, ``10m``, ``2h`` or plain seconds, as argparse type; returns seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def add_running_options(parser: Parser) -> None:
    """How a session runs: free to differ between the sessions of one study."""
    add = parser.add_argument_group("running").add_argument
    add("--resume", metavar="DIR", help="continue or extend what is in DIR, or at s3://…/NAME")
    add("--name", help="folder of the results (default: says what and when)")
    add("--results-dir", type=Path, metavar="DIR", default=Path("results"),
        help="where the folder lies (default results)")  # fmt: skip
    add("--storage-path", metavar="S3",
        help="s3://BUCKET/FOLDER: where trials write and a copy of the results is kept, for "
        "clusters without a folder that all nodes mount")  # fmt: skip
    add("--data-dir", type=Path, metavar="DIR", default=default_data_dir(),
        help="where the images lie or are put (default %(default)s)")  # fmt: skip
    add("--address", metavar="A", default=os.environ.get("RAY_ADDRESS"),
        help="Ray cluster to join: auto, HOST:PORT or ray://HOST:PORT (default $RAY_ADDRESS, else "
        "this machine)")  # fmt: skip
    add("--gpus-per-trial", type=number, metavar="X",
        help="0.25 packs four trials on a GPU (default: 1 where there are GPUs)")  # fmt: skip
    add(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="most trials at once (default: all that fit)",
    )
    add("--time-budget", type=duration, metavar="T", help="stop cleanly after 90s, 10m, 2h")


def folder_name(args: argparse.Namespace, default: str) -> str:
    """``--name``, or `default` with the time.

    Raises:
        UserError: It is no plain file name.
    """
    name = args.name or f"{default}-{datetime.now():%Y%m%d-%H%M%S}"
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise UserError(f"--name: {name!r}; use letters, digits, '.', '_' and '-'")
    return name


def check_unchanged(
    args: argparse.Namespace, config: StudyConfig | ComparisonConfig, options: Sequence[str]
) -> None:
    """Raise `UserError` where one of `options` contradicts the study that is resumed."""
    for name in options:
        if (value := getattr(args, name)) not in (None, getattr(config, name)):
            raise UserError(
                f"--{name}: the study in {args.resume} was made with {getattr(config, name)!r}, "
                f"not {value!r}; leave the option out, or start a new study without --resume"
            )
    if args.name not in (None, config.name):
        raise UserError(
            f"--name: the study in {args.resume} is named {config.name!r}; leave it out"
        )


def guarded(run: Callable[[], int]) -> int:
    """Call `run`; the exit status, with one line in place of a `UserError`."""
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def launch(
    args: argparse.Namespace,
    argv: Sequence[str],
    make_config: Callable[[StudyConfig | ComparisonConfig | None], Any],
    show: Callable[[Path, Any, Any, Console], None],
    module: str,
) -> int:
    """Run, or continue, what the command line asks for; the exit status.

    Args:
        args: The parsed command line.
        argv: The same, unparsed.
        make_config: From the configuration that is resumed, or None, to that which runs.
        show: Prints the results of (folder, configuration, outcome, console).
        module: The command's.
    """
    if args.max_concurrent is not None:
        require_positive("--max-concurrent", args.max_concurrent, integer=True)
    if args.gpus_per_trial is not None and args.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial: {args.gpus_per_trial:g} is negative; use 0 or above")
    # Imported when the options are known to be good: it takes seconds.
    from study import record, search

    console = Console()
    if args.address and args.address.startswith("ray://"):
        from study.remote import run_on_head

        name = None if args.resume else make_config(None).name
        return run_on_head(args.address, module, _arguments_on_head(argv, args.results_dir, name))
    resume = args.resume is not None
    if resume:
        storage = _storage_to_resume(args)
        config = make_config(record.load_config(storage.folder))
    else:
        config = make_config(None)
        storage = _new_storage(args, config.name)
    folder = storage.folder
    options = search.RunOptions(
        data_dir=args.data_dir,
        address=args.address,
        gpus_per_trial=args.gpus_per_trial,
        max_concurrent=args.max_concurrent,
        time_budget_s=args.time_budget,
    )
    outcome = search.run_study(storage, config, options, console, resume=resume)
    show(folder, config, outcome, console)
    return 0


def show_counts(
    config: StudyConfig | ComparisonConfig, outcome: Any, trials: Any, console: Console
) -> None:
    """Print how many trials ended, and how."""
    counts = trials["status"].value_counts()
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.print(
        f"\n{outcome.ended} of {config.num_samples} trials ended ({summary}) in "
        f"{format_duration(outcome.seconds)}",
        highlight=False,
    )


def show_next(
    folder: Path, resume: str, outcome: Any, commands: Sequence[str], console: Console
) -> None:
    """Print where the tables are and what to do next.

    Args:
        folder: The study's.
        resume: The command that continues it.
        outcome: How the session ended.
        commands: What to do once it has ended.
        console: Where to print.
    """
    files = ", ".join(sorted(path.name for path in folder.glob("*.parquet")))
    console.print(f"Tables in {folder}: {files}", highlight=False, soft_wrap=True)
    if outcome.stopped:
        console.print(f"Ended early: {outcome.stopped}. Continue with:")
        console.print(f"  {resume}", highlight=False, soft_wrap=True)
    else:
        console.print("Next:", highlight=False)
        for command in commands:
            console.print(f"  {command}", highlight=False, soft_wrap=True)


def _new_storage(args: argparse.Namespace, name: str) -> Storage:
    """Where a new study goes; writes nothing."""
    from study import record
    from study.storage import Storage

    uri = args.storage_path
    if uri is not None and not is_uri(uri):
        raise UserError(
            f"--storage-path: {uri!r} is not like s3://BUCKET/FOLDER; for a folder on this machine "
            "or a mounted one use --results-dir"
        )
    folder = args.results_dir / name
    record.check_new_folder(folder)
    storage = Storage(folder, uri and f"{uri.rstrip('/')}/{name}")
    if storage.uri and storage.has_study():
        raise UserError(
            f"{storage.uri}: already holds a study; continue it with --resume {storage.uri}, or "
            "choose another --name"
        )
    return storage


def _storage_to_resume(args: argparse.Namespace) -> Storage:
    """The files of the study to be continued, brought here where they are kept elsewhere."""
    from study import record
    from study.storage import Storage
    from study.study_file import load_study_json

    if is_uri(args.resume):
        uri = args.resume.rstrip("/")
        storage = Storage(args.results_dir / uri.rpartition("/")[2], uri)
    else:
        folder = Path(args.resume)
        storage = Storage(folder, load_study_json(folder).get("storage"))
    if args.storage_path not in (None, storage.uri and storage.uri.rpartition("/")[0]):
        raise UserError(
            f"--storage-path: fixed when a study is made, as {storage.uri}; leave it out"
        )
    if is_uri(args.resume):
        storage.require_study()
    if storage.uri and storage.has_study():
        with record.locked(storage.folder, resume=True):
            storage.pull()
    return storage


def _arguments_on_head(argv: Sequence[str], results_dir: Path, name: str | None) -> list[str]:
    """The command line for the head: without the address, and with absolute folders."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--address", "--resume", "--results-dir", "--name"):
        where.add_argument(option)
    given, rest = where.parse_known_args(argv)
    if given.resume:
        folder = given.resume if is_uri(given.resume) else str(Path(given.resume).absolute())
        rest += ["--resume", folder]
    else:
        assert name is not None
        rest += ["--name", name]
    return [*rest, "--results-dir", str(results_dir.absolute())]
