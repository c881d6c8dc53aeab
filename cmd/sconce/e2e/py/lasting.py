"""The cases that go on while the test does something to what is between client and engine: cuts,
restarts, sleeps. As in cases.py, each is a function of the job, and its name is the case's name.
"""

import hashlib
import os
import signal
import time

from cases import rows


def stream(job):
    """Rows whose stream the test may cut: they are right, or there is an error."""
    frame, hashes = hashed(job)
    got = frame.toPandas().sort_values("id", kind="stable")
    return {"rows": len(got), "right": same(got, hashes)}


def same(got, hashes):
    return got["id"].tolist() == list(range(len(hashes))) and list(map(hash, got["hash"])) == hashes


def hashed(job):
    """Rows that can be checked one by one, and Python's hash of the text of each. No piece of a text
    is like another, so that it is as long on the wire where the engine compresses it."""
    text = "concat(%s)" % ", ".join("md5(concat(CAST(id AS STRING), '-%d'))" % k for k in range(job.wide))
    # Spark holds a partition whole before it sends it; None = as many as it likes.
    pieces = None if job.wide == 1 else 4 * job.wide
    frame = job.session().range(0, job.rows, 1, pieces).selectExpr("id", text + " AS hash")

    def whole(i):
        return "".join(hashlib.md5(b"%d-%d" % (i, k)).hexdigest() for k in range(job.wide))

    return frame, [hash(whole(i)) for i in range(job.rows)]


def walk(frame, hashes):
    """Row by row, so slowly that the stream is open for a while. Says what is wrong, or nothing."""
    ids = set()
    for n, row in enumerate(frame.toLocalIterator(), 1):
        if hash(row[1]) != hashes[row[0]] or row[0] in ids:
            return {"row": row[0], "number": n}
        ids.add(row[0])
        if n % 1000 == 0:
            time.sleep(0.005)
    return {} if len(ids) == len(hashes) else {"rows": len(ids)}


def iterate(job):
    """One download, row by row."""
    wrong = walk(*hashed(job))
    return {"right": not wrong, **wrong}


def without_pause(job):
    """Small queries and downloads, at once and row by row, until the test says stop.

    The file that tells it that this client had an answer of each kind is begun-<pid>.
    """
    session = job.session()
    frame, hashes = hashed(job)
    seen = {"right": True, "queries": 0, "downloads": 0, "iterated": 0}
    signal.alarm(0)  # the test has a limit of its own
    while not os.path.exists(os.path.join(job.scratch, "stop")):
        for _ in range(3):
            got = rows(session.sql("SELECT count(*), sum(id * 3) FROM range(100000)"))
            seen["queries"] += 1
            if got != [["100000", "14999850000"]]:
                return {**seen, "right": False, "query": got}
        if job.wide == 1:  # a frame of wide rows is larger than memory
            got = frame.toPandas().sort_values("id", kind="stable")
            seen["downloads"] += 1
            if not same(got, hashes):
                return {**seen, "right": False, "rows": len(got)}
        wrong = walk(frame, hashes)
        seen["iterated"] += 1
        if wrong:
            return {**seen, "right": False, **wrong}
        open(os.path.join(job.scratch, "begun-%d" % os.getpid()), "w").close()
    return seen


def summed(session):
    """One plan, and whether its answer is right."""
    got = rows(session.sql("SELECT count(*), sum(id * 3) FROM range(100000)"))
    return {"right": got == [["100000", "14999850000"]], "rows": got}


def plan_first(job):
    """A plan is the first request of the SparkSession: a builder would send its options first,
    from 4.0 on even if there are none.
    """
    from pyspark.sql.connect.session import SparkSession

    signal.alarm(0)  # the test has a limit of its own
    return summed(SparkSession(job.urls["url"]))


def plan_later(job):
    """Another plan, once the test says so."""
    session = job.session()
    signal.alarm(0)  # the test has a limit of its own
    rows(session.sql("SELECT 1"))
    open(os.path.join(job.scratch, "begun-%d" % os.getpid()), "w").close()
    while not os.path.exists(os.path.join(job.scratch, "away")):
        time.sleep(0.05)
    return summed(session)


def until_closed(job, query, begun_at):
    """A query without an end, and when and how somebody else ended it.

    The file that tells the test to end it appears with row number begun_at.
    """

    def begun():
        open(os.path.join(job.scratch, "begun"), "w").close()

    session = job.session()
    rows(session.sql("SELECT 1"))  # connected, whatever that took
    seen = {"rows": 0}
    if begun_at == 0:
        begun()
    try:
        for _ in session.sql(query).toLocalIterator():
            seen["rows"] += 1
            if seen["rows"] == begun_at:
                begun()
    except Exception as error:
        seen["said"] = str(error)
    seen["ended"] = time.time()
    return seen


