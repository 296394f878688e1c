"""Decoding in worker processes, with limits of time and memory."""

from medssl.data.workers.pool import cores, end_workers, run_in_workers

__all__ = ["cores", "end_workers", "run_in_workers"]
