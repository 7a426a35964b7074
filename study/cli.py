"""What the commands that train have in common: options, errors, the words at the end."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from study.config import LONGEST_NAME, StudyConfig, require_name
from study.data import default_data_dir
from study.errors import UserError, require_positive
from study.files import is_uri, require_uri
from study.progress import format_duration
from study.study_file import load_study_json, resume_command
from study.terminal import Terminal, accept_all_text
from study.text import escape, shown

if TYPE_CHECKING:
    from study.storage import Storage


LONGEST_PATH = 3700  # bytes: 4096 less the study's name and what Ray puts below it


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong and where the options are explained."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        accept_all_text()  # here, where every command comes by before it says anything

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] -- its overloads
        """What the command line says; no word of it is empty or holds control characters."""
        for word in sys.argv[1:] if args is None else args:
            if not word or escape(word, keep="") != word:
                self.error(f"{word!r}: empty, or holds a character that cannot be shown")
        return super().parse_known_args(args, namespace)

    def print_help(self, file: Any = None) -> None:
        """Print how the command is used."""
        Terminal(file=file).print(self.format_help(), end="", soft_wrap=True)

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
    if not match or not 0 < float(match[1]) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def place(text: str) -> Path:
    """A path that the system can take, as argparse type."""
    path = Path(text)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise argparse.ArgumentTypeError(
            f"a part of {shown(text)} is longer than {LONGEST_NAME} bytes"
        )
    if not text or len(os.fsencode(path.absolute())) > LONGEST_PATH:
        raise argparse.ArgumentTypeError(f"{shown(text)} is empty or too long a path")
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whether that will do is asked where it is used
    except OSError as error:  # a loop of links, a folder that may not be entered
        raise argparse.ArgumentTypeError(f"{text!r}: {error.strerror}") from None
    return path


def place_or_uri(text: str) -> str:
    """A folder, or s3://BUCKET/FOLDER, as argparse type."""
    return text if is_uri(text) else str(place(text))


