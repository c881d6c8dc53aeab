package proxy

import (
	"strings"

	"github.com/sconce-dev/sconce/sessions"
)

// pure are the words before a bracket that are no functions, or whose functions have
// one value for the same arguments, at any time and on any engine; the operators that may stand
// before a bracket are among them.
var pure = func() map[string]bool {
	list := map[string]bool{}
	for _, word := range strings.Fields(`
		VAR VARIABLE DEFAULT SELECT IN AND OR NOT BETWEEN LIKE WHEN THEN ELSE CASE IS AS DISTINCT
		DECIMAL DEC NUMERIC CHAR CHARACTER VARCHAR ARRAY MAP STRUCT NAMED_STRUCT CAST TRY_CAST INTERVAL
		STRING BOOLEAN TINYINT SMALLINT INT BIGINT FLOAT DOUBLE BINARY DATE TIMESTAMP
		ABS CEIL CEILING FLOOR ROUND SIGN SQRT POW POWER MOD LEAST GREATEST COALESCE NULLIF NVL IF IFNULL
		CONCAT CONCAT_WS UPPER LOWER TRIM LTRIM RTRIM LENGTH REPLACE SUBSTR SUBSTRING SPLIT FORMAT_STRING
		MAKE_DATE MAKE_INTERVAL DATE_ADD DATE_SUB ADD_MONTHS DATEDIFF YEAR MONTH DAY SEQUENCE SIZE ELEMENT_AT`) {
		list[word] = true
	}
	return list
}()

// moments are the words that stand for what changes, without brackets, and those by which
// an expression reads a table.
var moments = map[string]bool{
	"FROM": true, "TABLE": true,
	"CURRENT_DATE": true, "CURRENT_TIME": true, "CURRENT_TIMESTAMP": true, "LOCALTIMESTAMP": true,
	"CURRENT_USER": true, "SESSION_USER": true, "USER": true,
	"CURRENT_CATALOG": true, "CURRENT_DATABASE": true, "CURRENT_SCHEMA": true,
}

// variables is the entry of a statement that sets session variables to what comes next.
// What was computed from a table, from the time or by chance is not computed again: it
// would be something else.
func variables(what string, l *lexer) *sessions.Entry {
	before := lexeme{}
	for t := l.next(); t.kind != lexemeEnd; t = l.next() {
		calls := t.text == "(" && (before.kind == lexemeName || before.kind == lexemeWord && !pure[before.up])
		if calls || t.kind == lexemeWord && moments[t.up] {
			return variable(what)
		}
		before = t
	}
	return &sessions.Entry{What: what}
}

func variable(what string) *sessions.Entry {
	return &sessions.Entry{What: what, Lost: "its value was computed, and another time it would be another", Notable: true}
}
