package main

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// connection is what a person needs to connect a client.
type connection struct {
	endpoint string // host:port
	token    string
	session  string
	ca       string // PEM file of our authority
	expires  time.Time
}

// remote is the connection string.
func (c connection) remote() string {
	return fmt.Sprintf("sc://%s/;token=%s;x-session-id=%s", c.endpoint, url.PathEscape(c.token), url.PathEscape(c.session))
}

// print shows how each client connects. What each does with a token, by host
// name, is not alike: PySpark 4, the JVM client and spark-connect-rs speak
// plaintext to the very name localhost and TLS to any other; PySpark 3 and the Go
// client speak TLS whenever they have a token.
func (c connection) print(w io.Writer, now time.Time) {
	ca, err := filepath.Abs(c.ca)
	if err != nil {
		ca = c.ca
	}
	fmt.Fprintf(w, connectText, c.remote(), age(c.expires.Sub(now).Round(time.Minute)), shellQuote(ca))
}

const connectText = `Connect from another terminal (the token is good for %[2]s):

  export SPARK_REMOTE='%[1]s'

  PySpark 4    spark = SparkSession.builder.getOrCreate()
  PySpark 3.5  the same, after   export GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=%[3]s
  Scala        val spark = SparkSession.builder().remote(sys.env("SPARK_REMOTE")).getOrCreate()
  Go           spark, err := sql.NewSessionBuilder().Remote(os.Getenv("SPARK_REMOTE")).Build(ctx)
               after   export SSL_CERT_FILE=%[3]s
  Rust         let spark = SparkSessionBuilder::remote(&env::var("SPARK_REMOTE")?).build().await?;

By any name but localhost every client speaks TLS, and has to believe the authority that
was made here: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH (PySpark), SSL_CERT_FILE (Go; Rust built
with the feature tls), -Djavax.net.ssl.trustStore=trust.p12 (Scala) with the file from
  keytool -importcert -noprompt -alias sconce -storepass changeit -keystore trust.p12 -file %[3]s
`

// shellQuote writes s so that a shell takes it as one word.
func shellQuote(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
