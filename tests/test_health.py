"""Health checks: planted searches that pass, that fail, and that a check does not apply to."""

from __future__ import annotations

import io
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.sections.search import make_section
from study import run
from study.config.search import SearchConfig
from study.config.space import distribution, space_from_json, space_to_json
from study.console.terminal import Terminal
from study.data.images import OPENINGS_FILE
from study.results.health import (
    baseline,
    boundary,
    data,
    idle,
    infeasible,
    noise,
    seeds,
    stopping,
    test_set,
    trials,
    versions,
)
from study.results.health.card import FAIL, NOT_APPLICABLE, PASS, STATUSES, WARN, search_command
from study.results.health.checks import CHECKS, health_of, show_health
from study.results.study_file import StudyFile
from study.results.tables import EPOCH_COLUMNS, StudyResults, as_table, load_study
from study.run import make_parser, new_config
from tests.helpers.compared import study_content
from tests.helpers.studies import ROOT

NOISE = 0.08  # points


def config_of(*argv):
    return new_config(make_parser().parse_args(["--name", "planted", *argv]))


def search_of(config, rows, folder=ROOT / "results" / "planted") -> StudyResults:
    """A search whose trials are `rows`; what they leave out is the paper's, complete and 98%."""
    usual = {
        "status": "complete",
        "model": "cnn",
        "dataset": "mnist",
        "optimizer": "adadelta",
        "batch_size": 512,
        "lr": 1.0,
        "gamma": 0.7,
        "width_mult": 1.0,
        "epochs": 15,
        "epochs_run": 15,
        "steps_run": 1,
        "last_eval_accuracy": 0.98,
        "last_eval_loss": 0.1,
        "device": "a processor",
    }
    table = as_table(
        "trials",
        [
            {**usual, "seed": number, "trial_id": f"trial_{number:05d}", **row}
            for number, row in enumerate(rows)
        ],
    )
    study = StudyFile._from_json(study_content(config))
    return StudyResults(folder, study, table, as_table("epochs", []), as_table("steps", []))


def arguments(command):
    """What follows ``python -m MODULE`` as a shell splits it, with the module."""
    python, dash_m, module, *words = shlex.split(command)
    assert (python, dash_m) == ("python", "-m")
    return module, words


def assert_pastes(card):
    """The command of a card is one that its own parser takes."""
    assert bool(card.next) == (card.status in (WARN, FAIL)), card
    if card.next:
        module, words = arguments(card.next)
        if not (ROOT / f"{module.replace('.', '/')}.py").is_file():
            assert (module, len(words)) == ("study.finalize", 1)  # until that command is here
            return
        args = import_module(module).make_parser().parse_args(words)
        if module == "study.run" and args.resume is None:
            run.check_running_options(args)
            new_config(args)


def judged(check, results):
    card = check(results)
    assert card.status in STATUSES
    assert card.sentence.endswith(".")
    assert_pastes(card)
    return card


# Boundary.


def planted(rng, results, optimum, weights) -> StudyResults:
    """Random search of a paraboloid: places in the space from 0 to 1, those of choices in the
    middle of each value's part, and noise as that of seeds."""
    count = len(results.trials)
    score, columns, space = np.full(count, 99.2), {}, results.study.config.space
    for (name, dist), at, weight in zip(
        space_from_json(space).items(), optimum, weights, strict=True
    ):
        place = rng.random(count)
        if hasattr(dist, "choices"):
            index = (place * len(dist.choices)).astype(int)
            columns[name] = np.array(dist.choices)[index]
            place = (index + 0.5) / len(dist.choices)
        elif dist.log:
            columns[name] = dist.low * (dist.high / dist.low) ** place
        else:
            columns[name] = dist.low + (dist.high - dist.low) * place
        score -= weight * (place - at) ** 2
    columns["last_eval_accuracy"] = (score + rng.normal(0, NOISE, count)) / 100
    used = results.trials[["status", "last_eval_loss"]]  # a narrow table is faster
    return replace(results, trials=used.assign(**columns))


