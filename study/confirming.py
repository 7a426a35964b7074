"""Confirms a search in two studies beside it: its finalists, then the final runs.

Which of them to begin, to continue or to leave follows from what is on the disk. So the same
command goes on after a stop or a crash at any moment.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from study.config.arms import MAX_REPLICATES
from study.config.finalists import BUDGET, CHOSEN, PAPER, FinalConfig, FinalistsConfig
from study.config.study import StudyConfig, require_name
from study.console.errors import UserError, cannot_be_read
from study.console.terminal import Terminal
from study.console.text import command_line, format_duration, shown
from study.data.images import OPENINGS_FILE, openings
from study.results.confirmation import Choice, choice
from study.results.ended import (
    begun,
    ended_trials,
    failed_for_now,
    has_begun,
    require_a_result,
    tables_of,
)
from study.results.finalists import candidates, expected_seconds
from study.results.halving import is_damaged, next_seeds, rounds, sizes
from study.results.lock import check_new_folder
from study.results.storage import Storage
from study.results.study_file import STUDY_FILE, StudyFile
from study.results.tables import StudyResults, load_study
from study.training_commands import run_options

MODELS = "models"  # in the folder of the final runs


class Confirmation:
    """The two studies that confirm a search, each begun, continued or left as the disk says.

    Args:
        args: The parsed command line.
        search: The search's files.
        results: The search's tables.
    """

    def __init__(self, args: argparse.Namespace, search: Storage, results: StudyResults) -> None:
        self.args = args
        self.search = search
        self.results = results
        self.folder = search.named_folder
        require_name(f"{self.folder}: the folder's name", self.folder.name)
        self.name = self.folder.name if args.name is None else args.name
        require_name("--name", f"{self.name}-{FinalistsConfig.kind}")  # the longer of the two
        self.budget = args.budget or BUDGET
        self.replicates = args.replicates or FinalistsConfig.replicates
        self.console = Terminal()
        self.options = run_options(args)
        self.finalists, self.final = (
            search.beside(f"{self.name}-{kind}")
            for kind in (FinalistsConfig.kind, FinalConfig.kind)
        )
        self.deadline = args.time_budget and time.monotonic() + args.time_budget

    def run(self) -> tuple[Choice, StudyResults] | int:
        """Run what is left.

        Returns:
            The choice and the final runs; the exit status if it was stopped before the end.
        """
        missing = [s for s in (self.finalists, self.final) if not has_begun(s)]
        for storage in missing:
            check_new_folder(storage.folder)
        if len(missing) == 2:
            self.check_opening("")  # before hours are spent
            self.next_finalists(None)  # refuses a budget that does not fit
            self.console.print(self.plan(), soft_wrap=True)
        stopped = self.advance(self.finalists, self.next_finalists)
        if stopped is not None:
            return stopped
        chosen = choice(load_study(self.finalists.folder))
        if not chosen.again.n:
            raise UserError(
                f"{self.finalists.folder}: no run of the configurations that got to the last round "
                f"is complete; confirm the search again under another name: --name {self.name}-2"
            )
        stopped = self.advance(self.final, lambda earlier: self.next_final(earlier, chosen))
        if stopped is not None:
            return stopped
        results = load_study(self.final.folder)
        self.export(results)
        return chosen, results

    def export(self, results: StudyResults) -> None:
        """Write the model of each complete final run to ``models/``, unless it is there.

        Args:
            results: Of the final runs.
        """
        from study.results.final_model import final_model
        from study.training.export import ABOUT_FILE, save_model

        complete = results.trials[results.trials["status"] == "complete"]
        for run in complete.to_dict("records"):
            place = results.path / MODELS / f"{run['arm']}-{run['replicate']}"
            if (place / ABOUT_FILE).exists():
                continue
            try:
                save_model(final_model(results.path, run["trial_id"]), place)
            except UserError as error:  # the answer does not depend on it
                self.console.print(f"No model of {run['trial_id']}: {error}", soft_wrap=True)

    def check_opening(self, reason: str) -> None:
        """Raise `UserError` if the test set was opened for another reason, unless that is wanted.

        Args:
            reason: Of the final runs to come; empty as long as nothing is chosen.
        """
        record = self.search.folder / OPENINGS_FILE
        try:
            found = openings(record)
        except OSError as error:
            raise cannot_be_read(record, error) from None
        others = [] if reason in found else found  # what has opened it may go on
        if others and not self.args.reopen_test:
            raise UserError(
                f"{record}: the test set was opened before ({shown(others[-1], 200)}). Choosing "
                "again after that makes its numbers too good. If it must be: --reopen-test WHY"
            )

    def plan(self) -> str:
        """What will run, and about how long it takes if it begins now."""
        arms = len(candidates(self.results))
        seconds = expected_seconds(
            self.results, self.budget, self.replicates, self.args.max_concurrent
        )
        took = "" if seconds is None else f" That takes about {format_duration(seconds)} here."
        return (
            f"Confirming {self.name}: {arms} configurations, at most {self.budget} runs; then "
            f"{self.replicates} seeds each of the chosen and the paper's, on the test images.{took}"
        )

    def advance(
        self, storage: Storage, next_config: Callable[[StudyConfig | None], StudyConfig | None]
    ) -> int | None:
        """Run sessions of a study until `next_config` returns None.

        Returns:
            The exit status if a session was stopped or no run has a result, else None.
        """
        from study.search.session import Session

        ran = None
        while True:
            with begun(storage) as earlier:
                config = next_config(earlier)
                retry = earlier is not None and failed_for_now(storage, earlier)
                if retry:  # each once, before anything is decided: the cause may be gone
                    config = earlier
                if config is None:
                    return None
                if config == ran and not retry:  # a session has not written the tables again
                    tables_of(storage)
                ran = config
                self._announce(config, retry=retry)
                options = replace(self.options, retry_failed=retry, time_budget_s=self._time_left())
                outcome = Session(storage, config, options).run(resume=earlier is not None)
            if outcome.stopped:
                self.console.print(f"Ended early: {outcome.stopped}. Continue with:")
                self.console.print(f"  {self._resume_command()}", soft_wrap=True)
            if outcome.all_failed:
                self.console.print(f"All runs failed: exit status {outcome.exit_status}.")
            if outcome.stopped or outcome.all_failed:
                return outcome.exit_status

    def _time_left(self) -> float | None:
        """Of the time budget, in seconds."""
        return self.deadline and max(self.deadline - time.monotonic(), 1.0)

    def _resume_command(self) -> str:
        """The command that continues this, ready to paste into a shell."""
        options = {"--name": self.args.name, "--address": self.args.address}
        given = [f"{name}={value}" for name, value in options.items() if value]
        return command_line("study.finalize", self.search.uri or self.search.folder, *given)

    def next_finalists(self, earlier: StudyConfig | None) -> StudyConfig | None:
        """The finalists as they are to be run now: begun, continued, or a round further on."""
        arms, search = candidates(self.results), self.results.study.config
        if earlier is None:
            if self.budget < (least := sum(sizes(len(arms)))):
                raise UserError(
                    f"--budget: {self.budget} is too few for {len(arms)} configurations; give "
                    f"{least} or more"
                )
            plan = rounds(len(arms), self.budget)
            if (most := sum(seeds for _, seeds in plan)) > MAX_REPLICATES:
                raise UserError(
                    f"--budget: {self.budget} gives an arm {most} seeds; give less, so that none "
                    f"gets more than {MAX_REPLICATES}"
                )
            return FinalistsConfig(
                name=f"{self.name}-finalists",
                title=f"Which configuration of {search.name} is best?",
                arms=arms,
                search=self.folder.name,
                budget=self.budget,
                replicates=self.replicates,
                seeds=dict.fromkeys(arms, plan[0][1]),
                **self._of_search(),
            )
        if not isinstance(earlier, FinalistsConfig):
            raise self._foreign(self.finalists, earlier)
        self._check_unchanged(earlier, arms)
        if (trials := ended_trials(self.finalists, earlier)) is None:
            return earlier
        require_a_result(self.finalists, earlier, trials)
        seeds = next_seeds(earlier, trials)
        return None if seeds is None else replace(earlier, seeds=seeds)

    def _announce(self, config: StudyConfig, *, retry: bool) -> None:
        """Print what the next session runs."""
        line = f"Final runs: {config.num_trials}, on the test images."
        if isinstance(config, FinalistsConfig):
            most = max(config.seeds.values())
            staying = [arm for arm, seeds in config.seeds.items() if seeds == most]
            in_round = sizes(len(config.arms))
            number = in_round.index(len(staying)) + 1
            line = (
                f"Round {number} of {len(in_round)}: {len(staying)} configurations, then with "
                f"{most} {'seed' if most == 1 else 'seeds'} each."
            )
        self.console.print(f"Failed runs, once more. {line}" if retry else line, soft_wrap=True)

    def _check_unchanged(self, earlier: FinalistsConfig, arms: dict[str, Any]) -> None:
        """Raise `UserError` if the search or an option has changed since the finalists began."""
        if earlier.search != self.folder.name:
            raise self._foreign(self.finalists, earlier)
        if earlier.arms != arms:
            raise UserError(
                f"{earlier.name}: holds other finalists; {self.results.path} has changed since. "
                f"Confirm it under another name: --name {self.name}-2"
            )
        if is_damaged(earlier):
            raise UserError(
                f"{self.finalists.folder / STUDY_FILE}: damaged (no round of halving leaves such "
                "seeds); restore it from a copy"
            )
        for option in ("budget", "replicates"):
            if getattr(self.args, option) not in (None, begun_with := getattr(earlier, option)):
                raise UserError(
                    f"--{option}: {earlier.name} was begun with {begun_with}; leave the option out"
                )

    def next_final(self, earlier: StudyConfig | None, chosen: Choice) -> StudyConfig | None:
        """The final runs as they are to be run now; None once all have ended."""
        search, paper = self.results.study.config, {PAPER: candidates(self.results)[PAPER]}
        finalists = StudyFile.read(self.finalists.folder).config
        assert isinstance(finalists, FinalistsConfig)
        config = FinalConfig(
            name=self.final.folder.name,
            title=f"{chosen.arm} of {search.name} against the paper's configuration",
            arms=paper if chosen.arm == PAPER else {CHOSEN: chosen.settings, **paper},
            search=self.folder.name,
            replicates=finalists.replicates,
            reopened=self.args.reopen_test or "",
            **self._of_search(),
        )
        if earlier is not None:
            self._check_final(earlier, config)
            config = earlier
            if (trials := ended_trials(self.final, earlier)) is not None:
                require_a_result(self.final, earlier, trials)
                return None
        self.check_opening(config.opening_reason)
        return config

    def _check_final(self, earlier: StudyConfig, now: FinalConfig) -> None:
        """Raise `UserError` unless earlier final runs are those of this search and this choice."""
        if not isinstance(earlier, FinalConfig) or earlier.search != now.search:
            raise self._foreign(self.final, earlier)
        if earlier.arms != now.arms:
            raise UserError(
                f"{self.final.folder}: holds the final runs of another choice ({earlier.title}); "
                f"restore {self.finalists.folder} from a copy, or confirm the search under "
                f"another name: --name {self.name}-2"
            )
        if now.reopened not in ("", earlier.reopened):
            raise UserError(
                f"--reopen-test: {self.final.folder} was not begun with it; leave it out, or open "
                f"the test set for another confirmation: --name {self.name}-2"
            )

    def _foreign(self, storage: Storage, config: StudyConfig) -> UserError:
        """For a folder that holds something else than a part of this confirmation."""
        search = getattr(config, "search", "")
        return UserError(
            f"{storage.folder}: holds a {config.kind}"
            + (f" study of the search {search}" if search else "")
            + f", not what confirms {self.folder.name}; choose another --name"
        )

    def _of_search(self) -> dict[str, Any]:
        """The settings that both studies share with the search."""
        config = self.results.study.config
        return {name: getattr(config, name) for name in ("epochs", "dataset", "precision", "seed")}
