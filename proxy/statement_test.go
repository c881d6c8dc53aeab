package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sconce-dev/sconce/sessions"
)

// short words an entry for the tables below; "" = nil.
func short(e *sessions.Entry) string {
	if e == nil {
		return ""
	}
	s := e.What
	for _, part := range []struct{ name, value string }{
		{"replaces", e.Replaces}, {"makes", e.Makes}, {"drops", e.Drops}, {"needs", e.Needs}, {"lost", e.Lost},
	} {
		if part.value != "" {
			s += fmt.Sprintf(" | %s %s", part.name, part.value)
		}
	}
	if e.DropsTable {
		s += " | table"
	}
	if e.Notable {
		s += " | notable"
	}
	return s
}

// computed is how short words the loss of a variable.
const computed = "its value was computed, and another time it would be another | notable"

var statements = []struct{ sql, want string }{
	// What leaves the session as it is.
	{"", ""},
	{"SELECT 1", ""},
	{"select * from set", ""},
	{"WITH t AS (SELECT 1) INSERT INTO x SELECT * FROM t", ""},
	{"INSERT INTO t VALUES ('CREATE TEMP VIEW v')", ""},
	{"CREATE TABLE temp (a INT)", ""},
	{"CREATE OR REPLACE VIEW temporary AS SELECT 1", ""},
	{"CREATE TABLE `TEMPORARY` AS SELECT 1", ""},
	{"CREATE FUNCTION f AS 'x'", ""},
	{"CREATE DATABASE d", ""},
	{"DROP DATABASE d", ""},
	{"DROP VIEW db.v", ""},
	{"DROP TABLE cat.db.v", ""},
	{"DROP FUNCTION f", ""},
	{"ALTER TABLE t SET TBLPROPERTIES ('a' = 'b')", ""},
	{"ALTER TABLE t RENAME COLUMN a TO b", ""},
	{"ALTER VIEW db.v AS SELECT 1", ""},
	{"ALTER DATABASE d SET LOCATION 'x'", ""},
	{"SET", ""},
	{"SET ;", ""},
	{"SET -v", ""},
	{"SET spark.sql.ansi.enabled", ""},
	{"UNCACHE TABLE t", ""},
	{"/* SET a=b */ SELECT 1", ""},
	{"-- USE x\nSELECT 1", ""},
	{"SETTLE a=b", ""},
	{"EXECUTE IMMEDIATE 'SELECT ?' USING 1", ""},
	{"BEGIN DECLARE a INT; SET a = 1; SELECT a; END", ""},
	{"ADD COLUMN x", ""},
	{"\x00\xff", ""},
	{"'SET a=b'", ""},

	{"SET a=b", "the configuration a | replaces conf a"},
	{"  set  spark.sql.x =  y = z ", "the configuration spark.sql.x | replaces conf spark.sql.x"},
	{"SET `a.b`=c", "the configuration a.b | replaces conf a.b"},
	{"/* a /* b */ c */ -- d \\\n still\n SET a=b", "the configuration a | replaces conf a"},
	{"SET time.x=b", "the configuration time.x | replaces conf time.x"},
	{"SET catalog=b", "the configuration catalog | replaces conf catalog"},
	{"SET TIME ZONE LOCAL", "the configuration spark.sql.session.timeZone | replaces conf spark.sql.session.timeZone"},
	{"SET CATALOG c", "the current catalog (SET CATALOG)"},
	{"SET VAR x = 1", "session variables (SET VARIABLE)"},
	{"SET VARIABLE (x, y) = (SELECT 1, 2)", "session variables (SET VARIABLE)"},
	{"SET VAR x = cast(y + (1 - 2) AS DECIMAL(10, 2)), z = array('rand()', DATE '2026-01-01')", "session variables (SET VARIABLE)"},
	{"SET VAR x = (SELECT max(id) FROM t)", "session variables (SET VARIABLE) | lost " + computed},
	{"SET VAR (x, y) = (TABLE t)", "session variables (SET VARIABLE) | lost " + computed},
	{"SET VAR x = 1 + uuid()", "session variables (SET VARIABLE) | lost " + computed},
	{"SET VAR x = `my_udf`(1)", "session variables (SET VARIABLE) | lost " + computed},
	{"set var x = current_timestamp", "session variables (SET VARIABLE) | lost " + computed},
	{"DECLARE x STRUCT<a: DECIMAL(3, 1)> DEFAULT named_struct('a', 1)", "session variable `x`"},
	{"DECLARE x CHAR(3)", "session variable `x`"},
	{"DECLARE x DOUBLE DEFAULT rand()", "session variable `x` | lost " + computed},
	{"DECLARE x = now()", "session variable `x` | lost " + computed},
	{"EXECUTE IMMEDIATE 'SELECT max(id) FROM t' INTO v", "what EXECUTE IMMEDIATE stored in `v` | lost " + computed},
	{"EXECUTE IMMEDIATE q INTO v USING 1", "what EXECUTE IMMEDIATE ran | lost its statement is not in its text, so it cannot be told what it changed | notable"},
	{"RESET", "the configuration (RESET)"},
	{"RESET a.b;", "the configuration a.b | replaces conf a.b"},
	{"use db", "the current catalog and database (USE)"},
	{"USE CATALOG c", "the current catalog and database (USE)"},
	{"CREATE TEMP VIEW V AS SELECT 1", "temporary view `V` | makes v"},
	{"create or replace temporary view `a b` as select 1", "temporary view `a b` | makes a b"},
	{"CREATE TEMPORARY VIEW IF NOT EXISTS v AS SELECT 1", "temporary view `v` | makes v"},
	{"CREATE OR REPLACE GLOBAL TEMP VIEW G AS SELECT 1", "temporary view `global_temp`.`G` | makes global_temp.g"},
	{"CREATE TEMPORARY TABLE t USING csv", "temporary view `t` | makes t"},
	{"CREATE TEMPORARY FUNCTION f AS 'x'", "temporary function `f`"},
	{"CREATE OR REPLACE TEMPORARY FUNCTION f(a INT) RETURN a", "temporary function `f`"},
	{"DROP VIEW V", "the drop of view `V` | drops v"},
	{"DROP VIEW IF EXISTS global_temp.V", "the drop of view `global_temp`.`V` | drops global_temp.v"},
	{"DROP TABLE IF EXISTS t", "the drop of table `t` | drops t | table"},
	{"DROP TEMPORARY FUNCTION IF EXISTS f", "the drop of function `f`"},
	{"DROP TEMPORARY VARIABLE x", "the drop of variable `x`"},
	{"ALTER VIEW v AS SELECT 2", "temporary view `v` as it was altered | needs v"},
	{"ALTER VIEW V RENAME TO W", "temporary view `W` | makes w | drops v"},
	{"ALTER TABLE v RENAME TO w", "temporary view `w` | makes w | drops v"},
	{"CACHE TABLE t", "the cache of table `t` | lost what an engine caches ends with it"},
	{"CACHE LAZY TABLE t OPTIONS ('storageLevel' 'DISK_ONLY');", "the cache of table `t` | lost what an engine caches ends with it"},
	{"CACHE TABLE t OPTIONS ('a' 'b') AS SELECT 1", "temporary view `t` | makes t"},
	{"CACHE TABLE t SELECT 1", "temporary view `t` | makes t"},
	{"DECLARE OR REPLACE VARIABLE x INT DEFAULT 5", "session variable `x`"},
	{"DECLARE x = 5", "session variable `x`"},
	{"ADD JAR '/x.jar'", "what ADD JAR added"},
	{"EXECUTE IMMEDIATE 'SET a=b'", "the configuration a | replaces conf a"},
	{"EXECUTE IMMEDIATE 'CREATE TEMP ' 'VIEW v AS SELECT ''x'''", "temporary view `v` | makes v"},
	{"EXECUTE IMMEDIATE q", "what EXECUTE IMMEDIATE ran | lost its statement is not in its text, so it cannot be told what it changed | notable"},
	{"EXECUTE IMMEDIATE 'SET ' || q", "what EXECUTE IMMEDIATE ran | lost its statement is not in its text, so it cannot be told what it changed | notable"},
	{"BEGIN CREATE TEMP VIEW v AS SELECT 1; END", "what a SQL script changed | lost scripts are not run again | notable"},
	{"`a b` : BEGIN SET spark.x = 1; END", "what a SQL script changed | lost scripts are not run again | notable"},
	{"é:BEGIN SET spark.x = 1; END", "what a SQL script changed | lost scripts are not run again | notable"},
	{"a /* c */ -- d\n: BEGIN SET spark.x = 1; END a", "what a SQL script changed | lost scripts are not run again | notable"},
	{"a: BEGIN SET spark.x = 1; END a", "what a SQL script changed | lost scripts are not run again | notable"},
}