@pytest.mark.parametrize(
    ("status", "optimum", "weights"),
    [
        (PASS, (0.4, 0.6, 0.4, 0.5), (1, 3, 2, 1)),
        (PASS, (0.5, 0.5, 0.5, 0.5), (0, 0, 0, 0)),  # nothing matters
        (WARN, (0.5, 1.5, 0.5, 0.5), (0.5, 2, 0.5, 0.5)),  # larger learning rates are better
        (WARN, (0.5, 0.5, 0.5, 1.5), (0.5, 0.5, 0.5, 1)),  # wider ones
        (WARN, (-0.5, 0.5, 0.5, 0.5), (1, 0.5, 0.5, 0.5)),  # smaller batches
    ],
)
def test_boundary_finds_optima_that_lie_outside_and_no_others(status, optimum, weights):
    results = search_of(config_of(), [{}] * 40)
    rng, count = np.random.default_rng(1), 100
    found = [boundary.check(planted(rng, results, optimum, weights)).status for _ in range(count)]
    assert found.count(status) >= 0.95 * count


def test_boundary_needs_five_complete_trials():
    card = judged(boundary.check, search_of(config_of(), [{}] * 4))
    assert card.status == NOT_APPLICABLE
    assert "4 trials are complete" in card.sentence


@pytest.mark.parametrize(
    ("argv", "row", "wider"),
    [
        (["--width-mult", "0.5", "1", "2"], {"width_mult": 2.0}, {"width_mult": [1, 2, 4]}),
        (["--width-mult", "0.5", "1", "2"], {"width_mult": 0.5}, {"width_mult": [0.25, 0.5, 1]}),
        (["--width-mult", "2", "1", "0.5"], {"width_mult": 2.0}, {"width_mult": [1, 2, 4]}),
        (
            ["--batch-size", "100", "200", "400"],
            {"batch_size": 100},
            {"batch_size": [50, 100, 200]},
        ),
        (["--lr", "0.03", "3"], {"lr": 2.9}, {"lr": [0.03, 9.5]}),
        (["--lr", "0.03", "3"], {"lr": 0.04}, {"lr": [0.0095, 3]}),
        (["--gamma", "0.5", "0.9"], {"gamma": 0.89}, {"gamma": [0.5, 1]}),
        (["--gamma", "0.1", "0.9"], {"gamma": 0.11}, {"gamma": [0.05, 0.9]}),
    ],
)
def test_the_command_moves_the_edge_that_is_pressed(argv, row, wider):
    config = config_of(*argv)
    middle = {"batch_size": 200, "lr": 0.3, "gamma": 0.5, "width_mult": 1.0}
    middle = {n: v for n, v in middle.items() if f"--{n.replace('_', '-')}" in argv[0]}
    card = judged(boundary.check, search_of(config, [{"lr": 0.3, **middle, **row}] * 6))
    assert card.status == WARN
    _, words = arguments(card.next)
    space = new_config(make_parser().parse_args(words)).space
    expected = {n: distribution(n, values) for n, values in wider.items()}
    assert space == {**config.space, **space_to_json(expected)}


@pytest.mark.parametrize(
    ("argv", "row"),
    [
        (["--gamma", "0.5", "1"], {"gamma": 1.0}),  # none is above 1
        (["--width-mult", "1", "2"], {"width_mult": 2.0}),  # the better of two is always an end
        (["--width-mult", "2"], {"width_mult": 2.0}),
        (["--lr", "1"], {}),
        (["--optimizer", "adadelta", "sgd"], {}),
        (["--width-mult", "8", "16", "32"], {"width_mult": 32.0}),  # no wider network is built
    ],
)
def test_an_edge_beyond_which_nothing_can_be_searched_is_none(argv, row):
    results = search_of(config_of(*argv), [{"lr": 0.3, **row}] * 6)
    assert judged(boundary.check, results).status == PASS


# The others: rows, options, status, words.


def several(count, **row):
    return [row] * count


