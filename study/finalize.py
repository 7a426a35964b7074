"""Confirm a search: ``python -m study.finalize results/NAME``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from study.cli import Parser, guarded, place_or_uri
from study.config.finalists import BUDGET, CHOSEN, PAPER, ConfirmingConfig, FinalConfig
from study.config.search import SearchConfig
from study.config.study import require_name
from study.console.errors import UserError, require_positive
from study.console.text import command_line
from study.files import is_uri
from study.opening import opened
from study.results.study_file import StudyFile, resume_command
from study.training_commands import (
    add_running_options,
    check_running_options,
    load_tables,
    runs_on_head,
)

if TYPE_CHECKING:
    from study.confirming import Confirmation
    from study.results.confirmation import Choice
    from study.results.tables import StudyResults

EPILOG = """examples:
  python -m study.finalize results/NAME
      confirm a finished search; the same command continues what was stopped
  python -m study.finalize results/NAME --budget 24 --replicates 5
      with fewer runs

1. The search's best configurations and the paper's are trained again with fresh seeds, on the
   same validation images. Sequential halving spends most runs on the best. Nothing is stopped
   early. These runs are a study of their own: results/NAME-finalists.
2. The chosen configuration and the paper's are trained with ten more seeds on all 60,000
   training images, and the sealed test images are opened: results/NAME-final. The opening is
   recorded in results/NAME/test_set_openings.jsonl. A second one needs --reopen-test WHY.

