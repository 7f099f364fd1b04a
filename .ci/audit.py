"""Look for known vulnerabilities in the packages that production installs, as PyPI knows them; options go to pip-audit.

Exits 0 when all packages were asked about and none has any, 1 when one has, 75 when not all could be asked about:
pip-audit itself says of those that nothing was found.
"""

import json
import os
import re
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path
from ssl import get_default_verify_paths
from typing import Any
from urllib.request import urlopen

from pip._internal.models.index import PyPI

COMMAND = ("-m", "pip_audit", "--requirement=requirements.txt", "--format=json", "--progress-spinner=off")
CLEAN, FOUND, UNASKED = 0, 1, 75
PAGES = os.environ.get("AUDIT_PAGES", PyPI.pypi_url)
SECONDS = 20
NO_PAGE = re.compile(r"^Dependency not found on PyPI .* \((\S+)\)$")  # pip-audit's words, with the version


def asked_again(package: dict[str, Any]) -> dict[str, Any]:
    """Ask for the page of a project, which speaks of its latest version: a mirror may have none of each version."""
    skipped = NO_PAGE.search(package.get("skip_reason", ""))
    if not skipped:
        return package
    try:
        with urlopen(f"{PAGES}/{package['name']}/json", timeout=SECONDS) as answer:  # noqa: S310 an address of pip's or the operator's
            page = json.load(answer)
        if page["info"]["version"] != skipped[1]:
            return package
        known = [fault for fault in page["vulnerabilities"] if not fault["withdrawn"]]
        vulns = [{"id": fault["id"], "fix_versions": fault["fixed_in"]} for fault in known]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):  # no page, or none as PyPI has them
        return package
    return {"name": package["name"], "version": skipped[1], "vulns": vulns}


def judge(packages: list[dict[str, Any]]) -> int:
    packages = [asked_again(package) for package in packages]
    unasked = [package["name"] for package in packages if "vulns" not in package]
    found = [package for package in packages if package.get("vulns")]
    for package in found:
        for fault in package["vulns"]:
            better = ", ".join(fault["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {fault['id']}, mended in {better}")
    if unasked or not packages:
        print(f"NOT AUDITED, the database of vulnerabilities said nothing of: {', '.join(unasked) or 'any package'}")
    else:
        print(f"{len(packages)} packages audited")
    return FOUND if found else UNASKED if unasked or not packages else CLEAN


def main() -> int:
    project = Path(__file__).parent.parent
    env = {**os.environ}
    system = get_default_verify_paths().cafile
    if system and "CURL_CA_BUNDLE" not in env:  # newer pip trusts it, too: a company's proxy may sign for the index
        env.setdefault("REQUESTS_CA_BUNDLE", system)
    command = [sys.executable, *COMMAND, *sys.argv[1:]]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, check=False)
    try:
        return judge(json.loads(done.stdout)["dependencies"])
    except ValueError:
        sys.stderr.buffer.write(done.stderr[-2000:])
        return judge([])


if __name__ == "__main__":
    sys.exit(main())