@pytest.mark.parametrize(
    ("check", "argv", "rows", "status", "words"),
    [
        (infeasible, [], [{}] * 19 + several(1, status="failed"), PASS, "5%"),
        (infeasible, [], [{}] * 9 + several(1, status="failed"), WARN, "1 failed (10%)"),
        (infeasible, [], [{}, {"status": "diverged", "lr": 2.0}], FAIL, "1 of 2"),
        (infeasible, [], several(2, status="diverged"), FAIL, "100%"),
        (infeasible, ["--lr", "1"], several(2, status="diverged"), FAIL, "100%"),
        (infeasible, [], several(3, status="interrupted"), NOT_APPLICABLE, "No trial has ended"),
        (noise, [], [{}, {"last_eval_accuracy": 0.97}], PASS, "0 are within 0.22"),
        (noise, [], [{}, {"last_eval_accuracy": 0.979}], WARN, "1 are within 0.22"),
        (noise, [], [{}, {"status": "pruned"}], NOT_APPLICABLE, "no two complete"),
        (seeds, [], [{}] * 5, PASS, "5 seeds"),
        (seeds, [], [{}] * 4, WARN, "4 seeds"),
        (seeds, [], several(5, seed=1), WARN, "one seed"),  # of retried trials
        (seeds, [], several(3, status="failed"), NOT_APPLICABLE, "No trial is complete"),
        (baseline, [], [{}, {"lr": 2.0, "last_eval_accuracy": 0.99}], PASS, "99.00%"),
        (baseline, [], [{}, {"lr": 2.0, "last_eval_accuracy": 0.981}], WARN, "seeds alone"),
        (baseline, [], [{"lr": 2.0}], WARN, "not among the complete"),
        (baseline, [], [{}, {"lr": 2.0, "last_eval_accuracy": 0.97}], FAIL, "No trial is better"),
        (baseline, ["--lr", "2", "3"], [{"lr": 2.0}], NOT_APPLICABLE, "paper's lr"),
        (baseline, ["--optimizer", "sgd"], [{"lr": 0.1}], NOT_APPLICABLE, "paper's"),
        (baseline, ["--dropout-rate", "0", "0.5"], [{}], NOT_APPLICABLE, "dropout"),
        (
            baseline,
            ["--optimizer", "sgd", "adadelta", "--momentum", "0", "0.9"],
            [{}, {"lr": 0.1, "optimizer": "sgd", "momentum": 0.5, "last_eval_accuracy": 0.99}],
            PASS,
            "99.00%",
        ),
        (
            stopping,
            ["--batch-size", "64", "512", "--width-mult", "1", "--gamma", "0.7"],
            [{}, {"batch_size": 64}, {"status": "pruned", "epochs_run": 1}],
            PASS,
            "has a complete trial",
        ),
        (
            stopping,
            [],
            [{}, {"batch_size": 64, "status": "pruned", "epochs_run": 1}],
            WARN,
            "batch 64 (1 stopped, all at the first rung)",
        ),
        (
            stopping,
            [],
            [{}, {"gamma": 0.99, "status": "pruned", "epochs_run": 3}],
            WARN,
            "gamma 0.83 to 1 (1 stopped)",
        ),
        (stopping, [], [{}] * 3, NOT_APPLICABLE, "No trial was stopped"),
        (stopping, ["--scheduler", "none"], [{}], NOT_APPLICABLE, "No trial is stopped"),
        (trials, [], [{}] * 40, PASS, "4 hyperparameters need 40"),
        (trials, [], [{}] * 39, WARN, "need 40"),
        (trials, [], [{}] * 10, FAIL, "10 of them before"),
        (trials, ["--sampler", "gp", "--lr", "1", "--gamma", "1"], [{}] * 20, PASS, "need 20"),
        (trials, ["--sampler", "qmc"], [{}], NOT_APPLICABLE, "qmc"),
        (
            trials,
            ["--lr", "1", "--gamma", "1", "--width-mult", "1", "--batch-size", "64"],
            [{}],
            NOT_APPLICABLE,
            "fixed",
        ),
    ],
)
def test_a_check_of_a_planted_search(check, argv, rows, status, words):
    card = judged(check.check, search_of(config_of(*argv), rows))
    assert (card.status, words in card.sentence) == (status, True), card


def test_lost_trials_are_run_again_or_the_learning_rates_lowered():
    def command(rows, *argv):
        return infeasible.check(search_of(config_of(*argv), rows)).next

    assert command(several(2, status="failed")).endswith("--retry-failed")
    diverged = several(1, status="diverged", lr=3.0)
    assert command([{"lr": 0.5}, *diverged]).endswith("--lr 0.03 0.5")
    assert command(diverged).endswith("--lr 0.003 0.3")
    assert command(diverged, "--lr", "3").endswith("--lr 0.3")