def add_running_options(parser: Parser) -> None:
    """How a session runs: free to differ between the sessions of one study."""
    add = parser.add_argument_group("running").add_argument
    add("--resume", type=place_or_uri, metavar="DIR",
        help="continue or extend what is in DIR, or at s3://…/NAME")  # fmt: skip
    add("--name", help="folder of the results (default: says what and when)")
    add("--results-dir", type=place, metavar="DIR", default=Path("results"),
        help="where the folder lies (default results)")  # fmt: skip
    add("--storage-path", metavar="S3",
        help="s3://BUCKET/FOLDER: where trials write and a copy of the results is kept, for "
        "clusters without a folder that all nodes mount")  # fmt: skip
    add("--data-dir", type=place, metavar="DIR", default=default_data_dir(),
        help="where the images lie or are put (default %(default)s)")  # fmt: skip
    add("--address", metavar="A", default=os.environ.get("RAY_ADDRESS") or None,
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
    add(
        "--retry-failed",
        action="store_true",
        help="with --resume: run each failed trial again, as a new trial with the same seed",
    )


def folder_name(args: argparse.Namespace, default: str) -> str:
    """``--name``, or `default` with the time.

    Raises:
        UserError: It is no plain file name.
    """
    name = f"{default}-{datetime.now():%Y%m%d-%H%M%S}" if args.name is None else args.name
    require_name("--name", name)
    return name


def check_unchanged(args: argparse.Namespace, config: StudyConfig, options: Sequence[str]) -> None:
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
        Terminal(stderr=True).print(f"error: {error}", soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        Terminal(stderr=True).print("\nInterrupted.")
        return 130


def launch(
    args: argparse.Namespace,
    argv: Sequence[str],
    make_config: Callable[[Any], StudyConfig],
    show: Callable[[str, Path, Any, Any, Console], None],
    module: str,
) -> int:
    """Run, or continue, what the command line asks for; the exit status.

    Args:
        args: The parsed command line.
        argv: The same, unparsed.
        make_config: From the configuration that is resumed, or None, to that which runs.
        show: Prints results and next commands, of (command that resumes, folder, configuration,
            outcome, console).
        module: The command's.
    """
    if args.max_concurrent is not None:
        require_positive("--max-concurrent", args.max_concurrent, integer=True)
    if args.gpus_per_trial is not None and args.gpus_per_trial < 0:
        raise UserError(f"--gpus-per-trial: {args.gpus_per_trial:g} is negative; use 0 or above")
    if args.retry_failed and args.resume is None:
        raise UserError("--retry-failed: needs --resume DIR: a new study has no failed trials")
    # Imported when the options are known to be good: it takes seconds.
    from study import record, search
    from study.signals import StopRequest

    stop = StopRequest(args.time_budget)
    console = Terminal(on_closed=lambda: stop.ask("its output was closed"))
    if args.address and args.address.startswith("ray://"):
        from study.remote import run_on_head

        name = None if args.resume else make_config(None).name
        return run_on_head(args.address, module, _arguments_on_head(argv, args.results_dir, name))
    resume = args.resume is not None
    if resume:
        storage = _storage_to_resume(args)
        earlier = record.load_config(storage.folder)
        if earlier.module != module:
            raise UserError(
                f"--resume: {args.resume} holds a {earlier.kind}; continue it with: "
                + resume_command(earlier, args.resume)
            )
        config = make_config(earlier)
    else:
        config = make_config(None)
        storage = _new_storage(args, config.name)
    folder = storage.folder
    options = search.RunOptions(
        data_dir=args.data_dir,
        address=args.address,
        gpus_per_trial=args.gpus_per_trial,
        max_concurrent=args.max_concurrent,
        retry_failed=args.retry_failed,
    )
    outcome = search.run_study(storage, config, options, console, stop, resume=resume)
    again = resume_command(config, folder, args.address)
    show(again, folder, config, outcome, console)
    if outcome.counts["failed"]:
        console.print(f"{outcome.counts['failed']} failed; once the cause is gone run them again:")
        console.print(f"  {again} --retry-failed", soft_wrap=True)
    if outcome.all_failed:
        console.print("All trials failed or diverged: exit status 1.")
        return 1
    return 0


def show_counts(outcome: Any, trials: Any, console: Console) -> None:
    """Print how many trials ended, and how."""
    counts = trials["status"].value_counts()
    summary = ", ".join(f"{n} {status}" for status, n in counts.items())
    console.print(
        f"\n{outcome.ended} of {outcome.planned} trials ended ({summary}) in "
        f"{format_duration(outcome.seconds)}"
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
    console.print(f"Tables in {folder}: {files}", soft_wrap=True)
    if outcome.stopped:
        console.print(f"Ended early: {outcome.stopped}. Continue with:")
        commands = [resume]
    else:
        console.print("Next:")
    for command in commands:
        console.print(f"  {command}", soft_wrap=True)


def _new_storage(args: argparse.Namespace, name: str) -> Storage:
    """Where a new study goes; writes nothing."""
    from study import record
    from study.storage import Storage

    uri = args.storage_path
    if uri is not None:
        require_uri("--storage-path", uri)
    folder = args.results_dir / name
    record.check_new_folder(folder)
    storage = Storage(folder, uri and f"{uri.rstrip('/')}/{name}")
    if storage.uri and storage.has_study():
        raise UserError(
            f"{storage.uri}: already holds a study; continue it with --resume "
            f"{shlex.quote(storage.uri)}, or choose another --name"
        )
    return storage


def _storage_to_resume(args: argparse.Namespace) -> Storage:
    """The files of the study to be continued, brought here where they are kept elsewhere."""
    from study import record
    from study.storage import Storage

    if is_uri(args.resume):
        require_uri("--resume", args.resume)
        uri = args.resume.rstrip("/")
        name = uri.rpartition("/")[2]
        require_name("--resume", name)
        storage = Storage(args.results_dir / name, uri)
    else:
        folder = Path(args.resume)
        storage = Storage(folder, load_study_json(folder)["storage"])
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
