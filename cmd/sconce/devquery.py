"""The query of `sconce dev`, by an unmodified PySpark. SPARK_REMOTE says where to."""
import pyspark
from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
print(f">>> PySpark {pyspark.__version__}")
print('>>> spark.range(1_000_000).selectExpr("count(*) AS rows", "sum(id) AS total").show()')
spark.range(1_000_000).selectExpr("count(*) AS rows", "sum(id) AS total").show()
