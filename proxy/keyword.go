package proxy

// keyword finds the first word of a SQL statement that comes in pieces, past
// spaces and comments, in constant memory.
type keyword struct {
	state keywordState
	depth int  // of bracketed comments inside one another
	last  byte // the byte before, inside a bracketed comment
	n     uint8
	word  [maxKeyword]byte // upper case
}

// maxKeyword is longer than every word that is looked for, in bytes.
const maxKeyword = 12

type keywordState uint8

const (
	keywordSpace    keywordState = iota // before the word
	keywordDash                         // after one "-"
	keywordLine                         // inside a comment to the end of the line
	keywordEscape                       // in it, after "\"
	keywordSlash                        // after one "/"
	keywordComment                      // inside a bracketed comment
	keywordWord                         // inside the word
	keywordAfter                        // behind it, where a colon makes it a label
	keywordComplete                     // the word is there
	keywordNone                         // there is none: the statement begins otherwise
)

// add takes the next bytes and says whether the word, or that there is none, is known.
func (k *keyword) add(p []byte) bool {
	for _, b := range p {
		if k.state >= keywordComplete {
			return true
		}
		k.next(b)
	}
	return k.state >= keywordComplete
}

// end says that the statement is over.
func (k *keyword) end() {
	if k.state == keywordWord || k.state == keywordAfter {
		k.state = keywordComplete
	}
}

// text is the word in upper case, "" if there is none. A label is "LABEL:".
func (k *keyword) text() string {
	if k.state != keywordComplete {
		return ""
	}
	return string(k.word[:k.n])
}

func (k *keyword) next(b byte) {
	switch k.state {
	case keywordSpace:
		k.begin(b)
	case keywordDash:
		k.state = keywordNone
		if b == '-' {
			k.state = keywordLine
		}
	case keywordLine:
		switch b {
		case '\n', '\r':
			k.state = keywordSpace
		case '\\':
			k.state = keywordEscape
		}
	case keywordEscape:
		k.state = keywordLine
	case keywordSlash:
		k.state = keywordNone
		if b == '*' {
			k.state, k.depth, k.last = keywordComment, 1, 0
		}
	case keywordComment:
		k.comment(b)
	case keywordWord:
		switch {
		case isWord(b):
			k.letter(b)
		case b >= 0x80:
			k.label()
		default:
			k.state = keywordAfter
			k.next(b)
		}
	case keywordAfter:
		switch {
		case isSpace(b):
		case b == ':', (b == '/' || b == '-') && !k.queries(): // behind a comment there may be a colon
			k.label()
		default:
			k.state = keywordComplete
		}
	}
}

// label says that there is a label, or may be one: who keeps the statement for it keeps
// one too many at worst.
func (k *keyword) label() {
	k.n = uint8(copy(k.word[:], labelWord))
	k.state = keywordComplete
}

// queries says that the word begins a query, in which a comment is no surprise.
func (k *keyword) queries() bool {
	switch string(k.word[:k.n]) {
	case "SELECT", "WITH", "INSERT", "VALUES", "EXPLAIN", "MERGE", "FROM":
		return true
	}
	return false
}

func (k *keyword) begin(b byte) {
	switch {
	case isSpace(b):
	case b == '-':
		k.state = keywordDash
	case b == '/':
		k.state = keywordSlash
	case isWord(b):
		k.state = keywordWord
		k.letter(b)
	case b == '`' || b >= 0x80:
		k.label() // nothing else begins so
	default:
		k.state = keywordNone
	}
}

func (k *keyword) letter(b byte) {
	if k.n == maxKeyword {
		return // longer than any that matters: what is kept matches none
	}
	if 'a' <= b && b <= 'z' {
		b -= 'a' - 'A'
	}
	k.word[k.n] = b
	k.n++
}

// comment goes through a bracketed comment; they nest.
func (k *keyword) comment(b byte) {
	switch {
	case k.last == '/' && b == '*':
		k.depth++
		b = 0
	case k.last == '*' && b == '/':
		k.depth--
		b = 0
	}
	k.last = b
	if k.depth == 0 {
		k.state = keywordSpace
	}
}

const labelWord = "LABEL:"

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

func isWord(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// stateWord says whether the word begins a statement that may change a session.
func stateWord(word string) bool {
	switch word {
	case "SET", "RESET", "USE", "CREATE", "DROP", "ALTER", "CACHE", "DECLARE", "ADD", "EXECUTE", "BEGIN", labelWord:
		return true
	}
	return false
}
