package proxy

import "strings"

// lexeme is a word, a name, a text or a sign of a SQL statement.
type lexeme struct {
	kind lexemeKind
	text string // of a name without its quotes, of a text without them too
	up   string // of a word, in upper case; "" otherwise
	at   int    // where it begins
}

// named says that it names something.
func (t lexeme) named() bool { return t.kind == lexemeWord || t.kind == lexemeName }

type lexemeKind uint8

const (
	lexemeEnd lexemeKind = iota
	lexemeWord
	lexemeName // in backticks
	lexemeText // in quotes
	lexemeSign
)

// lexer cuts a SQL statement into tokens, past spaces and comments, as Spark's
// grammar does. It is lenient: a statement that it cuts wrongly is one that
// engines refuse.
type lexer struct {
	sql string
	at  int
}

func (l *lexer) next() lexeme {
	l.skip()
	if l.at >= len(l.sql) {
		return lexeme{at: l.at}
	}
	begin := l.at
	switch b := l.sql[begin]; {
	case b == '`' || b == '\'' || b == '"':
		return l.quoted(b)
	case isWord(b) || b >= 0x80:
		for l.at < len(l.sql) && (isWord(l.sql[l.at]) || l.sql[l.at] >= 0x80) {
			l.at++
		}
		text := l.sql[begin:l.at]
		return lexeme{kind: lexemeWord, text: text, up: strings.ToUpper(text), at: begin}
	default:
		l.at++
		return lexeme{kind: lexemeSign, text: l.sql[begin:l.at], at: begin}
	}
}

// peek is the token that next will return.
func (l *lexer) peek() lexeme {
	at := l.at
	t := l.next()
	l.at = at
	return t
}

// take takes the next token if it is one of these words, and returns it in upper case.
func (l *lexer) take(words ...string) string {
	t := l.peek()
	for _, w := range words {
		if t.kind == lexemeWord && t.up == w {
			l.next()
			return w
		}
	}
	return ""
}

// sign takes the next token if it is that sign.
func (l *lexer) sign(s string) bool {
	if t := l.peek(); t.kind != lexemeSign || t.text != s {
		return false
	}
	l.next()
	return true
}

// name takes a name of one or several parts.
func (l *lexer) name() (parts []string) {
	for {
		t := l.next()
		if !t.named() {
			return parts
		}
		parts = append(parts, t.text)
		if !l.sign(".") {
			return parts
		}
	}
}

// over says that nothing follows but semicolons.
func (l *lexer) over() bool {
	for l.sign(";") {
	}
	return l.peek().kind == lexemeEnd
}

func (l *lexer) quoted(quote byte) lexeme {
	begin := l.at
	var text strings.Builder
	for l.at++; l.at < len(l.sql); l.at++ {
		b := l.sql[l.at]
		switch {
		case b == '\\' && quote != '`' && l.at+1 < len(l.sql):
			text.WriteByte(b)
			l.at++
			b = l.sql[l.at]
		case b == quote && l.at+1 < len(l.sql) && l.sql[l.at+1] == quote:
			l.at++
		case b == quote:
			l.at++
			kind := lexemeText
			if quote == '`' {
				kind = lexemeName
			}
			return lexeme{kind: kind, text: text.String(), at: begin}
		}
		text.WriteByte(b)
	}
	return lexeme{kind: lexemeSign, text: "", at: begin} // it does not end
}

// skip passes spaces and comments.
func (l *lexer) skip() {
	for l.at < len(l.sql) {
		rest := l.sql[l.at:]
		switch {
		case isSpace(rest[0]):
			l.at++
		case strings.HasPrefix(rest, "--"):
			l.line()
		case strings.HasPrefix(rest, "/*"):
			l.comment()
		default:
			return
		}
	}
}

func (l *lexer) line() {
	for ; l.at < len(l.sql); l.at++ {
		switch l.sql[l.at] {
		case '\\':
			l.at++
		case '\n', '\r':
			return
		}
	}
	l.at = len(l.sql)
}

// comment passes a bracketed comment; they nest.
func (l *lexer) comment() {
	depth := 0
	for l.at < len(l.sql) {
		switch rest := l.sql[l.at:]; {
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.at += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.at += 2
		default:
			l.at++
		}
		if depth == 0 {
			return
		}
	}
}
