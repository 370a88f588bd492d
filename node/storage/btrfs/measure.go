package btrfs

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/ployz/ployz/node/api"
)

// The form of a send stream: a magic and a version, then commands of a length, a number and a checksum, whose
// attributes are each a number, a length and a value; all little endian.
const (
	sendMagic      = "btrfs-stream\x00"
	commandExtent  = 22 // BTRFS_SEND_C_UPDATE_EXTENT: what a stream without data has in place of a write
	attributeSize  = 4  // BTRFS_SEND_A_SIZE
	commandHeader  = 10
	maxCommandSize = 1 << 20
	// writeOverhead is what a write has besides its contents, of which one carries at most writeSize bytes.
	writeOverhead, writeSize = 64, 48 << 10
)

// measure reads a stream without data, and returns how long it would be with them.
func measure(r io.Reader) (int64, error) {
	begin := make([]byte, len(sendMagic)+4)
	if _, err := io.ReadFull(r, begin); err != nil {
		return 0, unmeasured(err)
	}
	if string(begin[:len(sendMagic)]) != sendMagic {
		return 0, unmeasured(errors.New("it has no magic"))
	}
	total := int64(len(begin))
	head := make([]byte, commandHeader)
	for {
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return total, nil
		} else if err != nil {
			return 0, unmeasured(err)
		}
		length, number := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint16(head[4:])
		if length > maxCommandSize {
			return 0, unmeasured(errors.New("a command of it is too long"))
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			return 0, unmeasured(err)
		}
		total += commandHeader + int64(length)
		if number == commandExtent {
			size := attribute(body, attributeSize)
			total += size + size/writeSize*writeOverhead
		}
	}
}

// attribute is a number among a command's attributes; 0 where it has none.
func attribute(body []byte, want uint16) int64 {
	for len(body) >= 4 {
		number, length := binary.LittleEndian.Uint16(body), int(binary.LittleEndian.Uint16(body[2:]))
		body = body[4:]
		if length > len(body) {
			return 0
		}
		if number == want && length == 8 {
			return int64(binary.LittleEndian.Uint64(body))
		}
		body = body[length:]
	}
	return 0
}

func unmeasured(err error) error {
	if api.CodeOf(err) != api.CodeInternal {
		return err // what btrfs send said
	}
	return api.Errorf(api.CodeVolumePoolFailed, "the stream's length cannot be told: %w", err)
}
