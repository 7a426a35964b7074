"""Write the report page of searches and comparisons: ``python -m analysis.report results/NAME``."""

from __future__ import annotations

import os

if __name__ == "__main__":
    # This must be set before NumPy is loaded. The page needs many tiny fits, and OpenBLAS's
    # threads would spend a third of the processor time waiting for the next one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import base64
import html
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import comparison_frames as frames
from analysis import output, paper
from analysis.evidence import Evidence, load_evidence
from analysis.ledger import as_frame, ledger
from analysis.page import gaps, headline, lead, make_sections, title_of
from analysis.parts import Exhibit, slug
from analysis.render import write, write_csv
from analysis.sections.sources import sources
from analysis.verdicts import VERDICTS
from study.cli import Parser, guarded, place
from study.config.questions import BATCH_SIZE
from study.console.errors import UserError
from study.console.terminal import Terminal
from study.data.images import OPENINGS_FILE, load_splits, open_test_set
from study.data.sources import default_data_dir
from study.files import replacing

EPILOG = f"""examples:
  python -m analysis.report results/NAME
      one search or comparison; writes results/NAME/report/report.html
  python -m analysis.report results/batch-size results/models --output report
      several on one page

The paper is "{paper.TITLE}" by {paper.AUTHOR}.
Its claims are judged if the results include a comparison that they are about.

report.html needs no other file. Beside it are report.md, each figure as PNG, SVG and CSV, each
table as CSV and, if claims are judged, ledger.csv. The command also works on a running study,
with the tables written so far.
"""


@dataclass(frozen=True)
class Shown:
    """A figure as the page shows it.

    Attributes:
        exhibit: The figure.
        svg: Its drawing.
        csv: A link that contains its numbers.
    """

    exhibit: Exhibit
    svg: str
    csv: str


def load_images(evidence: Evidence, data_dir: Path, record: Path) -> dict[int, np.ndarray]:
    """The images that the batch-size comparison evaluated, by their index in the file.

    Opening the test images is recorded. The result is empty if there is no such comparison or no
    source provides the files. The page then has no example pictures.
    """
    compared = evidence.get(BATCH_SIZE)
    if compared is None or compared.predictions.empty:
        return {}
    dataset = compared.config.dataset
    try:
        if compared.images == "test":
            reason = "analysis.report: pictures of examples"
            data = open_test_set(dataset, data_dir, record=record, reason=reason)
        else:
            data = load_splits(dataset, data_dir, compared.num_train)[1]
    except UserError as error:
        Terminal(stderr=True).print(f"No example pictures: {error}", soft_wrap=True)
        return {}
    index = range(len(data)) if data.index is None else data.index.tolist()
    return dict(zip(index, data.images, strict=True))


def write_report(
    evidence: Evidence, folder: Path, data_dir: Path, begin: Callable[[str], None]
) -> Path:
    """Write the page, its figures and its numbers into a prepared folder.

    Args:
        evidence: What the page is made from.
        folder: The prepared folder.
        data_dir: The folder of the images.
        begin: Called before each step, with its number and description.

    Returns:
        The page, ``report.html``.
    """
    begin("2 of 5: smoothing the losses")
    top = headline(evidence)
    begin("3 of 5: checking the claims")
    findings = ledger(evidence) if evidence.judges_claims else []
    begin("4 of 5: computing the figures")
    images = load_images(evidence, data_dir, folder / OPENINGS_FILE)
    sections = make_sections(evidence, images)
    made_from = sources(evidence)

    drawn = {}
    made = [*([top] if top else []), *(e for s in sections for e in s.exhibits)]
    for number, exhibit in enumerate(made, 1):
        begin(f"5 of 5: drawing figure {number} of {len(made)}")
        svg = write(exhibit, folder / "figures")
        drawn[exhibit.name] = Shown(exhibit, svg, data_link(exhibit.frame))
    tables = {table.name: table for table in [made_from, *(t for s in sections for t in s.tables)]}
    for table in tables.values():
        write_csv(table.frame, folder / "tables" / f"{table.name}.csv")
    if findings:
        write_csv(as_frame(findings), folder / "ledger.csv")
    counts = Counter(finding.verdict for finding in findings)
    context = {
        "title": title_of(evidence),
        "lead": lead(evidence),
        "headline": drawn[top.name] if top else None,
        "findings": findings,
        "statements": paper.STATEMENTS,
        "counts": {v: counts[v] for v in VERDICTS if v in counts},
        "sections": sections,
        "drawn": drawn,
        "tables": tables,
        "gaps": gaps(evidence),
        "sources": made_from,
        "ledger_csv": data_link(as_frame(findings)) if findings else "",
        "margin": frames.MARGIN,
        "paper": paper,
    }
    for name in ("report.html", "report.md"):
        with replacing(folder / name) as file:
            file.write(render(name, context).encode())
    return folder / "report.html"


def data_link(frame: pd.DataFrame) -> str:
    """A link that contains the whole table, so that the page needs no other file."""
    content = frame.to_csv(index=False).encode()
    return f"data:text/csv;base64,{base64.b64encode(content).decode()}"


def render(name: str, context: Mapping[str, object]) -> str:
    """The template `name`, filled in from `context`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(slug=slug, link=data_link, generator=Markup(output.GENERATOR))
    environment.filters["md"] = markdown
    return environment.get_template(f"{name}.j2").render(**context)


def markdown(text: object) -> str:
    """`text`, escaped so that a line or cell of Markdown shows it literally."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)|^[#+-]", r"\\\g<0>", plain)


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m analysis.report",
        description="Write a page about searches and comparisons: figures, tables, and a verdict "
        "on each claim of the paper behind this project.",
        epilog=EPILOG,
    )
    parser.add_argument("results", type=place, nargs="+", help="folders such as results/NAME")
    parser.add_argument(
        "--output",
        type=place,
        metavar="DIR",
        help="folder of the page (default: results/NAME/report for one folder, else report)",
    )
    parser.add_argument(
        "--data-dir",
        type=place,
        metavar="DIR",
        default=default_data_dir(),
        help="folder of the images, for example pictures (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    mpl.use("agg")
    one = args.results[0] / "report" if len(args.results) == 1 else Path("report")
    folder = args.output or one
    console = Terminal()
    with console.status("Step 1 of 5: reading the results …") as status:
        evidence = load_evidence(args.results)
        try:
            output.prepare(folder, follow=args.output is not None)
            page = write_report(
                evidence, folder, args.data_dir, lambda step: status.update(f"Step {step} …")
            )
        except OSError as error:
            raise UserError(
                f"{folder}: cannot be written ({error.strerror}); choose another --output"
            ) from None
    console.print(f"Wrote {page}, and its figures and numbers beside it.", soft_wrap=True)
    for title, command in gaps(evidence).items():
        console.print(f"Missing from the page: {title}. To add it, run: {command}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
