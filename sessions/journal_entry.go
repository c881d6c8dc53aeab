package sessions

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// Entry is one act of a client that its Spark session's state consists of.
type Entry struct {
	// Method is that of the request: "ExecutePlan", "Config", "AddArtifacts".
	Method string `json:"method"`
	// What names what the act made, for its owner: "temporary view `x`".
	What string `json:"what"`
	// Replaces names what a later act of the same name undoes altogether, like the
	// configuration key of a SET; "" = nothing does.
	Replaces string `json:"replaces,omitempty"`
	// Makes and Drops are temporary views that are there after the act, or gone, in
	// lower case. A view that was dropped is dropped again only where a replay has
	// made it: by the same name there may be a lasting one.
	Makes string `json:"makes,omitempty"`
	Drops string `json:"drops,omitempty"`
	// DropsTable: Drops was named in DROP TABLE, which is for views too on Spark only.
	DropsTable bool `json:"drops_table,omitempty"`
	// Needs is a temporary view without which the act would reach something else.
	Needs string `json:"needs,omitempty"`
	// Lost says why the act cannot be carried; "" = it can. Notable is that of a Loss.
	Lost    string `json:"lost,omitempty"`
	Notable bool   `json:"notable,omitempty"`
	// Artifacts are what AddArtifacts brought, in order.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Message is the request message of the other methods, as the client sent it.
	Message []byte `json:"-"`
}

// Artifact is one file that was given to a Spark session.
type Artifact struct {
	// Name is as the engine heard it, like "pyfiles/a.py" or "cache/<hash>".
	Name string `json:"name"`
	// Sum is the SHA-256 of its content, in hex; Blob is the name of the blob that
	// holds it, which tells nothing to who has no key.
	Sum  string `json:"sum"`
	Blob string `json:"blob"`
	// Size in bytes.
	Size int64 `json:"size"`
	// Data is its content; nil where it lies in a blob.
	Data []byte `json:"-"`
}

var errEntry = errors.New("journal entry is malformed")

// encode writes the length of what describes the entry, that, and the message.
func (e *Entry) encode() ([]byte, error) {
	head, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode journal entry: %w", err)
	}
	out := make([]byte, 0, binary.MaxVarintLen64+len(head)+len(e.Message))
	out = binary.AppendUvarint(out, uint64(len(head)))
	return append(append(out, head...), e.Message...), nil
}

func decodeEntry(b []byte) (*Entry, error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, errEntry
	}
	head, message := b[used:used+int(n)], b[used+int(n):]
	e := &Entry{}
	if err := json.Unmarshal(head, e); err != nil {
		return nil, fmt.Errorf("%w: %w", errEntry, err)
	}
	if len(message) > 0 {
		e.Message = message
	}
	return e, nil
}
