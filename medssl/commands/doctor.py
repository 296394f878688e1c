"""`medssl doctor`: what there is to know of a machine before a training is trusted to it."""

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
from medssl.doctor.finding import Finding, make_finding
from medssl.errors import UserError
from medssl.types import Reporter

CHECKS = ("software", "gpu", "machine", "folders", "decoders", "clock", "tracking", "offline")
_HUNG_SECONDS = 120.0  # a first import of torch from a slow drive takes most of a minute
_REPORT = "The other checks do not depend on it. Tell the maintainers, with this line."


class Doctor(Reporter, Protocol):
    """A reporter that can also show how things stand."""

    def verdict(self, level: str, name: str, text: str) -> None:
        """A line of the report."""
        ...


def doctor(console: Doctor, *, data: str | None = None, burn_in: int | None = None, as_json: bool = False) -> bool:
    """Run the checks, and say how each stands; whether there was no error. Nothing is changed, but for the cache where `data` is read.

    `as_json`: nothing but one JSON document is said. `burn_in`: seconds of training on each device.
    """
    whole: dict[str, Any] = {"medssl": __version__, "python": platform.python_version(), "system": platform.platform()}
    report = _Report(None if as_json else console)
    report.say(f"medssl {__version__}, Python {whole['python']}, {whole['system']}")
    for name in CHECKS:
        report.heading(name)
        report.add(run_check(name))
    if data is not None:
        report.heading("data")
        whole["audit"], said = audit_data(data, report)
        report.add(said)
    if burn_in is not None:
        from medssl.doctor import benchmark as burning

        report.heading("burn-in")
        whole["burn_in"] = []
        for burn, said in burning.burn_in(_Quiet(report), burn_in):
            report.add(said)
            whole["burn_in"] += [{**asdict(burn), "entry": burn.entry()}] if burn else []
    if as_json:
        packages = [{"name": p.name, "version": p.version} for p in installed.packages().values() if p]
        console.say(json.dumps({**whole, "findings": [asdict(item) for item in report.found], "packages": packages}))
    levels = [item.level for item in report.found]
    report.say("")
    report.say(f"{levels.count('ok')} ok, {levels.count('warning')} warnings, {levels.count('error')} errors")
    return "error" not in levels


def run_check(name: str, seconds: float = _HUNG_SECONDS) -> list[Finding]:
    """What the check in checks/`name`.py finds, that it fails, or that it has not ended after `seconds`, as with a drive that is gone."""
    found: list[Finding] = []

    def work() -> None:
        try:
            for item in plugins.find("doctor.checks", name).check():
                found.append(item)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            found.append(make_finding(name, f"the check itself failed: {type(error).__name__}: {first}", error=_REPORT))

    thread = threading.Thread(target=work, daemon=True, name=f"check {name}")
    thread.start()
    thread.join(seconds)
    late = [
        make_finding(name, f"not done after {seconds:g} s", error="A drive, a driver or a server does not answer: see which, and mend it.")
    ]
    return [*found, *(late if thread.is_alive() else ())]


def audit_data(data: str, reporter: Reporter) -> tuple[dict[str, Any] | None, list[Finding]]:
    """The audit of `medssl prepare`, said to `reporter`, and what it means. Of a store, the audit that lies in it."""
    from medssl.commands import prepare
    from medssl.data.detect import detect
    from medssl.data.store import Store

    try:
        if detect(data) == "store":
            store = Store.open(Path(data).expanduser())
            prepare.say(store, data, None, reporter)
        else:
            made = prepare.prepare(reporter, data=data)
            assert made is not None, "only a shard makes none"
            store = Store.open(made)
        audit = json.loads((store.path / "audit.json").read_text("utf-8"))
    except (UserError, OSError) as error:
        first, _, remedy = str(error).partition(". ")
        return None, [make_finding("images", first, error=remedy or "See the line above.")]
    images = audit["images"]
    faults = {reason: number for reason, number in images["skipped"].items() if reason not in EXPECTED_REASONS}
    seen = f"{images['used']} used of {images['found']} found"
    told = f"Faulty: {', '.join(f'{number} {reason}' for reason, number in faults.items())}. `medssl prepare` says where they are named."
    leaks = audit["duplicates"]["leaks"]
    return audit, [
        make_finding("images", seen, warning=told if faults else ""),
        make_finding("leaks", " ".join(leaks) or "none", warning="See data.leaks in docs/data.md." if leaks else ""),
    ]


class _Report:
    """Findings, shown as they come, or only kept where there is no `console`. A reporter, too."""

    def __init__(self, console: Doctor | None) -> None:
        self._console, self.found = console, list[Finding]()

    def heading(self, text: str) -> None:
        self.say("")
        self.say(text)

    def add(self, findings: list[Finding]) -> None:
        self.found += findings
        for item in findings:
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


class _Quiet:
    """A reporter of which only the progress is heard."""

    def __init__(self, reporter: Reporter) -> None:
        self.progress = reporter.progress

    def say(self, text: str) -> None:
        """What a training has to say is for those who want one."""

    def warn(self, text: str) -> None:
        """The checks have said it."""
