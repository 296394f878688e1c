"""Does the tracking server answer a question that needs its database and its accounts? Its own /health answers without them."""

import base64
import json
import urllib.request
from pathlib import Path

password = Path("/run/secrets/mlflow_admin_password").read_text().strip()
request = urllib.request.Request(
    "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search",
    data=json.dumps({"max_results": 1}).encode(),
    headers={"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()},
)
with urllib.request.urlopen(request, timeout=25) as answer:  # noqa: S310 - the address stands above
    json.load(answer)