def test_the_test_set_is_sealed_or_not(tmp_path):
    results = search_of(config_of(), [{}], tmp_path)
    assert judged(test_set.check, results).status == PASS
    ranked_on_it = replace(results, study=replace(results.study, evaluated="test"))
    assert judged(test_set.check, ranked_on_it).status == FAIL
    (tmp_path / OPENINGS_FILE).write_text("{}\n")
    once = judged(test_set.check, results)
    assert once.status == PASS
    assert "were opened once: '{}'" in once.sentence
    (tmp_path / OPENINGS_FILE).write_text('{"reason": "a"}\n{"reason": "a"}\n')
    assert judged(test_set.check, results).status == PASS  # a session that went on
    (tmp_path / OPENINGS_FILE).write_text('{"reason": "a"}\n{"reason": "b"}\n')
    assert judged(test_set.check, results).status == WARN


def test_the_images_are_the_original_ones_or_not():
    results = search_of(config_of(), [{}])
    assert judged(data.check, results).status == NOT_APPLICABLE

    def with_sums(sums):
        return replace(results, study=replace(results.study, sha256=sums))

    right = StudyFile.of(config_of(), None, ()).sha256
    assert judged(data.check, with_sums(right)).status == PASS
    wrong = judged(data.check, with_sums({**right, "t10k-labels-idx1-ubyte": 7}))
    assert wrong.status == FAIL
    assert "1 of 4 files" in wrong.sentence
    assert judged(data.check, with_sums({})).status == FAIL


def test_sessions_and_processors_are_the_same_or_not():
    results = search_of(config_of(), [{}] * 2)
    assert judged(versions.check, results).status == PASS
    (session,) = results.study.sessions
    other = replace(session, versions={"ray": ["\x1b[31m" * 99]}, python="3.12.0")
    study = replace(results.study, sessions=(session, other, session))
    card = judged(versions.check, replace(results, study=study))
    assert card.status == WARN
    assert "python '3.11.2' and '3.12.0'" in card.sentence
    assert "\x1b" not in card.sentence
    assert len(card.sentence) < 300
    moved = search_of(config_of(), [{}, {"device": "another"}])
    assert "processor 'a processor' and 'another'" in judged(versions.check, moved).sentence


@pytest.mark.parametrize(
    ("ends", "status", "words"),
    [
        ([10, 20, 10, 20], PASS, "2 at once) trained 100%"),
        ([10, 20, 10, 40], WARN, "trained 50%"),  # one slot waits, and the other pauses
        ([10, 20, 10, 20, 1010, 1020, 1010, 1020], PASS, "100%"),  # in a second session
        ([10, 10, 10], NOT_APPLICABLE, "changed"),
        ([np.nan] * 4, NOT_APPLICABLE, "do not say"),
        ([], NOT_APPLICABLE, "do not say"),
    ],
)
def test_slots_train_or_wait(ends, status, words):
    results = search_of(config_of(), [{}] * 2)
    (session,) = results.study.sessions
    after = datetime.fromtimestamp(session.started_at + 1000, UTC)
    later = replace(session, started=after.isoformat())
    sessions = tuple(replace(each, concurrent_trials=2) for each in (later, session))  # any order
    rows = [
        dict.fromkeys(EPOCH_COLUMNS, 1)
        | {"epoch_seconds": 10.0, "epoch_ended": session.started_at + end}
        for end in ends
    ]
    study = replace(results.study, sessions=sessions)
    card = judged(idle.check, replace(results, study=study, epochs=as_table("epochs", rows)))
    assert card.status == status
    assert words in card.sentence


# All of them.

# What the checks say of results/paper/search. If that search is replaced, or a rule is changed on
# purpose, look at the cards on its page, judge whether they are right, and change this table.
OF_THE_PAPERS_SEARCH = {
    "boundary": (WARN, "lr (on average at 0.87 of its log range) and width (6 of 6 at 2)"),
    "noise": (WARN, "7 are within 0.22 points"),
    "seeds": (WARN, "one seed"),
    "early stopping": (WARN, "batch 32 (2 stopped), width 0.5 (5 stopped, all at the first rung)"),
    "infeasible": (PASS, "0 of 40"),
    "baseline": (PASS, "99.22%, the paper's configuration 98.37%"),
    "trials": (PASS, "40 trials ended"),
    "test set": (PASS, 'opened once: "search-final: final runs of trial_00018'),
    "data": (PASS, "4 files of mnist"),
    "versions": (PASS, "1 session"),
    "idle slots": (PASS, "trained 95%"),
}


