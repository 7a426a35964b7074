"""Confirms a search in two studies beside it: its finalists, then the final runs.

Which of them to begin, to continue or to leave follows from what is on the disk. So the same
command goes on after a stop or a crash at any moment.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from study.config.finalists import (
    BUDGET,
    CHOSEN,
    FINALISTS,
    PAPER,
    FinalConfig,
    FinalistsConfig,
)
from study.config.hyperparameters import NUM_TRAIN_EXAMPLES
from study.config.study import StudyConfig
from study.config.trial import NUM_TRAINING_IMAGES, TrialConfig
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.console.text import command_line, format_duration, shown
from study.data.images import OPENINGS_FILE, openings
from study.results.confirmation import Choice, choice
from study.results.halving import next_seeds, rounds, sizes
from study.results.history import ENDS
from study.results.lock import locked
from study.results.storage import Storage
from study.results.study_file import STUDY_FILE, StudyFile
from study.results.tables import StudyResults, load_study
from study.results.trials import arm_settings, rank_trials
from study.training_commands import run_options

if TYPE_CHECKING:
    import pandas as pd

MODELS = "models"  # in the folder of the final runs


def candidates(results: StudyResults) -> dict[str, dict[str, Any]]:
    """The arms of the finalists: the search's best configurations, and the paper's."""
    trials, config = results.trials, results.study.config
    paper = {"model": trials["model"].iloc[0]}
    found: dict[TrialConfig, tuple[str, dict[str, Any]]] = {}
    for row in rank_trials(trials[trials["status"] == "complete"]).to_dict("records"):
        settings = arm_settings(row)
        found.setdefault(TrialConfig(**settings), (row["trial_id"], settings))
    arms = dict(list(found.values())[:FINALISTS])
    as_paper = TrialConfig(**paper)
    arms = {arm: s for arm, s in arms.items() if TrialConfig(**s) != as_paper}
    if not arms:
        raise UserError(f"{results.path}: all complete trials of {config.name} are the paper's")
    return {**arms, PAPER: paper}


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
        folder = search.folder
        self.folder = folder if folder.name not in ("", "..") else folder.resolve()
        self.name = args.name or self.folder.name
        self.budget = args.budget or BUDGET
        self.replicates = args.replicates or FinalistsConfig.replicates
        self.console = Terminal()
        self.options = run_options(args)
        self.finalists, self.final = self._place("finalists"), self._place("final")
        self.deadline = args.time_budget and time.monotonic() + args.time_budget

    def run(self) -> tuple[Choice, StudyResults] | int:
        """Run what is left.

        Returns:
            The choice and the final runs; the exit status if it was stopped before the end.
        """
        if not any((s.folder / STUDY_FILE).exists() for s in (self.finalists, self.final)):
            self.check_opening("")  # before hours are spent
        self.console.print(self.plan(), soft_wrap=True)
        stopped = self.advance(self.finalists, self.next_finalists)
        if stopped is not None:
            return stopped
        chosen = choice(load_study(self.finalists.folder))
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

    def _place(self, kind: str) -> Storage:
        """The files of one of the two studies, beside the search's."""
        name, uri = f"{self.name}-{kind}", self.search.uri
        return Storage(self.folder.with_name(name), uri and f"{uri.rpartition('/')[0]}/{name}")

    def check_opening(self, reason: str) -> None:
        """Raise `UserError` if the test set was opened for another reason, unless that is wanted.

        Args:
            reason: Of the final runs to come; empty as long as nothing is chosen.
        """
        record = self.search.folder / OPENINGS_FILE
        others = [why for why in openings(record) if why != reason]
        if others and not self.args.reopen_test:
            raise UserError(
                f"{record}: the test set was opened before ({shown(others[-1], 200)}). Choosing "
                "again after that makes its numbers too good. If it must be: --reopen-test WHY"
            )

    def plan(self) -> str:
        """What will run, and about how long it takes."""
        trials = self.results.trials
        arms = len(candidates(self.results))
        of_each = trials.loc[trials["status"] == "complete", "seconds"].mean()
        slots = self.args.max_concurrent or self.results.study.sessions[-1].concurrent_trials
        larger = NUM_TRAINING_IMAGES / NUM_TRAIN_EXAMPLES  # the final runs train on all images
        seconds = of_each * (self.budget + larger * 2 * self.replicates) / max(slots, 1)
        return (
            f"Confirming {self.name}: {arms} configurations, {self.budget} runs; then "
            f"{self.replicates} seeds of the chosen one and of the paper's on the test images. At "
            f"the search's speed that takes about {format_duration(seconds)}."
        )

    def advance(
        self, storage: Storage, next_config: Callable[[StudyConfig | None], StudyConfig | None]
    ) -> int | None:
        """Run sessions of a study until `next_config` returns None.

        Returns:
            The exit status if a session was stopped or no run has a result, else None.
        """
        from study.search.session import Session

        retried = False
        while True:
            with begun(storage) as earlier:
                config = next_config(earlier)
                retry = not retried and earlier is not None and failed_for_now(storage, earlier)
                if retry:  # once, before anything is decided: the cause may be gone
                    config, retried = earlier, True
                if config is None:
                    return None
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
        given = [word for name, value in options.items() if value for word in (name, value)]
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
            return FinalistsConfig(
                name=f"{self.name}-finalists",
                title=f"Which configuration of {search.name} is best?",
                arms=arms,
                search=self.folder.name,
                budget=self.budget,
                replicates=self.replicates,
                seeds=dict.fromkeys(arms, rounds(len(arms), self.budget)[0][1]),
                **self._of_search(),
            )
        assert isinstance(earlier, FinalistsConfig)
        self._check_unchanged(earlier, arms)
        if (trials := ended_trials(self.finalists, earlier)) is None:
            return earlier
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
        if earlier.arms != arms:
            raise UserError(
                f"{earlier.name}: holds other finalists; {self.results.path} has changed since. "
                f"Confirm it under another name: --name {self.name}-2"
            )
        for option in ("budget", "replicates"):
            if getattr(self.args, option) not in (None, begun_with := getattr(earlier, option)):
                raise UserError(
                    f"--{option}: {earlier.name} was begun with {begun_with}; leave the option out"
                )

    def next_final(self, earlier: StudyConfig | None, chosen: Choice) -> StudyConfig | None:
        """The final runs as they are to be run now; None once all have ended."""
        if earlier is not None:
            return earlier if ended_trials(self.final, earlier) is None else None
        search = self.results.study.config
        finalists = StudyFile.read(self.finalists.folder).config
        assert isinstance(finalists, FinalistsConfig)
        paper = {PAPER: candidates(self.results)[PAPER]}
        why = f" ({self.args.reopen_test})" if self.args.reopen_test else ""
        config = FinalConfig(
            name=self.final.folder.name,
            title=f"{chosen.arm} of {search.name} against the paper's configuration{why}",
            arms=paper if chosen.arm == PAPER else {CHOSEN: chosen.settings, **paper},
            search=self.folder.name,
            replicates=finalists.replicates,
            **self._of_search(),
        )
        self.check_opening(config.opening_reason)
        return config

    def _of_search(self) -> dict[str, Any]:
        """The settings that both studies share with the search."""
        config = self.results.study.config
        return {name: getattr(config, name) for name in ("epochs", "dataset", "precision", "seed")}


@contextmanager
def begun(storage: Storage) -> Iterator[StudyConfig | None]:
    """The configuration of a study, which is locked meanwhile; None if there is none yet."""
    stored = storage.uri and storage.has_study()
    if not stored and not (storage.folder / STUDY_FILE).exists():
        yield None
        return
    with locked(storage.folder, resume=True):
        if stored:
            storage.pull()
        yield StudyFile.read(storage.folder).config


def ended_trials(storage: Storage, config: StudyConfig) -> pd.DataFrame | None:
    """Table ``trials`` of a study; None if not all trials have ended, or it is not written yet."""
    if not (storage.folder / "trials.parquet").exists():
        return None
    trials = load_study(storage.folder).trials
    all_ended = len(trials) >= config.num_trials and trials["status"].isin(ENDS).all()
    return trials if all_ended else None


def failed_for_now(storage: Storage, config: StudyConfig) -> bool:
    """Whether all trials have ended and a run that failed was not yet run again."""
    trials = ended_trials(storage, config)
    if trials is None:
        return False
    runs = trials.groupby(["arm", "replicate"])["status"]
    return bool(((runs.count() == 1) & runs.apply(lambda s: s.eq("failed").all())).any())
