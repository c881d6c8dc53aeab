package proxy

import (
	"strings"

	"github.com/sconce-dev/sconce/sessions"
)

// mostRead is how much of a SQL statement is read, in bytes: people's are shorter, and
// longer ones are mostly a view of many values, whose name comes first.
const mostRead = 1 << 20

// readSQL is readStatement for a text of any length.
func readSQL(sql []byte) *sessions.Entry {
	if len(sql) <= mostRead {
		return readStatement(string(sql))
	}
	l := &lexer{sql: string(sql[:mostRead])}
	switch first := l.next(); {
	case first.up == "CREATE":
		e := readCreate(l)
		if l.peek().kind != lexemeEnd {
			return e
		}
	case first.kind != lexemeEnd && !stateWord(first.up) && !(first.named() && l.sign(":")):
		return nil
	}
	return &sessions.Entry{What: "what a SQL statement changed", Lost: "it is longer than " + sizeText(mostRead) + ", the most that is read of one", Notable: true}
}

// readStatement says what a SQL statement does to the session that it runs in:
// the entry for its journal, or nil where it leaves the session as it is. A
// statement that changes what lasts (a table, a lasting view, a database) is not in
// the journal: doing it again would be wrong.
func readStatement(sql string) *sessions.Entry {
	l := &lexer{sql: sql}
	switch l.take("SET", "RESET", "USE", "CREATE", "DROP", "ALTER", "CACHE", "DECLARE", "ADD", "EXECUTE", "BEGIN") {
	case "SET":
		return readSet(l)
	case "RESET":
		return readReset(l)
	case "USE":
		return &sessions.Entry{What: "the current catalog and database (USE)"}
	case "CREATE":
		return readCreate(l)
	case "DROP":
		return readDrop(l)
	case "ALTER":
		return readAlter(l)
	case "CACHE":
		return readCache(l)
	case "DECLARE":
		return readDeclare(l)
	case "ADD":
		return readAdd(l)
	case "EXECUTE":
		return readExecute(l)
	case "BEGIN":
		return readScript(l)
	}
	if label := l.next(); label.named() && l.sign(":") && l.take("BEGIN") != "" {
		return readScript(l)
	}
	return nil
}

// confEntry is an act that a later one for the same key undoes altogether.
func confEntry(key string) *sessions.Entry {
	return &sessions.Entry{What: "the configuration " + key, Replaces: "conf " + key}
}

const timeZone = "spark.sql.session.timeZone"

func readSet(l *lexer) *sessions.Entry {
	if l.over() {
		return nil // shows all
	}
	switch begin := l.at; l.take("VAR", "VARIABLE", "TIME", "CATALOG") {
	case "VAR", "VARIABLE":
		if l.peek().text != "=" {
			return variables("session variables (SET VARIABLE)", l)
		}
		l.at = begin
	case "TIME":
		if l.take("ZONE") != "" {
			return confEntry(timeZone)
		}
		l.at = begin
	case "CATALOG":
		if l.peek().text != "=" {
			return &sessions.Entry{What: "the current catalog (SET CATALOG)"}
		}
		l.at = begin
	}
	key, _, sets := strings.Cut(l.sql[l.peek().at:], "=")
	if !sets {
		return nil // shows one
	}
	return confEntry(strings.Trim(strings.TrimSpace(key), "`"))
}

func readReset(l *lexer) *sessions.Entry {
	if l.over() {
		return &sessions.Entry{What: "the configuration (RESET)"}
	}
	key := strings.TrimRight(l.sql[l.peek().at:], "; \t\r\n")
	return confEntry(strings.Trim(key, "`"))
}

// viewName is how the journal names a temporary view: one part in lower case, or
// two where it is a global one. "" = a name of something that lasts.
func viewName(parts []string) string {
	switch {
	case len(parts) == 1:
		return strings.ToLower(parts[0])
	case len(parts) == 2 && strings.EqualFold(parts[0], "global_temp"):
		return "global_temp." + strings.ToLower(parts[1])
	}
	return ""
}

func quote(parts []string) string { return "`" + strings.Join(parts, "`.`") + "`" }

func readCreate(l *lexer) *sessions.Entry {
	global, temporary := false, false
	for {
		switch l.take("OR", "REPLACE", "GLOBAL", "LOCAL", "TEMP", "TEMPORARY") {
		case "GLOBAL":
			global = true
			continue
		case "TEMP", "TEMPORARY":
			temporary = true
			continue
		case "":
		default:
			continue
		}
		break
	}
	if !temporary {
		return nil
	}
	kind := l.next()
	if l.take("IF") != "" {
		l.take("NOT")
		l.take("EXISTS")
	}
	name := l.name()
	if kind.up != "VIEW" && kind.up != "TABLE" {
		return &sessions.Entry{What: "temporary " + strings.ToLower(kind.text) + " " + quote(name)}
	}
	if global {
		name = append([]string{"global_temp"}, name...)
	}
	return madeView(name)
}

