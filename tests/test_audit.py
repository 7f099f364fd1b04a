"""The audit of packages: what it found, and what it could not ask, which pip-audit takes for nothing found."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import ROOT, environment, free_port, run

FAULT = {"id": "PYSEC-0000-1", "summary": "A fault", "affected": [{"package": {"name": "flask", "ecosystem": "PyPI"}}]}
NEITHER_NETWORK_NOR_PIP = ("--no-deps", "--disable-pip", "--vulnerability-service=osv")


class Database(ThreadingHTTPServer):
    """Stands in for a database of vulnerabilities that knows one, of Flask."""

    faulty: tuple[str, ...] = ()


class Handler(BaseHTTPRequestHandler):
    server: Database

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = {"vulns": [FAULT]} if asked["package"]["name"] in self.server.faulty else {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())


@contextmanager
def database(*faulty: str) -> Iterator[str]:
    with Database(("127.0.0.1", 0), Handler) as server:
        server.faulty = faulty
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"--osv-url=http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def audit(folder: Path, *options: str, **settings: str) -> tuple[int, str]:
    home = environment(HOME=str(folder), **settings)
    done = run(sys.executable, str(ROOT / ".ci" / "audit.py"), *options, cwd=folder, env=home)
    return done.returncode, done.stdout


def test_a_known_vulnerability_fails(tmp_path: Path) -> None:
    with database("flask") as url:
        status, said = audit(tmp_path, *NEITHER_NETWORK_NOR_PIP, url)
    assert status == 1
    assert "flask 3.1.3: PYSEC-0000-1" in said


def test_packages_without_one_pass_and_are_counted(tmp_path: Path) -> None:
    with database() as url:
        status, said = audit(tmp_path, *NEITHER_NETWORK_NOR_PIP, url)
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert (status, said) == (0, f"{len(pinned)} packages audited\n")


def test_a_database_that_is_away_is_not_taken_for_a_clean_one(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    status, said = audit(tmp_path, *NEITHER_NETWORK_NOR_PIP, f"--osv-url={away}/", AUDIT_PAGES=away)
    assert status == 75
    assert said.startswith("NOT AUDITED")


NOT_FOUND = {"name": "click", "skip_reason": "Dependency not found on PyPI and could not be audited: click (8.5.1)"}
WITHDRAWN = {"id": "PYSEC-0000-2", "fixed_in": [], "withdrawn": "2026-01-01T00:00:00Z"}
HOLDS = {"id": "PYSEC-0000-3", "fixed_in": ["99"], "withdrawn": None}


@pytest.mark.parametrize(
    ("newest", "faults", "status", "last"),
    [
        ("8.5.1", [], 0, "1 packages audited"),
        ("8.5.1", [WITHDRAWN], 0, "1 packages audited"),
        ("8.5.1", [WITHDRAWN, HOLDS], 1, "click 8.5.1: PYSEC-0000-3, mended in 99"),
        ("99", [], 75, "NOT AUDITED, the database of vulnerabilities said nothing of: click"),
        ("8.5.1", None, 75, "NOT AUDITED, the database of vulnerabilities said nothing of: click"),
        ("8.5.1", [{}], 75, "NOT AUDITED, the database of vulnerabilities said nothing of: click"),
    ],
)
def test_a_mirror_is_asked_for_the_page_of_the_project(
    tmp_path: Path, newest: str, faults: list[Any] | None, status: int, last: str
) -> None:
    """It speaks of the newest version alone."""
    page = tmp_path / "click"
    page.mkdir()
    (page / "json").write_text(json.dumps({"info": {"version": newest}, "vulnerabilities": faults}))
    (tmp_path / "pip_audit.py").write_text(f"print({json.dumps({'dependencies': [NOT_FOUND]})!r})")
    ended, said = audit(tmp_path, PYTHONPATH=str(tmp_path), AUDIT_PAGES=tmp_path.as_uri())
    assert ended == status
    assert last in said


def test_who_the_system_trusts_is_trusted(tmp_path: Path) -> None:
    fault = {"version": "1", "vulns": [{"id": "PYSEC-0000-1", "fix_versions": []}]}
    standin = (
        f"import os; print(json.dumps({{'dependencies': [{{'name': os.environ['REQUESTS_CA_BUNDLE'], **{fault}}}]}}))"
    )
    (tmp_path / "pip_audit.py").write_text(f"import json; {standin}")
    trusted = tmp_path / "authorities.pem"
    trusted.touch()
    _, said = audit(tmp_path, PYTHONPATH=str(tmp_path), SSL_CERT_FILE=str(trusted))
    assert said.startswith(f"{trusted} 1: PYSEC-0000-1")


def test_a_package_that_was_skipped_for_another_reason_is_not_asked_about(tmp_path: Path) -> None:
    skipped = {"name": "click", "skip_reason": "could not deduce package version from URL requirement"}
    (tmp_path / "pip_audit.py").write_text(f"print({json.dumps({'dependencies': [skipped]})!r})")
    assert audit(tmp_path, PYTHONPATH=str(tmp_path), AUDIT_PAGES=tmp_path.as_uri())[0] == 75


@pytest.mark.parametrize(("vulns", "status"), [([], 75), ([{"id": "PYSEC-0000-1", "fix_versions": []}], 1)])
def test_a_package_that_was_left_out_is_not_taken_for_a_clean_one(
    tmp_path: Path, vulns: list[Any], status: int
) -> None:
    """pip-audit ends well when an index has no page of vulnerabilities: this is what it prints then."""
    report = {"dependencies": [{"name": "flask", "version": "3.1.3", "vulns": vulns}, NOT_FOUND]}
    (tmp_path / "pip_audit.py").write_text(f"print({json.dumps(report)!r})")
    ended, said = audit(tmp_path, PYTHONPATH=str(tmp_path), AUDIT_PAGES=(tmp_path / "none").as_uri())
    assert ended == status
    assert "NOT AUDITED, the database of vulnerabilities said nothing of: click" in said
