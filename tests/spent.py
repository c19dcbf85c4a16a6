"""Limits of processor time that mean work: on a processor that is slower, or shared, they are longer."""

import gc
import time

PASSES, NOMINAL = 1_000_000, 0.018
"""An empty loop of so many passes takes so many seconds on the processor that limits are given for."""


def started():
    """When work begins; collections of garbage then do not look at all that earlier tests left."""
    gc.freeze()
    return time.process_time()


def assert_soon(begin, seconds):
    """Since `begin`, of `started`, less than so many seconds of that processor were spent."""
    spent = time.process_time() - begin
    if spent >= seconds:  # else this one is no slower than need be known
        before = time.process_time()
        for _ in range(PASSES):
            pass
        seconds *= max(1.0, (time.process_time() - before) / NOMINAL)
    assert spent < seconds
