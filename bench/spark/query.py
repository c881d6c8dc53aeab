"""Time toArrow of many rows: query.py CONNECTION ROWS TIMES. Prints JSON lines."""

import json
import sys
import time

from pyspark.sql import SparkSession

url, rows, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spark = SparkSession.builder.remote(url).getOrCreate()
spark.sql("select 1").toArrow()
frame = spark.range(rows).selectExpr(
    "id", "id * 3 as triple", "cast(id as double) / 7 as part", "concat('row-', cast(id as string)) as name"
)
for _ in range(times):
    began = time.perf_counter()
    table = frame.toArrow()
    wall = time.perf_counter() - began
    total = sum(table.column("id").to_numpy())
    assert table.num_rows == rows and total == rows * (rows - 1) // 2, "wrong rows"
    print(json.dumps({"wall_s": wall, "rows": table.num_rows, "bytes": table.nbytes}), flush=True)
spark.stop()