def test_the_committed_search():
    cards = {card.name: card for card in health_of(load_study(ROOT / "results/paper/search"))}
    assert {name: card.status for name, card in cards.items()} == {
        name: status for name, (status, _) in OF_THE_PAPERS_SEARCH.items()
    }, "see the comment above OF_THE_PAPERS_SEARCH"
    for name, (_, words) in OF_THE_PAPERS_SEARCH.items():
        assert words in cards[name].sentence
        assert_pastes(cards[name])
    assert cards["boundary"].next == (
        "python -m study.run --num-samples 40 --lr 0.03 9.5 --width-mult 1 2 4"
    )


def test_every_search_gets_every_card(made_up, fruitless):
    nothing = search_of(config_of(), [])
    strange = config_of("--optimizer", "sgd", "adamw", "adadelta", "--weight-decay", "0", "0.1")
    for results in (made_up, fruitless, nothing, search_of(strange, [{}] * 9)):
        assert len({judged(check, results).name for check in CHECKS}) == len(CHECKS)


def test_the_terminal_shows_what_is_wrong_and_each_command_once():
    console = Terminal(file=io.StringIO(), width=80)
    results = load_study(ROOT / "results/paper/search")
    confirm = f"python -m study.finalize {results.path}"
    show_health(console, results, besides=confirm)
    lines = console.file.getvalue().splitlines()
    first = [line.split(":")[0] for line in lines if line.startswith(("WARN", "FAIL"))]
    assert first == ["WARN boundary", "WARN noise", "WARN seeds", "WARN early stopping"]
    commands = [line for line in lines if line.startswith("  python -m ")]
    assert len(commands) == len(set(commands)) == 2
    assert confirm not in console.file.getvalue()  # it is the next command anyway
    assert not [line for line in lines if PASS in line or NOT_APPLICABLE in line]


@pytest.mark.parametrize("stopped", [None, "Ctrl-C"])
def test_a_finished_search_ends_with_its_health(made_up, stopped):
    console = Terminal(file=io.StringIO(), width=80)
    session = SimpleNamespace(
        console=console,
        storage=SimpleNamespace(folder=made_up.path),
        config=made_up.study.config,
        options=SimpleNamespace(address=None),
    )
    outcome = SimpleNamespace(
        ended=8, planned=9, seconds=1.0, stopped=stopped, counts={"failed": 0}, all_failed=False
    )
    run.show_outcome(session, outcome, made_up.study.config)
    text = console.file.getvalue()
    assert ("WARN infeasible: 1 of 8 trials diverged and 1 failed (25%)." in text) == (not stopped)
    assert stopped or text.index("Best") < text.index("WARN") < text.index("Tables in")


def test_the_page_shows_every_card(made_up):
    assert make_section(made_up, "").cards == health_of(made_up)


def test_a_folder_with_any_name_gives_a_command_that_can_be_pasted(tmp_path):
    folder = tmp_path / "it's; $(touch x) `y`"
    results = search_of(config_of(), several(3, status="failed"), folder)
    assert arguments(infeasible.check(results).next)[1] == [
        "--resume",
        str(folder),
        "--retry-failed",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--num-samples", "7", "--epochs", "3", "--seed", "5", "--sampler", "qmc"],
        ["--model", "resnet18", "--dataset", "fashion-mnist", "--precision", "fp32"],
        ["--optimizer", "sgd", "--momentum", "0.5", "0.95", "--weight-decay", "1e-05", "0.1"],
        ["--optimizer", "adamw", "sgd", "--gamma", "0.30000000000000004", "1"],
        ["--lr", "0.1", "--batch-size", "64", "--width-mult", "0.75", "3", "--scheduler", "none"],
    ],
)
def test_the_command_of_a_new_search_asks_for_the_same(argv):
    config = config_of(*argv)
    module, words = arguments(search_command(search_of(config, [])))
    assert module == SearchConfig.module
    again = new_config(make_parser().parse_args([*words, "--name", config.name]))
    assert again == config
