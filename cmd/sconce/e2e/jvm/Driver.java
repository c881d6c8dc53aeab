import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.count;
import static org.apache.spark.sql.functions.lit;
import static org.apache.spark.sql.functions.sum;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/**
 * The JVM twin of py/driver.py, with a short list of cases: reads the connection string from the
 * first line of stdin (never from the arguments: it holds a token) and prints one JSON line a case,
 * {"case", "seconds", "result"} or {"case", "seconds", "error"}.
 */
public class Driver {
  private static final long FETCH_ROWS = 1_000_000;
  private static final int ROWS_WITHOUT_PAUSE = 400_000;

  public static void main(String[] args) throws Exception {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    SparkSession spark = SparkSession.builder().remote(in.readLine()).getOrCreate();
    String folder = System.getProperty("without_pause");
    if (folder != null) {
      String between = folder;
      run("without_pause", () -> withoutPause(spark, between, ROWS_WITHOUT_PAUSE));
      System.exit(0);
    }
    folder = System.getProperty("wake");
    if (folder != null) {
      String between = folder;
      run("wake", () -> wake(spark, between));
      System.exit(0);
    }
    folder = System.getProperty("plan_later");
    if (folder != null) {
      String between = folder;
      run("plan_later", () -> planLater(spark, between));
      System.exit(0);
    }
    Map<String, Callable<String>> cases = new LinkedHashMap<>();
    cases.put("version", spark::version);
    cases.put("sql", () -> sql(spark));
    cases.put("schema", () -> spark.sql("SELECT 1 AS a, array('x') AS b").schema().simpleString());
    cases.put("conf", () -> conf(spark));
    cases.put("dataframe", () -> dataframe(spark));
    cases.put("upload_small", () -> upload(spark, 1_000));
    cases.put("upload", () -> upload(spark, 500_000));
    cases.put("fetch", () -> fetch(spark));
    cases.put("error_analysis", () -> told(spark, "SELECT id, no_such_column FROM range(3)"));
    cases.put("error_parse", () -> told(spark, "SELEC 1"));
    cases.put(
        "error_runtime",
        () -> told(spark, "SELECT raise_error(concat('Fehler: \u00fc\u2028 100% ', id)) FROM range(1)"));
    cases.put("view", () -> view(spark));
    cases.put("stop", () -> stop(spark));
    for (Map.Entry<String, Callable<String>> one : cases.entrySet()) {
      run(one.getKey(), one.getValue());
    }
    System.exit(0);
  }

  private static void run(String name, Callable<String> body) {
    long begun = System.nanoTime();
    String part;
    try {
      part = "\"result\":" + quote(body.call());
    } catch (Throwable e) {
      part = "\"error\":{\"type\":" + quote(e.getClass().getSimpleName())
          + ",\"message\":" + quote(String.valueOf(e.getMessage())) + "}";
    }
    double seconds = Math.round((System.nanoTime() - begun) / 1e7) / 100.0;
    System.out.println("{\"case\":" + quote(name) + ",\"seconds\":" + seconds + "," + part + "}");
    System.out.flush();
  }

  private static String sql(SparkSession spark) {
    Dataset<Row> frame = spark.sql(
        "SELECT id, id * id AS square, concat('row ', CAST(id AS STRING)) AS text,"
            + " DATE '2024-02-29' AS day, NULL AS nothing FROM range(10) ORDER BY id");
    return String.valueOf(frame.collectAsList());
  }

  private static String conf(SparkSession spark) {
    spark.conf().set("spark.sql.session.timeZone", "Asia/Tokyo");
    String seen = spark.conf().get("spark.sql.session.timeZone");
    spark.conf().set("spark.sql.session.timeZone", "UTC");
    return right(seen, "Asia/Tokyo");
  }

  private static String dataframe(SparkSession spark) {
    Dataset<Row> frame = spark.range(10_000)
        .withColumn("key", col("id").mod(lit(4)))
        .groupBy("key").agg(count(lit(1)).as("n"), sum("id").as("total")).orderBy("key");
    return right(String.valueOf(frame.collectAsList()),
        "[[0,2500,12495000], [1,2500,12497500], [2,2500,12500000], [3,2500,12502500]]");
  }

  private static String upload(SparkSession spark, int count) {
    List<Long> numbers = new ArrayList<>(count);
    long total = 0;
    for (long i = 0; i < count; i++) {
      long number = (i * 2862933555777941757L + 3037000493L) >> 20;
      numbers.add(number);
      total += number;
    }
    Dataset<Long> sent = spark.createDataset(numbers, Encoders.LONG());
    Row seen = sent.toDF("v").agg(count(lit(1)), sum("v")).collectAsList().get(0);
    return right(String.valueOf(seen), "[" + count + "," + total + "]");
  }

