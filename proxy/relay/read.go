package relay

// Reader is what a Call may be besides: it sees the messages of the answer that came
// in one piece, as all small ones do from servers that write each by itself.
type Reader interface {
	// Reads is asked once, when the answer's headers have come.
	Reads() bool

	// Read sees each message before it goes on, in order: what is behind its prefix; nil
	// in place of one that is compressed or came in several pieces. It must neither
	// block nor change or keep the bytes.
	Read(message []byte)
}

// askReader asks the call whether it reads the answer. The backend's reader calls it.
func (s *Stream) askReader() {
	if r, ok := s.call.(Reader); ok && r.Reads() {
		s.follow.reader = r
	}
}

// show gives the message whose prefix is known to the reader; p is what there is of it,
// and what follows.
func (f *responseFollow) show(p []byte) {
	switch {
	case f.reader == nil:
	case f.prefix[0] == 0 && f.left <= uint64(len(p)):
		f.reader.Read(p[:f.left])
	default:
		f.reader.Read(nil)
	}
}
