"""`medssl doctor`: check a machine before a training."""

import json
import platform
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from medssl import __version__, plugins
from medssl.data.store import EXPECTED_REASONS
from medssl.doctor import packages as installed
from medssl.doctor.check_result import CheckResult, make_result
from medssl.errors import UserError
from medssl.types import Reporter

CHECKS = ("software", "gpu", "machine", "folders", "decoders", "clock", "tracking", "offline")
_TIMEOUT_SECONDS = 120.0  # a first import of torch from a slow drive takes most of a minute
_CHECK_FAILED = "The other checks do not depend on it. Tell the maintainers, with this line."


class Doctor(Reporter, Protocol):
    """A reporter that can also show the results of checks."""

    def verdict(self, level: str, name: str, text: str) -> None:
        """A line of the report."""
        ...


def doctor(console: Doctor, *, data: str | None = None, burn_in: int | None = None, as_json: bool = False) -> bool:
    """Run the checks and show their results. Returns whether there was no error. Changes nothing except the cache, if `data` is read.

    `as_json`: print only one JSON document. `burn_in`: seconds of training on each device.
    """
    document: dict[str, Any] = {"medssl": __version__, "python": platform.python_version(), "system": platform.platform()}
    report = _CheckReport(None if as_json else console)
    report.say(f"medssl {__version__}, Python {document['python']}, {document['system']}")
    for name in CHECKS:
        report.heading(name)
        report.add(run_check(name))
    if data is not None:
        report.heading("data")
        document["audit"], results = audit_data(data, report)
        report.add(results)
    if burn_in is not None:
        from medssl.doctor import benchmark as benchmark_module

        report.heading("burn-in")
        document["burn_in"] = []
        for measured, results in benchmark_module.burn_in(_ProgressOnly(report), burn_in):
            report.add(results)
            document["burn_in"] += [{**asdict(measured), "entry": measured.entry()}] if measured else []
    if as_json:
        packages = [{"name": p.name, "version": p.version} for p in installed.packages().values() if p]
        console.say(json.dumps({**document, "findings": [asdict(item) for item in report.results], "packages": packages}))
    levels = [item.level for item in report.results]
    report.say("")
    report.say(f"{levels.count('ok')} ok, {levels.count('warning')} warnings, {levels.count('error')} errors")
    return "error" not in levels


def run_check(name: str, seconds: float = _TIMEOUT_SECONDS) -> list[CheckResult]:
    """The results of the check in checks/`name`.py. A check that raises an error, or runs longer than `seconds` (a drive that does not
    answer), is a result with an error."""
    results: list[CheckResult] = []

    def work() -> None:
        try:
            for item in plugins.find("doctor.checks", name).check():
                results.append(item)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            results.append(make_result(name, f"the check itself failed: {type(error).__name__}: {first}", error=_CHECK_FAILED))

    thread = threading.Thread(target=work, daemon=True, name=f"check {name}")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        remedy = "A drive, a driver or a server does not answer: find out which, and repair it."
        return [*results, make_result(name, f"not done after {seconds:g} s", error=remedy)]
    return results


def audit_data(data: str, reporter: Reporter) -> tuple[dict[str, Any] | None, list[CheckResult]]:
    """The audit of `medssl prepare`, shown through `reporter`, and its results. A store has its audit already. The audit is None if the
    data cannot be read."""
    from medssl.commands import prepare
    from medssl.data.detect import detect
    from medssl.data.store import Store
    from medssl.runs.command_line import pretrain_after_prepare

    try:
        if detect(data) == "store":
            store = Store.open(Path(data).expanduser())
            prepare.report_audit(store, reporter)
            reporter.say(f"next      {pretrain_after_prepare(data, None, None, ())}")
        else:
            folder = prepare.prepare(reporter, data=data)
            assert folder is not None, "only a shard makes none"
            store = Store.open(folder)
        audit = json.loads((store.path / "audit.json").read_text("utf-8"))
    except (UserError, OSError) as error:
        first, _, remedy = str(error).partition(". ")
        return None, [make_result("images", first, error=remedy or "See the line above.")]
    images = audit["images"]
    faults = {reason: number for reason, number in images["skipped"].items() if reason not in EXPECTED_REASONS}
    seen = f"{images['used']} used of {images['found']} found"
    warning = f"Faulty: {', '.join(f'{number} {reason}' for reason, number in faults.items())}. `medssl prepare` says where they are named."
    leaks = audit["duplicates"]["leaks"]
    return audit, [
        make_result("images", seen, warning=warning if faults else ""),
        make_result("leaks", " ".join(leaks) or "none", warning="See data.leaks in docs/explanation/splits_and_leaks.md." if leaks else ""),
    ]


class _CheckReport:
    """A reporter that collects the results of all checks, and shows them if there is a `console`."""

    def __init__(self, console: Doctor | None) -> None:
        self._console, self.results = console, list[CheckResult]()

    def heading(self, text: str) -> None:
        self.say("")
        self.say(text)

    def add(self, results: list[CheckResult]) -> None:
        self.results += results
        for item in results:
            if self._console:
                self._console.verdict(item.level, item.name, f"{item.seen}\n{item.remedy}" if item.remedy else item.seen)

    def say(self, text: str) -> None:
        if self._console:
            self._console.say(text)

    def warn(self, text: str) -> None:
        if self._console:
            self._console.warn(text)

    def progress(self, task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if self._console:
            self._console.progress(task, done, total, facts)


class _ProgressOnly:
    """A reporter that shows only the progress."""

    def __init__(self, reporter: Reporter) -> None:
        self.progress = reporter.progress

    def say(self, text: str) -> None:
        """The messages of a training are not part of the report."""

    def warn(self, text: str) -> None:
        """The checks give the same warnings."""