func TestReadStatement(t *testing.T) {
	for _, c := range statements {
		if got := short(readStatement(c.sql)); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.sql, got, c.want)
		}
	}
}

// However long a text is, little of it is read, and what it does is known or told to be lost.
func TestReadSQL(t *testing.T) {
	long := strings.Repeat(" ", mostRead)
	const lost = "what a SQL statement changed | lost it is longer than 1 MiB, the most that is read of one | notable"
	for _, c := range []struct{ name, sql, want string }{
		{"short", "USE d", "the current catalog and database (USE)"},
		{"a view", "CREATE TEMP VIEW v AS SELECT 1" + long, "temporary view `v` | makes v"},
		{"a table", "CREATE TABLE v AS SELECT 1" + long, ""},
		{"a query", "SELECT 1" + long, ""},
		{"a query in brackets", "(SELECT 1)" + long, ""},
		{"a configuration", "SET a=" + long, lost},
		{"a variable", "DECLARE a = 1" + long, lost},
		{"a script", "BEGIN SELECT 1; END" + long, lost},
		{"a script with a name", "a: BEGIN SELECT 1; END" + long, lost},
		{"a word of its own length", strings.Repeat("a", mostRead+1), ""},
		{"begins late", long + "SET a=b", lost},
		{"is named late", "CREATE " + long + "TEMP VIEW v AS SELECT 1", lost},
		// A text of 400,000 parts, which are put together in no time that anybody could wait for.
		{"many parts", "EXECUTE IMMEDIATE " + strings.Repeat(`'a'`, 400_000), lost},
		{"as many as are read", "EXECUTE IMMEDIATE " + strings.Repeat(`'a'"b"`, mostRead/6-4), ""},
	} {
		if got := short(readSQL([]byte(c.sql))); got != c.want {
			t.Errorf("%s: %.200q, want %q", c.name, got, c.want)
		}
	}
}

