package control

import sconcev1 "github.com/sconce-dev/sconce/proto/sconce/v1"

// snippets are how the clients connect. They are the same for every token.
func snippets() []*sconcev1.IssueSessionTokenResponse_Snippet {
	return []*sconcev1.IssueSessionTokenResponse_Snippet{
		{Client: "PySpark", Code: "from pyspark.sql import SparkSession\n" +
			"spark = SparkSession.builder.getOrCreate()"},
		{Client: "Scala", Code: "import org.apache.spark.sql.SparkSession\n" +
			"val spark = SparkSession.builder().remote(sys.env(\"SPARK_REMOTE\")).getOrCreate()"},
		{Client: "Go", Code: "spark, err := sql.NewSessionBuilder().Remote(os.Getenv(\"SPARK_REMOTE\")).Build(ctx)"},
		{Client: "Rust", Code: "let spark = SparkSessionBuilder::remote(&env::var(\"SPARK_REMOTE\")?).build().await?;"},
	}
}
