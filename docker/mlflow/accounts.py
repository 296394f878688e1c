"""An account of the tracking server for the trainings, which are no administrators: made once, its password from a file.

python accounts.py [NAME [FILE]]      another account: its password is the first line of FILE, or of the standard input
"""

import sys
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

SECRETS = Path("/run/secrets")


def main(name: str = "medssl", file: str = "") -> None:
    """The command."""
    import os

    os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": (SECRETS / "mlflow_admin_password").read_text().strip()}
    client = get_app_client("basic-auth", tracking_uri="http://mlflow:5000")
    password = (Path(file).read_text() if file else sys.stdin.readline()).strip()
    try:
        client.get_user(name)
    except MlflowException:
        client.create_user(name, password)
        print(f"account {name} made")
    else:
        client.update_user_password(name, password)
        print(f"account {name} is there; its password is the one given")


if __name__ == "__main__":
    main(*sys.argv[1:])
