"""The command that a study starts its jobs with; no user sees it."""

from medssl.cli.app import app
from medssl.exit_codes import handle_errors


@app.command(hidden=True)
def job(message: str) -> None:
    """One job of a study, as medssl.studies.executor starts it."""
    with handle_errors() as console:
        from medssl.studies.worker import run_job

        run_job(console, message)
