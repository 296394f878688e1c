"""Whether MLflow has each number of /out/tracked/metrics.jsonl, once, and no other. Run in the container of the trainings.

Steps that are done again after a kill -9 give the same numbers at another speed, and MLflow keeps the speed of the first attempt.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import mlflow

SPEED = "images_per_second"


def timeless(counted: Counter) -> Counter:
    """The same without the value of the speed; that there is one counts."""
    return Counter((key, step, None if key == SPEED else value) for key, step, value in counted.elements())


rows = [json.loads(line) for line in Path("/out/tracked/metrics.jsonl").read_text().splitlines()]
here = Counter((key, row["step"], value) for row in rows for key, value in row.items() if key not in ("step", "time"))
client = mlflow.MlflowClient()
runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
histories = [client.get_metric_history(run.info.run_id, key) for run in runs for key in run.data.metrics]
there = Counter((metric.key, metric.step, metric.value) for history in histories for metric in history)
states = [run.info.status for run in runs]
missing, extra = (timeless(here) - timeless(there)).total(), (timeless(there) - timeless(here)).total()
print(
    f"{here.total()} numbers in metrics.jsonl, {there.total()} in MLflow {states}; {missing} missing, {extra} too many, "
    f"{(here - there).total() - missing} speeds of the first attempt"
)
sys.exit(bool(missing or extra) or states != ["FINISHED"])
