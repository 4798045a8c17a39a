"""Run the tests as jobs, as many at a time as there are processors: ``python -m tests.tools.suite all``.

A job is one process with a deadline: lint, the unit tests, or pytest in a guest of its own. A directory below
tests/kernel, tests/sanity or tests/faults is one job, and a file that says ``GUEST = ["--udev", …]`` (options of
tests.guest) is a job by itself, in a guest made so. Tests that boot guests themselves (tests/guest, tests/faults/crash)
and those that need none (tests/faults/parsers) run here, and so do those of the chart, and those of a cluster, which
share it. ROUNDS and SEED are handed on to the faults.
"""

import argparse
import ast
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import FrameType
from typing import Final, NoReturn

from tests.guest.machine import ROOT

_GUEST_OPTIONS: Final = ("--memory", "1024", "--disk", "8G", "--disk", "8G")
_GUEST_LIMIT: Final = 1800.0
_HOST_LIMIT: Final = 1200.0
_CLUSTER_LIMIT: Final = 3900.0
_FAULTS: Final = "tests/faults"
_FAULTS_ON_HOST: Final = (f"{_FAULTS}/crash", f"{_FAULTS}/parsers")
_TOLD: Final = "| "
"""How a line of a test begins that is shown also when it has passed (tests.faults.rounds)."""
_GRACE: Final = 60.0
"""What a guest may need beyond its deadline to be cleaned away."""


@dataclass(frozen=True)
class Job:
    """One process to run: its name for people, its arguments, its deadline in seconds."""

    name: str
    argv: tuple[str, ...]
    limit: float


class Suite:
    """Runs jobs, shows what failed, and keeps count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._failed: list[str] = []
        self._ending = False

    def run(self, jobs: Sequence[Job]) -> bool:
        """Run ``jobs`` and tell whether all of them succeeded. Output of a single job is shown as it comes."""
        begun = time.monotonic()
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
            try:
                list(pool.map(self._one if len(jobs) > 1 else self._live, jobs))
            except BaseException:
                # Before the threads are waited for, which wait for the jobs.
                self.end()
                raise
        outcome = f"FAILED: {', '.join(self._failed)}" if self._failed else "passed"
        print(
            f"\n{len(jobs)} jobs in {time.monotonic() - begun:.0f} s, {len(self._failed)} failed: {outcome}", flush=True
        )
        return not self._failed

    def end(self) -> None:
        """Ask everything that runs to end; guests go with their harness."""
        with self._lock:
            self._ending = True
            for process in self._running:
                process.terminate()

    def _live(self, job: Job) -> None:
        begun = time.monotonic()
        self._report(job, self._status(job, None), time.monotonic() - begun, "", "")

    def _one(self, job: Job) -> None:
        begun = time.monotonic()
        with tempfile.TemporaryFile() as output:
            print(f"begin {job.name}", flush=True)
            status = self._status(job, output.fileno())
            output.seek(0)
            text = output.read().decode(errors="replace")
        last = next((line.strip(" =") for line in reversed(text.splitlines()) if line.strip()), "")
        self._report(job, status, time.monotonic() - begun, text, last)

    def _status(self, job: Job, output: int | None) -> int | None:
        """Return the job's exit status, None at its deadline."""
        with self._lock:
            if self._ending:
                return None
            process = subprocess.Popen(job.argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            self._running.add(process)
        try:
            return process.wait(job.limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            return None
        finally:
            process.kill()
            process.wait()
            with self._lock:
                self._running.discard(process)

    def _report(self, job: Job, status: int | None, seconds: float, text: str, last: str) -> None:
        with self._lock:
            if status == 0:
                print(f"ok    {job.name} ({seconds:.0f} s) {last[:160]}", flush=True)
                told = (line.lstrip(".") for line in text.splitlines())
                print("".join(f"      {line}\n" for line in told if line.startswith(_TOLD)), end="", flush=True)
                return
            self._failed.append(job.name)
            why = "ran out of time" if status is None else f"exit status {status}"
            print(f"{text}\nFAIL  {job.name} ({seconds:.0f} s): {why}", flush=True)


def jobs_below(
    directory: str, *, host: bool, environment: Iterable[str] = (), limit: float = _GUEST_LIMIT
) -> list[Job]:
    """Return the jobs of a directory (or one file) of tests that need a kernel of their own."""
    shared: dict[str, list[str]] = {}
    jobs = []
    for path in _test_files(directory):
        options = _guest_options(path)
        if options is None:
            shared.setdefault(os.path.dirname(path), []).append(path)
        else:
            jobs.append(_guest_job(path, [path], options, host=host, environment=environment, limit=limit))
    return jobs + [
        _guest_job(name, files, (), host=host, environment=environment, limit=limit) for name, files in shared.items()
    ]


def _test_files(start: str) -> list[str]:
    if os.path.isfile(os.path.join(ROOT, start)):
        return [start]
    found = (
        os.path.relpath(os.path.join(parent, name), ROOT)
        for parent, _, names in os.walk(os.path.join(ROOT, start))
        for name in names
        if name.startswith("test_") and name.endswith(".py")
    )
    return sorted(found)


def _guest_options(path: str) -> tuple[str, ...] | None:
    """Read ``GUEST = [...]`` from a file without running it."""
    with open(os.path.join(ROOT, path)) as file:
        tree = ast.parse(file.read(), path)
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="GUEST")], value=value)
                | ast.AnnAssign(target=ast.Name(id="GUEST"), value=ast.expr() as value)
            ):
                return tuple(ast.literal_eval(value))
    return None


