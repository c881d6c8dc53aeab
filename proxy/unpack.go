package proxy

import (
	"github.com/klauspost/compress/zstd"

	"github.com/sconce-dev/sconce/proto/spark/connect"
	"github.com/sconce-dev/sconce/sessions"
)

// maxUnpacked bounds what a compressed command may be, in bytes. Clients compress
// plans above 10 MB.
const maxUnpacked = 128 << 20

// unpacking lets one compressed plan be read at a time: they are rare, and large.
var unpacking = make(chan struct{}, 1)

// unpack reads a Plan.CompressedOperation, as far as it is a command. Only what it
// does is read; the journal keeps it as it came. The caller has unpacking.
func unpack(packed []byte) (command []byte, lost *sessions.Entry) {
	kind := digVarint(packed, 2)
	if connect.Plan_CompressedOperation_OpType(kind) != connect.Plan_CompressedOperation_OP_TYPE_COMMAND {
		return nil, nil
	}
	unknown := &sessions.Entry{What: "a command that was sent compressed", Lost: "it could not be read", Notable: true}
	if connect.CompressionCodec(digVarint(packed, 3)) != connect.CompressionCodec_COMPRESSION_CODEC_ZSTD {
		return nil, unknown
	}
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return nil, unknown
	}
	defer reader.Close()
	if command, err = reader.DecodeAll(dig(packed, 1), nil); err != nil {
		return nil, unknown
	}
	return command, nil
}
