"""The code of earlier releases, from the history of the project."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from zipfile import ZipFile

from tests.support.programs import ROOT

VERSIONS = ROOT / "migrations" / "versions"
# The last commit before each migration, or before several that came together. A new one needs its line.
CODE_BEFORE = {("0002",): "2cfc4da^", ("0003", "0004", "0005"): "32b9b93^", ("0006", "0007"): "e3c774e^"}
PARTS = ("todo_api", "migrations", "wsgi.py", "gunicorn.conf.py")
MISSING = "There is no code of earlier releases: clone the whole history, or run git fetch --unshallow"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def has_history() -> bool:
    """Return whether the old code is there: an export or a shallow clone lacks it."""
    try:
        for commit in CODE_BEFORE.values():
            git("cat-file", "-e", commit)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def code_of(commit: str) -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="todo-release-"))
    with ZipFile(BytesIO(git("archive", "--format=zip", commit, *PARTS))) as archive:
        archive.extractall(folder)
    yield folder
    shutil.rmtree(folder)