def endless_work(job):
    return until_closed(job, "SELECT sum(id % 7) AS s FROM range(100000000000000)", 0)


def endless_rows(job):
    # Spark sends a partition when it is whole, so they are small.
    return until_closed(job, "SELECT id FROM range(0, 1000000000, 1, 20000)", 1)


def meanwhile(job, done, awaited, seconds=120):
    """Tells the test that done is, and waits for what it does."""
    open(os.path.join(job.scratch, done), "w").close()
    path, late = os.path.join(job.scratch, awaited), time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > late:
            raise TimeoutError("the test did not say that it is " + awaited)
        time.sleep(0.05)


def wake_sail(job):
    """The same SparkSession object before and after its engine was stopped.

    Sail 0.7.2 takes no artifacts, no CloneSession and no SET of configuration in SQL, reads USE only
    as USE CATALOG and USE DATABASE, and its AddArtifacts says UNIMPLEMENTED.
    """
    spark = job.session()
    began = standing(spark)

    def answer(number):
        return number + 8085

    spark.udf.register("e2e_answer", answer, "bigint")

    def tables():
        return [t.name for t in spark.catalog.listTables()]

    def ask():
        return [rows(spark.sql("SELECT e2e_answer(id) FROM e2e_three ORDER BY 1"))]

    return asleep(job, spark, began, ["USE CATALOG sail", "USE CATALOG lake", "USE DATABASE shop"], ["lake", "shop"], tables, ask)


def wake_spark(job):
    """The same on an engine that has more to forget: an artifact, a SET in SQL, a clone of the session."""
    spark = job.session()
    began = standing(spark)
    module = os.path.join(job.scratch, "sconce_e2e_wake.py")
    with open(module, "w") as file:
        file.write("def answer():\n    return 8085\n")
    spark.addArtifacts(module, pyfile=True)

    def answer(number):
        import sconce_e2e_wake

        return number + sconce_e2e_wake.answer()

    spark.udf.register("e2e_answer", answer, "bigint")
    spark.sql("SET spark.sql.ansi.enabled = false")
    clone = None
    if hasattr(spark, "cloneSession"):
        spark.range(7).createOrReplaceTempView("e2e_both")
        spark.sql("DECLARE VARIABLE e2e_own = 8085")  # which a clone does not have
        clone = spark.cloneSession()
        clone.range(5).createOrReplaceTempView("e2e_both")
        clone.conf.set("spark.sql.session.timeZone", "Europe/Paris")
        second = clone.cloneSession()
        second.sql("USE lake")

    def tables():
        # lake is a catalog that lists no temporary views.
        return [t.tableName for t in spark.sql("SHOW TABLES IN spark_catalog.default").collect()]

    def ask():
        seen = [
            rows(spark.sql("SELECT e2e_answer(id) FROM e2e_three ORDER BY 1")),
            spark.conf.get("spark.sql.ansi.enabled"),
        ]
        if clone is not None:
            seen.append(rows(spark.sql("SELECT count(*) FROM e2e_both")))
            seen.append(rows(clone.sql("SELECT count(*), max(e2e_answer(id)) FROM e2e_both")))
            seen.append([clone.conf.get("spark.sql.session.timeZone"), clone.conf.get("spark.sql.ansi.enabled")])
            # Spark leaves a clone in spark_catalog, wherever its origin stands.
            seen.append([standing(s) for s in (clone, second, second.cloneSession())])
            seen.append([has_variable(s) for s in (spark, clone, second)])
            seen.append(rows(second.sql("SELECT count(*) FROM e2e_both")))
        return seen

    return asleep(job, spark, began, ["USE spark_catalog.default", "USE lake", "USE APP"], ["lake", "APP"], tables, ask)


def has_variable(spark):
    try:
        return rows(spark.sql("SELECT e2e_own"))
    except Exception as error:
        return type(error).__name__


def standing(spark):
    return [spark.catalog.currentCatalog(), spark.catalog.currentDatabase()]