func madeView(name []string) *sessions.Entry {
	return &sessions.Entry{What: "temporary view " + quote(name), Makes: viewName(name)}
}

func readDrop(l *lexer) *sessions.Entry {
	temporary := l.take("TEMP", "TEMPORARY") != ""
	kind := l.next()
	if l.take("IF") != "" {
		l.take("EXISTS")
	}
	name := l.name()
	what := "the drop of " + strings.ToLower(kind.text) + " " + quote(name)
	switch {
	case temporary:
		return &sessions.Entry{What: what}
	case (kind.up == "VIEW" || kind.up == "TABLE") && viewName(name) != "":
		return &sessions.Entry{What: what, Drops: viewName(name), DropsTable: kind.up == "TABLE"}
	}
	return nil
}

func readAlter(l *lexer) *sessions.Entry {
	kind := l.take("VIEW", "TABLE")
	if kind == "" {
		return nil
	}
	name := l.name()
	view := viewName(name)
	if view == "" {
		return nil
	}
	if l.take("RENAME") != "" {
		l.take("TO")
		to := l.name()
		if viewName(to) == "" || l.peek().kind == lexemeWord { // RENAME COLUMN a TO b, of a table
			return nil
		}
		e := madeView(to)
		e.Drops = view
		return e
	}
	if kind == "TABLE" {
		return nil
	}
	return &sessions.Entry{What: "temporary view " + quote(name) + " as it was altered", Needs: view}
}

// readCache reads CACHE TABLE: with a query it makes a temporary view.
func readCache(l *lexer) *sessions.Entry {
	l.take("LAZY")
	l.take("TABLE")
	name := l.name()
	if l.take("OPTIONS") != "" {
		for t := l.next(); t.kind != lexemeEnd && t.text != ")"; {
			t = l.next()
		}
	}
	if l.over() {
		return cachedTable(quote(name))
	}
	return madeView(name)
}

func cachedTable(name string) *sessions.Entry {
	return &sessions.Entry{What: "the cache of table " + name, Lost: "what an engine caches ends with it"}
}

func readDeclare(l *lexer) *sessions.Entry {
	for l.take("OR", "REPLACE", "VAR", "VARIABLE") != "" {
	}
	what := "session variable " + quote(l.name())
	for t := l.next(); t.kind != lexemeEnd && t.up != "DEFAULT" && t.text != "="; {
		t = l.next()
	}
	return variables(what, l)
}

func readAdd(l *lexer) *sessions.Entry {
	kind := l.take("JAR", "JARS", "FILE", "FILES", "ARCHIVE", "ARCHIVES")
	if kind == "" {
		return nil
	}
	return &sessions.Entry{What: "what ADD " + kind + " added"}
}

// readExecute reads EXECUTE IMMEDIATE: a text is read in its turn; what a variable
// holds is not known here.
func readExecute(l *lexer) *sessions.Entry {
	if l.take("IMMEDIATE") == "" {
		return nil
	}
	var text strings.Builder
	texts := 0
	for ; l.peek().kind == lexemeText; texts++ {
		text.WriteString(l.next().text)
	}
	inner, next := text.String(), l.peek()
	if l.take("INTO") != "" {
		return variable("what EXECUTE IMMEDIATE stored in " + quote(l.name()))
	}
	if texts == 0 || strings.Contains(inner, `\`) || next.kind == lexemeSign && next.text != ";" {
		return &sessions.Entry{What: "what EXECUTE IMMEDIATE ran", Lost: "its statement is not in its text, so it cannot be told what it changed", Notable: true}
	}
	return readStatement(inner)
}

// readScript reads a BEGIN ... END: it is not done again, since it may hold
// anything, and is noted where it may have changed the session.
func readScript(l *lexer) *sessions.Entry {
	for t := l.next(); t.kind != lexemeEnd; t = l.next() {
		changes := false
		switch t.up {
		case "TEMP", "TEMPORARY", "USE", "RESET", "IMMEDIATE":
			changes = true
		case "SET":
			// A name without a point is a variable of the script.
			changes = len(l.name()) > 1 || l.take("ZONE") != ""
		}
		if changes && t.kind == lexemeWord {
			return &sessions.Entry{What: "what a SQL script changed", Lost: "scripts are not run again", Notable: true}
		}
	}
	return nil
}