// What the first word lets go must be what the whole statement says, however it
// comes in pieces.
func checkKeyword(t *testing.T, sql string, piece int) {
	t.Helper()
	var k keyword
	known := false
	for rest := sql; rest != "" && !known; {
		n := min(piece, len(rest))
		known = k.add([]byte(rest[:n]))
		rest = rest[n:]
	}
	if !known {
		k.end()
	}
	if readStatement(sql) != nil && !stateWord(k.text()) {
		t.Errorf("%q changes the session, and its first word %q lets it go", sql, k.text())
	}
}

func TestKeyword(t *testing.T) {
	for _, c := range statements {
		for piece := 1; piece < 9; piece++ {
			checkKeyword(t, c.sql, piece)
		}
	}
	for sql, want := range map[string]string{
		"select 1": "SELECT", "/**/USE x": "USE", "/*/ USE */SET": "SET", "- USE": "", "/ USE": "", "--\r\nUSE": "USE",
		"(USE": "", strings.Repeat("a", 99): strings.Repeat("A", maxKeyword), "x :": labelWord, "/*": "", "": "",
	} {
		var k keyword
		if !k.add([]byte(sql)) {
			k.end()
		}
		if k.text() != want {
			t.Errorf("%q: %q, want %q", sql, k.text(), want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	for _, c := range statements {
		f.Add(c.sql, 3)
	}
	f.Fuzz(func(t *testing.T, sql string, piece int) {
		if piece < 1 || piece > 1<<20 || len(sql) > 1<<16 {
			return
		}
		checkKeyword(t, sql, piece)
	})
}
