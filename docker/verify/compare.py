"""Whether MLflow has each number of /out/tracked/metrics.jsonl, once, and no other. Run in the container of the trainings."""

import json
import sys
from collections import Counter

import mlflow

rows = [json.loads(line) for line in open("/out/tracked/metrics.jsonl")]  # noqa: PTH123, SIM115
here = Counter(
    (key, row["step"], value) for row in rows for key, value in row.items() if key not in ("step", "time") and not isinstance(value, str)
)
client = mlflow.MlflowClient()
runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
there = Counter(
    (metric.key, metric.step, metric.value)
    for run in runs
    for key in run.data.metrics
    for metric in client.get_metric_history(run.info.run_id, key)
)
states = ", ".join(run.info.status for run in runs) or "no run"
print(
    f"{here.total()} numbers in metrics.jsonl, {there.total()} in MLflow ({states}); {(here - there).total()} missing, {(there - here).total()} too many"
)
sys.exit(here != there or [run.info.status for run in runs] != ["FINISHED"])
