"""Prepares the folder of a page. It overwrites nothing but an earlier page."""

from __future__ import annotations

import os
from pathlib import Path

from study.console.errors import UserError
from study.data.images import OPENINGS_FILE
from study.files import open_plain, replacing

GENERATOR = '<meta name="generator" content="mnist-study">'
# The first pages had no generator tag. This heading identifies them.
MARKS = (GENERATOR, '<h2 id="made-title">How it was made</h2>')
FILES = ("report.html", "report.md", "ledger.csv", OPENINGS_FILE)
FOLDERS = ("figures", "tables")
UNFINISHED = f"<!DOCTYPE html>{GENERATOR}<title>Unfinished page</title>Run the command again.\n"


def prepare(folder: Path, *, follow: bool) -> None:
    """Make the folder of a page, or check that the folder holds only an earlier page.

    Args:
        folder: The folder to make.
        follow: Whether `folder` itself may be a link. It may if the user named it.

    Raises:
        UserError: It holds a link, or a file in the way that this command did not write.
        OSError: It cannot be written.
    """
    ours = [folder / name for name in (*FILES, *FOLDERS)]
    inside = [path for name in FOLDERS for path in (folder / name).glob("*")]
    for path in [*ours, *inside, *([] if follow else [folder])]:
        if path.is_symlink():
            raise UserError(
                f"{path}: is a link to another place; remove it or choose another --output"
            )
    if not _is_report(folder / "report.html"):
        for path in ours:
            if os.path.lexists(path):
                raise UserError(f"{path}: not written by this command; choose another --output")
    for path in ours:
        fits = path.is_dir() if path.name in FOLDERS else path.is_file()
        if path.exists() and not fits:
            raise UserError(f"{path}: not written by this command; choose another --output")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not (folder / "report.html").exists():
        # If the command is killed from here on, it can be run again.
        with replacing(folder / "report.html") as file:
            file.write(UNFINISHED.encode())


def _is_report(page: Path) -> bool:
    try:
        with open_plain(page) as file:
            content = file.read()
    except (OSError, UserError):
        return False
    return any(mark.encode() in content for mark in MARKS)
