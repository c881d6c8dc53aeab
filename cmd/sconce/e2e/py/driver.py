"""Runs named cases with an unmodified PySpark client and prints one JSON line for each.

The job comes as one JSON object on stdin (never in the arguments: its URLs hold tokens):

    {"url": "sc://...", "other": "sc://...", "cases": ["sql", "fetch"], "scratch": "/tmp/x"}

`url` is the session of the cases; `other` is a second session on the same engine, for the cases
that need two. Each line of output is {"case", "seconds", "result"} or {"case", "seconds", "error"}.
The same driver runs directly against an engine and through Sconce; the test compares the lines.
"""

import json
import os
import signal
import sys
import time
import warnings

import cases
import lasting
from pyspark.sql import SparkSession

CASE_SECONDS = 150  # one case; the whole process has a limit of its own in the Go test


class Job:
    """What a case gets: the two sessions, made at first use, and a directory of its own."""

    def __init__(self, order):
        self.urls = {"url": order["url"], "other": order.get("other")}
        self.scratch = order.get("scratch", ".")
        self.rows = int(order.get("rows", 0))
        self.wide = int(order.get("wide", 1))  # how many hashes stand in a row
        self.sessions = {}

    def session(self, name="url"):
        if name not in self.sessions:
            builder = SparkSession.builder.remote(self.urls[name])
            # 3.4 has no create(): it knows one session per process.
            make = getattr(builder, "create", builder.getOrCreate)
            self.sessions[name] = make()
        return self.sessions[name]


def describe(error):
    """Everything a user can read from an exception, as far as this client has it."""
    told = {"type": type(error).__name__, "message": str(error)}
    for name in ("getCondition", "getErrorClass", "getSqlState", "getMessageParameters"):
        try:
            value = getattr(error, name)()
        except Exception:
            continue
        if value:
            told[name] = value
    return told


def too_long(*_):
    raise TimeoutError("case took more than %d s" % CASE_SECONDS)


def run(name, job):
    signal.alarm(CASE_SECONDS)
    begun = time.monotonic()
    line = {"case": name}
    try:
        line["result"] = getattr(cases if hasattr(cases, name) else lasting, name)(job)
    except Exception as error:
        line["error"] = describe(error)
    finally:
        signal.alarm(0)
    line["seconds"] = round(time.monotonic() - begun, 2)
    return line


def main():
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_long)
    order = json.load(sys.stdin)
    # Clients print progress and notices: keep stdout for the results.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = Job(order)
    for name in order["cases"]:
        print(json.dumps(run(name, job), sort_keys=True, default=str), file=out, flush=True)
    out.close()
    os._exit(0)  # no atexit calls: each case that wants to stop a session does so itself


if __name__ == "__main__":
    main()