Afterwards: python -m analysis.report results/NAME results/NAME-finalists results/NAME-final
"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m study.finalize",
        description="Find out which of a search's best configurations really is best, and how "
        "good it is on images that the search has never seen.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "resume", type=place_or_uri, metavar="DIR", help="the search: results/NAME or s3://…/NAME"
    )
    add = parser.add_argument_group("confirmation").add_argument
    add(
        "--budget",
        type=int,
        metavar="N",
        help=f"most runs of the finalists (default {BUDGET}; nine configurations take 19 or more)",
    )
    add(
        "--replicates",
        type=int,
        metavar="N",
        help=f"seeds of the final runs (default {FinalConfig.replicates})",
    )
    add("--name", metavar="NAME", help="start of the two folders' names (default: the search's)")
    add("--reopen-test", metavar="WHY", help="open the test set again, and record why")
    add_running_options(parser)
    # Options that `opened` and `run_options` expect, but that this command does not offer.
    parser.set_defaults(results_dir=Path("results"), storage_path=None, retry_failed=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    check_running_options(args)
    for name in ("budget", "replicates"):
        if (value := getattr(args, name)) is not None:
            require_positive(f"--{name}", value, integer=True)
    if runs_on_head(args):
        raise UserError(
            f"--address: {args.address}: confirm on a machine of the cluster, with --address auto"
        )
    args.resume, name = search_of(args.resume)
    args.name = args.name if args.name is not None else name
    if args.name is not None:
        require_name("--name", args.name)
    with opened(args, SearchConfig, None) as (storage, search):
        from study.confirming import Confirmation

        results = load_tables(storage.folder)
        require_finished(results, search)
        confirmation = Confirmation(args, storage, results)
        ended = confirmation.run()
        if isinstance(ended, int):
            return ended
        show(confirmation, *ended)
    return 0


def search_of(given: str) -> tuple[str, str | None]:
    """The search that `given`, a search or what confirms it, belongs to.

    Returns:
        Its folder or URI; the name of the confirmation, if `given` is a part of it.

    Raises:
        UserError: It is another kind of study.
    """
    if is_uri(given):
        return given, None
    folder = Path(given)
    config = StudyFile.read(folder).config
    if isinstance(config, ConfirmingConfig):
        search = config.resume_arguments(str(folder))[0]
        own = folder if folder.name not in ("", "..") else folder.resolve()
        return search, own.name.removesuffix(f"-{config.kind}")
    if not config.is_ranked:
        raise UserError(
            f"{given}: holds a {config.kind}, which selects nothing; give the folder of a search"
        )
    return given, None


def require_finished(results: StudyResults, search: SearchConfig) -> None:
    """Raise `UserError` unless the search has ended with at least two complete trials."""
    from study.results.history import ENDS

    ended = results.trials["status"].isin(ENDS).sum()
    if ended < search.num_samples:
        raise UserError(
            f"{results.path}: {ended} of {search.num_samples} trials have ended; finish the search "
            f"first: {resume_command(search, results.path)}"
        )
    if (complete := (results.trials["status"] == "complete").sum()) < 2:
        raise UserError(
            f"{results.path}: {complete} complete trials; confirming takes two. Extend the search: "
            f"{resume_command(search, results.path)} --num-samples {2 * search.num_samples}"
        )


def show(confirmation: Confirmation, chosen: Choice, runs: StudyResults) -> None:
    """Print the answer, and the next commands."""
    from study.confirming import MODELS

    say = partial(confirmation.console.print, soft_wrap=True)
    show_choice(confirmation, chosen)
    for line in final_lines(chosen, runs):
        say(line)
    say("Intervals are 95%; the first of each two speaks of new seeds and new images.")
    folders = [s.folder for s in (confirmation.search, confirmation.finalists, confirmation.final)]
    say(f"The model of each final run: {runs.path / MODELS}")
    say("Next:")
    say(f"  {command_line('analysis.report', *folders)}")
    say(f"  {command_line('study.predict', runs.path)} IMAGE")


def show_choice(confirmation: Confirmation, chosen: Choice) -> None:
    """Print what the finalists' runs say."""
    from study.results.confirmation import search_scores
    from study.results.estimates import show as text
    from study.results.overtuning import overtuning
    from study.results.trials import in_words

    say = partial(confirmation.console.print, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    scores = search_scores(confirmation.results.trials)
    for column in ("configuration", "fresh seeds", "diverged", "accuracy", "score in the search"):
        table.add_column(column, no_wrap=True)
    for row in chosen.table.to_dict("records"):
        score = scores.get(row["arm"])
        table.add_row(
            row["arm"],
            str(row["n"]),
            str(row["diverged"]),
            "" if math.isnan(row["accuracy"]) else f"{row['accuracy']:.2%}",
            "" if score is None else f"{score:.2%}",
        )
    diverged = chosen.table["diverged"].any()
    zero = "; a diverged run counts as 0%" if diverged else ""
    say(f"\nThe finalists, on the validation images (mean over fresh seeds{zero}):")
    confirmation.console.print(table)
    words = in_words(chosen.settings) or "the paper's configuration"
    say(f"Chosen: {chosen.arm} ({words}).")
    if (score := scores.get(chosen.arm)) is not None:
        own = chosen.table.iloc[0]
        lost = f" {own['diverged']} diverged, and are left out here." if own["diverged"] else ""
        say(
            f"The search gave it {score:.2%}; {chosen.again.n} fresh seeds give "
            f"{text(chosen.again, '{:.2%}')} ({chosen.again.kind}; they chose it: a little high)."
            + lost
        )
    if found := overtuning(confirmation.results.trials, chosen.trials):
        say(found.sentence())


def final_lines(chosen: Choice, runs: StudyResults) -> Iterator[str]:
    """What the final runs say on the test images."""
    from study.results.confirmation import final
    from study.results.estimates import show as text
    from study.results.predictions import load_predictions

    found = final(runs, load_predictions(runs.path))
    yield f"\nOn the {runs.study.num_evaluated:,} test images, trained on all 60,000:"
    if isinstance(config := runs.study.config, FinalConfig) and config.reopened:
        yield f"  They had been opened before, and were opened again: {config.reopened}."
        yield "  What was chosen with an earlier result in mind looks better here than it is."
    names = {CHOSEN: chosen.arm, PAPER: "the paper's configuration"}
    for arm, accuracy in found.accuracy.items():
        yield f"  {names[arm]}: {text(accuracy.both, '{:.2%}')}, n = {accuracy.seeds.n} seeds"
        yield f"    for new seeds on these images: {text(accuracy.seeds, '{:.2%}')}"
    if found.gain is not None:
        gain = found.gain
        yield f"  gain, paired by seed: {text(gain.both, '{:+.2f} points')}"
        yield f"    for new seeds on these images: {text(gain.seeds, '{:+.2f} points')}"
        if not math.isnan(found.detectable):
            yield f"    so many seeds detect {found.detectable:.2f} points (80% power)"
    for arm, count in found.missing.items():
        yield f"  left out: {count} of the seeds of {names[arm]}, without a final model"


if __name__ == "__main__":
    sys.exit(main())