def asleep(job, spark, began, moves, stands, tables, more):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    spark.conf.unset("spark.sql.shuffle.partitions")
    spark.sql("CREATE OR REPLACE TEMPORARY VIEW e2e_three AS SELECT id FROM range(3)")
    spark.sql("CREATE TEMP VIEW e2e_sum AS SELECT sum(id) AS s FROM e2e_three")
    spark.range(0, 1000).selectExpr("id * 2 AS even").createOrReplaceTempView("e2e_even")
    spark.sql("CREATE TEMP VIEW e2e_gone AS SELECT 1")
    spark.catalog.dropTempView("e2e_gone")
    for move in moves:
        spark.sql(move)

    def look():
        return {
            "zone": spark.conf.get("spark.sql.session.timeZone"),
            "three": rows(spark.sql("SELECT id FROM e2e_three ORDER BY id")),
            "sum": rows(spark.table("e2e_sum")),
            "even": rows(spark.sql("SELECT count(*), sum(even) FROM e2e_even")),
            "stands": standing(spark),
            "tables": sorted(name for name in tables() if name.startswith("e2e_")),
            "more": more(),
        }

    before = look()
    meanwhile(job, "ready", "asleep")
    signal.alarm(150)  # the driver's limit for a case, anew: two engines start in this one
    begun = time.monotonic()
    after = look()
    seconds = round(time.monotonic() - begun, 2)
    # What the session chose holds for a SparkSession that is new to the engine, too.
    anew = standing(job.session("other"))
    right = (
        before == after
        and before["sum"] == [["3"]]
        and before["even"] == [["1000", "999000"]]
        and before["stands"] == stands
        and "e2e_even" in before["tables"]
        and began[0] == "lake"
        and anew == began
    )
    return {"right": right, "before": before, "after": after, "began": began, "anew": anew, "seconds": seconds}


def lost_sail(job):
    return lost(job, streams=False)


def lost_spark(job):
    return lost(job, streams=True)


def lost(job, streams):
    """A view over files that cannot be read after the wake, and a streaming query: what is lost is said once,
    and the same SparkSession goes on. A cache costs time alone, and its loss is no news.
    """
    spark = job.session()
    path = os.path.join(job.scratch, "rows")
    spark.range(3).write.parquet(path)
    spark.read.parquet(path).createOrReplaceTempView("e2e_lost")
    spark.range(5).createOrReplaceTempView("e2e_kept")
    if streams:
        query = spark.readStream.format("rate").load().writeStream.format("noop").queryName("e2e_stream").start()
        if not query.isActive:
            return {"right": False, "stream": "it did not start"}
        spark.catalog.cacheTable("e2e_kept")
    seen = {"before": rows(spark.sql("SELECT count(*) FROM e2e_lost")), "said": []}
    for name in os.listdir(path):
        with open(os.path.join(path, name), "w") as file:
            file.write("these are no rows")
    meanwhile(job, "ready", "asleep")
    signal.alarm(150)
    for _ in range(3):
        try:
            seen["kept"] = rows(spark.sql("SELECT count(*) FROM e2e_kept"))
        except Exception as error:
            seen["said"].append(str(error))
    try:
        seen["gone"] = rows(spark.sql("SELECT count(*) FROM e2e_lost"))
    except Exception as error:
        seen["missing"] = "e2e_lost" in str(error)
    told = seen["said"]
    seen["right"] = (
        seen["before"] == [["3"]]
        and seen.get("kept") == [["5"]]
        and seen.get("missing", False)
        and len(told) == 1
        and "not all of its state could be brought back" in told[0]
        and "e2e_lost" in told[0]
        and "e2e_kept" not in told[0]
        and "cache" not in told[0]
        and ("a streaming query" in told[0]) == streams
    )
    return seen


def soak(job):
    """Small queries and downloads until the test says stop; errors are told, wrong answers end it."""
    session = job.session()
    frame, hashes = hashed(job)
    seen = {"right": True, "queries": 0, "downloads": 0, "errors": []}
    signal.alarm(0)  # the test has a limit of its own
    while not os.path.exists(os.path.join(job.scratch, "stop")):
        begun = time.time()
        try:
            for _ in range(3):
                got = rows(session.sql("SELECT count(*), sum(id * 3) FROM range(100000)"))
                if got != [["100000", "14999850000"]]:
                    return {**seen, "right": False, "query": got}
                seen["queries"] += 1
                time.sleep(0.2)
                begun = time.time()
            got = frame.toPandas().sort_values("id", kind="stable")
            if not same(got, hashes):
                return {**seen, "right": False, "rows": len(got)}
            seen["downloads"] += 1
        except Exception as error:
            seen["errors"].append({"begun": begun, "said": str(error)})
    return seen