def _guest_job(
    name: str, files: Sequence[str], options: Sequence[str], *, host: bool, environment: Iterable[str], limit: float
) -> Job:
    argv = (
        *(sys.executable, "-m", "tests.guest", *(["--host"] if host else []), *_GUEST_OPTIONS),
        *("--timeout", str(limit), *options, *(f"--env={pair}" for pair in environment), "--"),
        *(sys.executable, "-m", "pytest", *files),
    )
    return Job(name.removeprefix("tests/"), argv, limit + _GRACE)


def _pytest(*paths: str, limit: float = _HOST_LIMIT) -> Job:
    name = " ".join(path for path in paths if not path.startswith("-"))
    return Job(name.replace("tests/", ""), (sys.executable, "-m", "pytest", *paths), limit)


def _built(what: str) -> str:
    """Build what is missing, and return where it is."""
    setup = os.path.join(ROOT, "tests/tools/setup")
    done = subprocess.run([setup, what], stdout=subprocess.PIPE, text=True, check=True, timeout=1200)
    return done.stdout.strip()


def _chart(paths: Sequence[str]) -> Job:
    job = _pytest(*(paths or ["tests/chart"]))
    return replace(job, argv=("env", f"HELM={_built('helm')}", *job.argv))


def _sanity(paths: Sequence[str], *, host: bool) -> list[Job]:
    binary = _built("sanity")
    return [
        job
        for path in paths or ["tests/sanity"]
        for job in jobs_below(path, host=host, environment=[f"CSI_SANITY={binary}"])
    ]


def _faults(paths: Sequence[str], *, host: bool) -> list[Job]:
    handed_on = [name for name in ("ROUNDS", "SEED") if name in os.environ]
    limit = _HOST_LIMIT * int(os.environ.get("ROUNDS") or 1)
    jobs = []
    with os.scandir(os.path.join(ROOT, _FAULTS)) as entries:
        directories = sorted(f"{_FAULTS}/{entry.name}" for entry in entries if entry.is_dir())
    for path in paths or directories:
        if path.startswith(_FAULTS_ON_HOST):
            jobs.append(_pytest(path, limit=limit))
        elif _test_files(path):
            jobs += jobs_below(path, host=host, environment=handed_on, limit=limit)
    # They say their seeds and what they count.
    return [replace(job, argv=(*job.argv, "-s", "-q")) for job in jobs]


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Parse the command line, run, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("all", "kernel", "sanity", "cluster", "chart", "faults"))
    parser.add_argument("paths", nargs="*", help="files or directories; all when none is given")
    parser.add_argument("--host", action="store_true", help="on this machine's own kernel instead of in guests")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    jobs: list[Job] = []
    if options.what in {"all", "sanity"}:
        jobs += _sanity(options.paths, host=options.host)
    if options.what in {"all", "kernel"}:
        for path in options.paths or ["tests/kernel"]:
            jobs += jobs_below(path, host=options.host)
    if options.what in {"all", "chart"}:
        jobs.append(_chart(options.paths))
    if options.what == "cluster":
        jobs.append(_pytest(*(options.paths or ["tests/cluster"]), "--durations=20", limit=_CLUSTER_LIMIT))
    if options.what == "faults":
        jobs += _faults(options.paths, host=options.host)
    if options.what == "all":
        lint = Job("lint", ("make", "--no-print-directory", "lint"), _HOST_LIMIT)
        jobs = [lint, _pytest("tests/unit"), _pytest("tests/guest"), *jobs]
    if not jobs:
        print("no tests found", file=sys.stderr)
        return 5
    return 0 if Suite().run(jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
