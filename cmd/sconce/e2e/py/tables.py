"""tables.py STATE SPARK_SESSION: runs SHOW TABLES in that Spark session, by the
connection string in SPARK_REMOTE, and prints the catalog and which engine it was."""

import json
import os
import pathlib
import re
import sys

from pyspark.sql import SparkSession


def engine(state):
    """The pid of the engine that runs, as Sconce noted it."""
    for path in pathlib.Path(state).rglob("pid"):
        pid = json.loads(path.read_text())["pid"]
        try:
            os.kill(pid, 0)
            return pid
        except ProcessLookupError:
            pass
    return None


def main(state, session):
    remote = os.environ["SPARK_REMOTE"].strip() + ";session_id=" + session
    try:
        spark = SparkSession.builder.remote(remote).getOrCreate()
        spark.sql("SHOW TABLES").show()
        print(f'catalog "{spark.catalog.currentCatalog()}" of engine {engine(state)}')
    except Exception as e:
        code = re.search(r"StatusCode\.(\w+)", str(e))
        details = re.search(r'details = "(.*)"', str(e))
        name = "".join(part.capitalize() for part in code[1].split("_")) if code else type(e).__name__
        print(f"{name}: {details[1] if details else e}", file=sys.stderr)
        return 1
    return 0


sys.exit(main(*sys.argv[1:]))
