"""Decoding and preparing all records of a source, in their order; in several processes where that is quicker."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch

from medssl.config import Data
from medssl.data.preparation import prepare_image
from medssl.data.reading import Reading
from medssl.errors import ReadError, UserError
from medssl.types import Record, Source

_POOL_RECORDS = 2000
_POOL_SECONDS = 60.0  # a process needs several seconds for its imports
_TIMED = 64


class Preparer:
    """From a record to (uint8 or uint16 [C, size, size], the bits its source stored), or to the ReadError that says why not."""

    def __init__(self, root: Path, data: Data) -> None:
        self._read = Reading(root, data)
        self._data = data

    def __call__(self, record: Record) -> tuple[np.ndarray, int] | ReadError:
        try:
            decoded = self._read(record)
        except ReadError as error:
            return ReadError(str(error))  # without its cause, which may quote the file
        return prepare_image(decoded, self._data.size, self._data.channels), decoded.bits


def prepared(source: Source, data: Data) -> Iterator[tuple[np.ndarray, int] | ReadError]:
    """One result a record, in the records' order. The first are timed to see whether a pool of processes pays."""
    preparer = Preparer(source.root, data)
    started = time.monotonic()
    for record in source.records[:_TIMED]:
        yield preparer(record)
    rest = source.records[_TIMED:]
    seconds = (time.monotonic() - started) / _TIMED * len(rest)
    processes = _cores()
    if processes == 1 or len(source.records) < _POOL_RECORDS or seconds < _POOL_SECONDS:
        yield from map(preparer, rest)
    else:
        yield from pooled(rest, source.root, data, processes)


def pooled(records: tuple[Record, ...], root: Path, data: Data, processes: int) -> Iterator[tuple[np.ndarray, int] | ReadError]:
    """The same as mapping a Preparer, by fresh processes. Raises UserError where one of them dies."""
    done = 0
    start = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    try:
        with ProcessPoolExecutor(processes, start, initializer=_begin, initargs=(root, data)) as pool:
            for result in pool.map(_in_process, records, chunksize=16):
                yield result
                done += 1
    except BrokenProcessPool:
        near = records[done].locator
        raise UserError(
            f"A process that was decoding images ended without a word, at {near} or within the next {16 * processes} records: memory "
            "ran out, or a file crashes its decoder. Read the files there one by one, and leave out the one that does it."
        ) from None


_preparer: Preparer  # of this process, set by _begin


def _begin(root: Path, data: Data) -> None:
    global _preparer
    torch.set_num_threads(1)
    _preparer = Preparer(root, data)


def _in_process(record: Record) -> tuple[np.ndarray, int] | ReadError:
    return _preparer(record)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