  private static String fetch(SparkSession spark) {
    List<Row> rows = spark.range(FETCH_ROWS)
        .selectExpr("id", "concat('text of row ', CAST(id AS STRING)) AS s").collectAsList();
    long wrong = 0;
    long total = 0;
    for (Row row : rows) {
      total += row.getLong(0);
      if (!row.getString(1).equals("text of row " + row.getLong(0))) {
        wrong++;
      }
    }
    return right(rows.size() + " " + wrong + " " + total,
        FETCH_ROWS + " 0 " + FETCH_ROWS * (FETCH_ROWS - 1) / 2);
  }

  /** Small queries and a download, again until there is a file "stop"; says in "begun-jvm" that it had each. */
  private static String withoutPause(SparkSession spark, String folder, int wanted)
      throws Exception {
    int rounds = 0;
    do {
      for (int i = 0; i < 3; i++) {
        Dataset<Row> small = spark.sql("SELECT count(*), sum(id * 3) FROM range(100000)");
        right(String.valueOf(small.collectAsList()), "[[100000,14999850000]]");
      }
      BitSet seen = new BitSet(wanted);
      MessageDigest md5 = MessageDigest.getInstance("MD5");
      Iterator<Row> rows = spark.range(wanted)
          .selectExpr("id", "md5(CAST(id AS STRING)) AS hash").toLocalIterator();
      while (rows.hasNext()) {
        Row row = rows.next();
        int id = (int) row.getLong(0);
        byte[] hash = md5.digest(String.valueOf(id).getBytes(StandardCharsets.UTF_8));
        right(row.getString(1), HexFormat.of().formatHex(hash));
        right(String.valueOf(seen.get(id)), "false");
        seen.set(id);
        if (id % 1000 == 0) {
          Thread.sleep(5); // so that the stream is open for a while
        }
      }
      right(String.valueOf(seen.cardinality()), String.valueOf(wanted));
      rounds++;
      Files.write(Path.of(folder, "begun-jvm"), new byte[0]);
    } while (!Files.exists(Path.of(folder, "stop")));
    return rounds + " rounds";
  }

  /** The same SparkSession object before and after its engine was stopped: says "ready", waits for "asleep". */
  private static String wake(SparkSession spark, String folder) throws Exception {
    spark.conf().set("spark.sql.session.timeZone", "Asia/Tokyo");
    spark.sql("CREATE TEMP VIEW e2e_three AS SELECT id FROM range(3)");
    spark.range(1_000).selectExpr("id * 2 AS even").createOrReplaceTempView("e2e_even");
    spark.catalog().setCurrentCatalog("lake");
    String before = looked(spark);
    right(before, "Asia/Tokyo [[3]] [[1000,999000]] [[lake]]");
    await(folder, "ready", "asleep");
    return right(looked(spark), before);
  }

  /** Another plan, once the test says so. */
  private static String planLater(SparkSession spark, String folder) throws Exception {
    spark.sql("SELECT 1").collectAsList();
    await(folder, "begun-" + ProcessHandle.current().pid(), "away");
    return right(
        String.valueOf(spark.sql("SELECT count(*), sum(id * 3) FROM range(100000)").collectAsList()),
        "[[100000,14999850000]]");
  }

  /** Says to the test that it is so far, and waits until the test says what it waits for. */
  private static void await(String folder, String here, String there) throws Exception {
    Files.write(Path.of(folder, here), new byte[0]);
    for (int i = 0; !Files.exists(Path.of(folder, there)); i++) {
      if (i > 2_400) {
        throw new IllegalStateException("the test did not say " + there);
      }
      Thread.sleep(50);
    }
  }

  private static String looked(SparkSession spark) throws Exception {
    return spark.conf().get("spark.sql.session.timeZone")
        + " " + spark.sql("SELECT sum(id) FROM e2e_three").collectAsList()
        + " " + spark.sql("SELECT count(*), sum(even) FROM e2e_even").collectAsList()
        + " " + spark.sql("SELECT current_catalog()").collectAsList(); // Sail refuses catalog().currentCatalog() of this client
  }

  private static String told(SparkSession spark, String query) {
    try {
      spark.sql(query).collectAsList();
    } catch (Throwable e) {
      return e.getClass().getSimpleName() + ": " + e.getMessage();
    }
    throw new IllegalStateException("the query should have failed");
  }

  private static String view(SparkSession spark) throws Exception {
    spark.sql("SELECT 'mine' AS who").createOrReplaceTempView("jvm_view");
    return right(String.valueOf(spark.table("jvm_view").collectAsList()), "[[mine]]");
  }

  private static String stop(SparkSession spark) {
    spark.stop();
    return "stopped";
  }

  /** What was seen where it is what it must be; else an error that the test can't overlook. */
  private static String right(String seen, String wanted) {
    if (!seen.equals(wanted)) {
      throw new IllegalStateException("wrong: " + seen + ", want " + wanted);
    }
    return seen;
  }

  private static String quote(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c < 0x20 || c > 0x7e) {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    return out.append('"').toString();
  }
}
