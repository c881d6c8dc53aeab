package proxy

// scan decides, from the first bytes of a request's message as they pass, whether
// the request may change the state of its Spark session. It holds no byte of it:
// a query is let go as soon as the plan says what it is, in its first tags.
//
// It is lenient where the Follower is strict: what it cannot read, an engine
// will not do.
type scan struct {
	verdict scanVerdict
	kind    scanKind
	depth   int8
	varN    uint8
	varint  uint64
	off     uint64
	skip    uint64
	act     scanField
	levels  [maxScanDepth]scanLevel
	word    keyword
}

type scanVerdict uint8

const (
	scanOpen  scanVerdict = iota // more bytes are needed
	scanLetGo                    // it changes nothing
	scanKeep                     // it may change the session
)

type scanKind uint8

const (
	scanTag scanKind = iota
	scanLength
	scanScalar
	scanSkip
	scanText
)

// maxScanDepth is how deep the fields lie that decide: request, plan, command,
// sql_command, input, with_relations, root, sql.
const maxScanDepth = 10

type scanLevel struct {
	node *scanNode
	end  uint64
}

// scanNode is a message on the way to what decides.
type scanNode struct {
	fields []scanField
	// others is what a field decides that is not named.
	others scanVerdict
}

type scanField struct {
	number uint64
	into   *scanNode // a message to look into
	text   bool      // the text of a statement
	ignore bool      // decides nothing
}

// scans are the trees that scan goes by.
type scans struct{ plan, config *scanNode }

func newScans() *scans {
	sql := &scanNode{fields: []scanField{{number: 1, text: true}}} // query
	input := &scanNode{others: scanLetGo}
	input.fields = []scanField{
		{number: 1, ignore: true}, {number: 10, into: sql}, // common, sql
		{number: 41, into: &scanNode{fields: []scanField{{number: 1, into: input}}}}, // with_relations.root
	}
	statement := &scanNode{fields: []scanField{{number: 1, text: true}, {number: 6, into: input}}} // sql, input
	command := &scanNode{others: scanLetGo, fields: []scanField{
		{number: 1}, {number: 3}, {number: 5, into: statement}, {number: 6}, {number: 10},
		{number: 11}, {number: 12}, {number: 14}, {number: 17},
	}}
	catalog := &scanNode{others: scanLetGo, fields: []scanField{{number: 2}, {number: 15}, {number: 16}, {number: 19}, {number: 25}}}
	root := &scanNode{others: scanLetGo, fields: []scanField{
		{number: 1, ignore: true}, {number: 10, into: sql}, {number: 200, into: catalog},
	}}
	plan := &scanNode{fields: []scanField{{number: 1, into: root}, {number: 2, into: command}, {number: 3}}}
	operation := &scanNode{others: scanLetGo, fields: []scanField{{number: 1}, {number: 6}}} // set, unset
	return &scans{
		plan:   &scanNode{fields: []scanField{{number: 3, into: plan}}},
		config: &scanNode{fields: []scanField{{number: 3, into: operation}}},
	}
}

// start makes s ready for the first byte of a message of that length.
func (s *scan) start(root *scanNode, length uint64) {
	*s = scan{}
	s.levels[0] = scanLevel{node: root, end: length}
}

// next takes the next bytes of the message.
func (s *scan) next(p []byte) scanVerdict {
	for s.verdict == scanOpen {
		if s.closeLevels(); s.verdict != scanOpen {
			break
		}
		if len(p) == 0 {
			break
		}
		n := s.step(p)
		s.off += uint64(n)
		p = p[n:]
	}
	return s.verdict
}

// closeLevels leaves messages that are complete. One that is complete with nothing
// decided decides nothing; the outermost lets go.
func (s *scan) closeLevels() {
	for s.kind == scanTag && s.varN == 0 && s.off == s.levels[s.depth].end {
		if s.depth == 0 {
			s.verdict = scanLetGo
			return
		}
		s.depth--
	}
}

func (s *scan) step(p []byte) int {
	switch s.kind {
	case scanSkip:
		n := min(uint64(len(p)), s.skip)
		if s.skip -= n; s.skip == 0 {
			s.kind = scanTag
		}
		return int(n)
	case scanText:
		n := min(uint64(len(p)), s.skip)
		known := s.word.add(p[:n])
		if s.skip -= n; s.skip == 0 && !known {
			s.word.end()
			known = s.word.state != keywordSpace // an empty text decides nothing: another field has it
			s.kind = scanTag
		}
		if known {
			s.decide(stateWord(s.word.text()))
		}
		return int(n)
	default:
		return s.readVarint(p)
	}
}

func (s *scan) decide(keep bool) {
	s.verdict = scanLetGo
	if keep {
		s.verdict = scanKeep
	}
}

func (s *scan) readVarint(p []byte) int {
	for i, b := range p {
		if s.varN == 10 || s.off+uint64(i) >= s.levels[s.depth].end {
			s.verdict = scanLetGo
			return i
		}
		s.varint |= uint64(b&0x7f) << (7 * s.varN)
		s.varN++
		if b < 0x80 {
			v := s.varint
			s.varint, s.varN = 0, 0
			s.haveVarint(v, s.off+uint64(i)+1)
			return i + 1
		}
	}
	return len(p)
}

// haveVarint acts on a tag, a length or a scalar that ends before off.
func (s *scan) haveVarint(v, off uint64) {
	switch s.kind {
	case scanTag:
		s.tag(v>>3, v&7)
	case scanLength:
		s.length(v, off)
	default:
		s.kind = scanTag
	}
}

func (s *scan) tag(number, wire uint64) {
	node := s.levels[s.depth].node
	s.act = scanField{ignore: true}
	named := false
	for _, f := range node.fields {
		if f.number == number {
			s.act, named = f, true
		}
	}
	switch {
	case !named && node.others != scanOpen:
		s.verdict = node.others
	case named && s.act.into == nil && !s.act.text && !s.act.ignore:
		s.verdict = scanKeep
	case wire == 0:
		s.kind = scanScalar
	case wire == 1:
		s.kind, s.skip = scanSkip, 8
	case wire == 2:
		s.kind = scanLength
	case wire == 5:
		s.kind, s.skip = scanSkip, 4
	default:
		s.verdict = scanLetGo
	}
}

func (s *scan) length(n, off uint64) {
	if n > s.levels[s.depth].end-off {
		s.verdict = scanLetGo
		return
	}
	s.skip = n
	switch {
	case s.act.into != nil && s.depth+1 < maxScanDepth:
		s.depth++
		s.levels[s.depth] = scanLevel{node: s.act.into, end: off + n}
		s.kind = scanTag
	case n == 0:
		s.kind = scanTag
	case s.act.text:
		s.word = keyword{}
		s.kind = scanText
	default:
		s.kind = scanSkip
	}
}
