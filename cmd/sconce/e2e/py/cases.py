"""The cases. Each is a function of the job, and its name is the case's name.

A case returns what it saw as plain JSON. Where the true answer is known it checks it here and says
so in "right": two equal wrong answers must not pass for a proof.
"""

import base64
import hashlib
import os
import random
import threading
import time

from pyspark.sql import functions as F

MIB = 1 << 20
UPLOAD_ROWS, UPLOAD_COLUMNS = 163_840, 40  # 50 MiB of int64
FETCH_ROWS = 1_000_000


def rows(frame):
    return [[str(value) for value in row] for row in frame.collect()]


def digest(*columns):
    whole = hashlib.sha256()
    for column in columns:
        whole.update(column)
    return whole.hexdigest()


def version(job):
    return job.session().version


def sql(job):
    return rows(
        job.session().sql(
            "SELECT id, id * id AS square, concat('row ', CAST(id AS STRING)) AS text,"
            " CAST(id AS DOUBLE) / 7 AS part, DATE '2024-02-29' AS day, NULL AS nothing"
            " FROM range(10) ORDER BY id"
        )
    )


def schema(job):
    """AnalyzePlan: the schema and the parse of a DDL text."""
    frame = job.session().sql("SELECT 1 AS a, 'x' AS b, array(1.5, 2.5) AS c, map('k', 1) AS d")
    return frame.schema.simpleString()


def conf(job):
    """Config: set, get, unset."""
    spark = job.session()
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    seen = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.unset("spark.sql.session.timeZone")
    return {"seen": seen, "right": seen == "Asia/Tokyo"}


def setup(job):
    """Where a new session stands, before it has done anything."""
    spark = job.session()
    return {
        "catalog": spark.catalog.currentCatalog(),
        "database": spark.catalog.currentDatabase(),
        "zone": spark.conf.get("spark.sql.session.timeZone"),
    }


def dataframe(job):
    spark = job.session()
    left = spark.range(0, 10_000).withColumn("key", F.col("id") % 10)
    right = spark.range(0, 10).withColumnRenamed("id", "key").withColumn("weight", F.col("key") * 3)
    frame = (
        left.join(right, "key")
        .filter(F.col("weight") > 3)
        .groupBy("key")
        .agg(F.count("*").alias("n"), F.sum(F.col("id") * F.col("weight")).alias("total"))
        .orderBy("key")
    )
    seen = rows(frame)
    true = [
        [str(k), "1000", str(sum(i * k * 3 for i in range(k, 10_000, 10)))] for k in range(2, 10)
    ]
    return {"rows": seen, "right": seen == true}


def upload(job):
    """createDataFrame of 50 MiB that does not compress, summed up by the engine."""
    import numpy
    import pandas

    values = numpy.random.default_rng(8085).integers(
        -(1 << 40), 1 << 40, size=(UPLOAD_ROWS, UPLOAD_COLUMNS), dtype="int64"
    )
    # The high bits are noise for the compressor; the sums stay far inside int64.
    columns = ["c%d" % i for i in range(UPLOAD_COLUMNS)]
    frame = job.session().createDataFrame(pandas.DataFrame(values, columns=columns))
    wanted = [F.count("*").alias("n")]
    for name in columns:
        wanted += [F.sum(name).alias(name), F.max(name).alias(name + "_max")]
    seen = rows(frame.agg(*wanted))[0]
    true = [str(UPLOAD_ROWS)]
    for i in range(UPLOAD_COLUMNS):
        true += [str(int(values[:, i].sum())), str(int(values[:, i].max()))]
    return {"seen": seen, "right": seen == true, "bytes": int(values.nbytes)}


def million(job):
    return job.session().range(FETCH_ROWS).selectExpr(
        "id", "(id * 7919) % 1000003 AS a", "concat('text of row ', CAST(id AS STRING)) AS s"
    )


def judge_million(ids, a, s):
    import numpy

    order = numpy.argsort(ids, kind="stable")
    ids, a = ids[order], a[order]
    texts = "\n".join(s[i] for i in order).encode()
    true = numpy.arange(FETCH_ROWS, dtype="int64")
    true_texts = "\n".join("text of row %d" % i for i in range(FETCH_ROWS)).encode()
    right = (
        len(ids) == FETCH_ROWS
        and bool((ids == true).all())
        and bool((a == (true * 7919) % 1000003).all())
        and texts == true_texts
    )
    return {"rows": len(ids), "sum": int(a.sum()), "right": right,
            "sha256": digest(ids.tobytes(), a.tobytes(), texts)}


