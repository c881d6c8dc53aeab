package proxytest

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Spark Connect messages, field by field, so that wrong ones can be made as
// easily as right ones. Field numbers are those of spark/connect/base.proto.
const (
	fieldSessionID   = 1
	fieldUserContext = 2
	fieldUserID      = 1 // of UserContext
)

// Bytes is one length-delimited protobuf field.
func Bytes(num int, v []byte) []byte {
	b := protowire.AppendTag(nil, protowire.Number(num), protowire.BytesType) //nolint:gosec // field numbers are small
	return protowire.AppendBytes(b, v)
}

// Text is one string field.
func Text(num int, v string) []byte { return Bytes(num, []byte(v)) }

// Varint is one varint field.
func Varint(num int, v uint64) []byte {
	b := protowire.AppendTag(nil, protowire.Number(num), protowire.VarintType) //nolint:gosec // field numbers are small
	return protowire.AppendVarint(b, v)
}

// Join puts fields one after the other.
func Join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Request is the beginning that all requests of Spark Connect share, and more
// fields after it.
func Request(sparkID, user string, more ...[]byte) []byte {
	b := Text(fieldSessionID, sparkID)
	b = append(b, Bytes(fieldUserContext, Text(fieldUserID, user))...)
	return append(b, Join(more...)...)
}

// ExecutePlan is a request to run plan, which is opaque here.
func ExecutePlan(sparkID, user, operation string, reattachable bool, plan []byte) []byte {
	more := [][]byte{Bytes(3, plan), Text(4, "proxytest")}
	if reattachable {
		more = append(more, Bytes(5, Bytes(1, Varint(1, 1))))
	}
	if operation != "" {
		more = append(more, Text(6, operation))
	}
	return Request(sparkID, user, more...)
}

// Reattach is a ReattachExecute request.
func Reattach(sparkID, user, operation, lastResponse string) []byte {
	more := [][]byte{Text(3, operation)}
	if lastResponse != "" {
		more = append(more, Text(5, lastResponse))
	}
	return Request(sparkID, user, more...)
}

// Field returns the last occurrence of a length-delimited field in a message
// that is well formed, as protobuf parsers do, and "" without one.
func Field(msg []byte, num int) string {
	value := ""
	for len(msg) > 0 {
		n, typ, tag := protowire.ConsumeTag(msg)
		if tag < 0 {
			return value
		}
		size := protowire.ConsumeFieldValue(n, typ, msg[tag:])
		if size < 0 {
			return value
		}
		if int(n) == num && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(msg[tag:])
			value = string(v)
		}
		msg = msg[tag+size:]
	}
	return value
}

// UserID is user_context.user_id as a server reads it: occurrences of an
// embedded message are merged, so that the last user_id of all of them wins.
func UserID(msg []byte) string {
	merged := []byte(nil)
	for len(msg) > 0 {
		n, typ, tag := protowire.ConsumeTag(msg)
		if tag < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(n, typ, msg[tag:])
		if size < 0 {
			break
		}
		if n == fieldUserContext && typ == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(msg[tag:])
			merged = append(merged, v...)
		}
		msg = msg[tag+size:]
	}
	return Field(merged, fieldUserID)
}
