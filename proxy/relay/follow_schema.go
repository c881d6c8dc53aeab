package relay

import (
	"errors"
	"fmt"
)

// Bounds of a Schema; they fix the size of a Follower.
const (
	maxFollowDepth  = 4  // messages inside one another, the outermost included
	maxFollowFields = 32 // fields named in one message

	// FollowSlots is how many values a Schema can have kept: slots 1 to FollowSlots.
	FollowSlots = 4
	// FollowText is the longest text kept, in bytes. Longer ones are followed, and
	// not kept.
	FollowText = 64
)

// FieldKind is how a followed field is encoded.
type FieldKind uint8

const (
	// FieldText is a string: valid UTF-8.
	FieldText FieldKind = iota + 1
	// FieldVarint is a bool, an enum or an integer that is neither fixed nor zigzag.
	FieldVarint
	// FieldMessage is a message; the Follower goes into it.
	FieldMessage
)

// Field names one field that a Follower looks at. Being named guards it: it has
// the wire type of its kind, and comes at most once unless Repeated.
type Field struct {
	// Number is the field's number, 1 to 2^29-1.
	Number uint32
	Kind   FieldKind
	// Repeated lets the field come more than once in its message. Its value is
	// then the last one; each is reported.
	Repeated bool
	// Slot, 1 to FollowSlots, keeps the value of a FieldText or FieldVarint and
	// reports it; of a FieldMessage, that it came, as the number 1, which is not
	// reported. 0 only guards the field.
	Slot int
	// Fields are the followed fields of a FieldMessage.
	Fields []Field
}

// Schema is the small tree of fields that a Follower looks at; all others are
// skipped by their length. It is immutable and shared by any number of
// Followers.
type Schema struct {
	fields []Field
}

var errSchema = errors.New("relay: bad schema")

// NewSchema checks the tree. The Fields belong to the Schema from here on.
func NewSchema(fields ...Field) (*Schema, error) {
	if err := checkFields(fields, 1); err != nil {
		return nil, err
	}
	return &Schema{fields: fields}, nil
}

func checkFields(fields []Field, depth int) error {
	if depth > maxFollowDepth {
		return fmt.Errorf("%w: deeper than %d messages", errSchema, maxFollowDepth)
	}
	if len(fields) > maxFollowFields {
		return fmt.Errorf("%w: more than %d fields in one message", errSchema, maxFollowFields)
	}
	numbers := make(map[uint32]bool, len(fields))
	for _, fd := range fields {
		if numbers[fd.Number] {
			return fmt.Errorf("%w: field %d is named twice", errSchema, fd.Number)
		}
		numbers[fd.Number] = true
		if err := checkField(fd, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkField(fd Field, depth int) error {
	switch {
	case fd.Number == 0 || fd.Number > maxFieldNumber:
		return fmt.Errorf("%w: no field has number %d", errSchema, fd.Number)
	case fd.Kind < FieldText || fd.Kind > FieldMessage:
		return fmt.Errorf("%w: field %d has no kind", errSchema, fd.Number)
	case fd.Slot < 0 || fd.Slot > FollowSlots:
		return fmt.Errorf("%w: field %d: no slot %d", errSchema, fd.Number, fd.Slot)
	case fd.Kind != FieldMessage && fd.Fields != nil:
		return fmt.Errorf("%w: field %d has fields and is no message", errSchema, fd.Number)
	case fd.Kind == FieldMessage:
		return checkFields(fd.Fields, depth+1)
	}
	return nil
}

// wire returns the protobuf wire type of a kind.
func (k FieldKind) wire() uint8 {
	if k == FieldVarint {
		return wireVarint
	}
	return wireBytes
}