def to_pandas(job):
    got = million(job).toPandas()
    return judge_million(got["id"].to_numpy(), got["a"].to_numpy(), got["s"].tolist())


def to_arrow(job):
    got = million(job).toArrow()
    return judge_million(
        got["id"].to_numpy(), got["a"].to_numpy(), got["s"].to_pylist()
    )


def plan(job):
    """One plan of 64 MiB, sent whole: the engine returns the hash of the text inside it."""
    spark = job.session()
    if hasattr(spark.client, "_plan_compression_threshold"):
        # 4.1 and later would send it zstd-compressed; the point is 64 MiB in one message.
        spark.client._plan_compression_threshold = -1
        spark.client._plan_compression_algorithm = "NONE"
    return hash_of_literal(spark, 64 * MIB)


def packed_plan(job):
    """A plan over the client's compression threshold, as this client sends it by itself."""
    spark = job.session("other")
    return hash_of_literal(spark, 16 * MIB)


def hash_of_literal(spark, size):
    text = base64.b64encode(random.Random(8085).randbytes(size * 3 // 4)).decode()
    frame = spark.range(1).select(F.sha2(F.lit(text), 256).alias("hash"))
    seen = frame.collect()[0][0]
    return {"hash": seen, "bytes": len(text),
            "right": seen == hashlib.sha256(text.encode()).hexdigest()}


def udf(job):
    double = F.udf(lambda number: number * 2 + 1, "bigint")
    frame = job.session().range(1000).select(double("id").alias("d"))
    total = sum(row[0] for row in frame.collect())
    return {"total": total, "right": total == 1_000_000}


def artifacts(job):
    """A Python file and 8 MiB of data, sent with addArtifacts and read inside a Python worker."""
    spark = job.session()
    module = os.path.join(job.scratch, "sconce_e2e_module.py")
    with open(module, "w") as file:
        file.write("def answer():\n    return 8085\n")
    data = os.path.join(job.scratch, "sconce_e2e_data.bin")
    noise = random.Random(50051).randbytes(8 * MIB)
    with open(data, "wb") as file:
        file.write(noise)
    spark.addArtifacts(module, pyfile=True)
    spark.addArtifacts(data, file=True)

    def look(_):
        import hashlib
        import os

        import sconce_e2e_module
        from pyspark import SparkFiles

        path = os.path.join(SparkFiles.getRootDirectory(), "sconce_e2e_data.bin")
        with open(path, "rb") as file:
            return "%d %s" % (sconce_e2e_module.answer(), hashlib.sha256(file.read()).hexdigest())

    seen = spark.range(1).select(F.udf(look, "string")("id")).collect()[0][0]
    return {"seen": seen, "right": seen == "8085 " + hashlib.sha256(noise).hexdigest()}


def interrupt(job):
    """A query that would run for hours ends when the client says so."""
    spark = job.session()
    outcome = {}

    def work():
        try:
            # Hours of work in small batches: a cross join instead keeps Sail from hearing the interrupt.
            spark.sql("SELECT sum(id % 7) AS s FROM range(100000000000000)").collect()
            outcome["ended"] = "finished"
        except Exception as error:
            outcome["ended"] = "error"
            outcome["type"] = type(error).__name__
            outcome["said"] = str(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    stopped, deadline = [], time.monotonic() + 60
    time.sleep(1.5)  # let it begin; before that there is nothing to interrupt
    while worker.is_alive() and time.monotonic() < deadline:
        stopped = spark.interruptAll() or stopped
        worker.join(2)
    outcome["interrupted"] = len(stopped)
    outcome["right"] = outcome.get("ended") == "error" and len(stopped) == 1
    return outcome


def told(job, query):
    """The error of a query, whole: the comparison with the direct one is the point."""
    import driver

    try:
        job.session().sql(query).collect()
    except Exception as error:
        return driver.describe(error)
    raise AssertionError("the query should have failed")


def error_analysis(job):
    return told(job, "SELECT id, no_such_column FROM range(3)")


def error_parse(job):
    return told(job, "SELEC 1")


def error_runtime(job):
    return told(job, "SELECT raise_error(concat('Fehler: \u00fc\u2028 100% ', CAST(id AS STRING))) FROM range(1)")


def error_long(job):
    """A message longer than a header block may be: FetchErrorDetails carries it, or it is cut short."""
    return told(job, "SELECT raise_error(repeat('long ', 4000)) FROM range(1)")


def isolation(job):
    """Two sessions of one engine at once: same view name, other content, and a view only one has."""
    mine, other = job.session("url"), job.session("other")
    mine.sql("SELECT 'mine' AS who").createOrReplaceTempView("both")
    other.sql("SELECT 'other' AS who").createOrReplaceTempView("both")
    mine.sql("SELECT 42 AS secret").createOrReplaceTempView("only_mine")
    seen = {
        "mine": mine.table("both").collect()[0][0],
        "other": other.table("both").collect()[0][0],
        "own": mine.table("only_mine").collect()[0][0],
    }
    try:
        seen["leak"] = str(other.table("only_mine").collect())
    except Exception as error:
        seen["refused"] = type(error).__name__
    seen["right"] = seen["mine"] == "mine" and seen["other"] == "other" and seen["own"] == 42 \
        and "refused" in seen
    return seen


def clone(job):
    """CloneSession: the copy has the views, and what it makes stays with it."""
    spark = job.session()
    spark.sql("SELECT 'before' AS v").createOrReplaceTempView("cloned")
    copy = spark.cloneSession()
    seen = {"copied": copy.table("cloned").collect()[0][0]}
    copy.sql("SELECT 'after' AS v").createOrReplaceTempView("cloned")
    seen["origin"] = spark.table("cloned").collect()[0][0]
    seen["right"] = seen == {"copied": "before", "origin": "before"}
    return seen


def parallel(job):
    """Eight queries at once on one connection."""
    spark, seen = job.session(), {}

    def work(k):
        seen[k] = spark.range(200_000).selectExpr("sum(id * %d) AS s" % k).collect()[0][0]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(1, 9)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    true = {k: k * (200_000 * 199_999 // 2) for k in range(1, 9)}
    return {"sums": [seen.get(k) for k in range(1, 9)], "right": seen == true}


def crowd(job):
    """More queries at once than one connection may have streams (100): they wait, none is lost."""
    spark, seen = job.session(), set()

    def work(k):
        seen.add(spark.sql("SELECT %d AS k" % k).collect()[0][0])

    workers = [threading.Thread(target=work, args=(k,)) for k in range(130)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    return {"answers": len(seen), "right": seen == set(range(130))}


def big_row(job):
    """One value of 40 MiB: one response message, or many parts of it, as the client allows."""
    row = job.session().sql("SELECT repeat('0123456789abcdef', 2621440) AS v").collect()[0]
    return {"bytes": len(row[0]), "right": row[0] == "0123456789abcdef" * 2621440}


def streaming(job):
    """A streaming query: started, fed, read, stopped."""
    spark = job.session()
    source = spark.readStream.format("rate").option("rowsPerSecond", "50").load()
    query = source.writeStream.format("memory").queryName("e2e_stream").start()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if spark.sql("SELECT count(*) FROM e2e_stream").collect()[0][0] > 0:
                break
            time.sleep(0.5)
        count = spark.sql("SELECT count(*) FROM e2e_stream").collect()[0][0]
        active = query.isActive
    finally:
        query.stop()
    return {"right": count > 0 and active and not query.isActive}


def quiet(job):
    """Long enough for a client to ask twice whether the connection lives (4.3: every 60 s)."""
    time.sleep(130)
    return "awake"


def many(job):
    """Small queries one after the other, more than a session may begin at once."""
    spark = job.session()
    got = [spark.sql("SELECT %d AS n" % n).collect()[0][0] for n in range(job.rows)]
    return {"right": got == list(range(job.rows)), "queries": len(got)}


def select_one(job):
    return rows(job.session().sql("SELECT 1"))


def stop(job):
    """ReleaseSession; then the session is gone for this client."""
    job.session("url").stop()
    return "stopped"
