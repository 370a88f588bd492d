package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ployz/ployz/node/storage"
)

// kind says what a frame holds.
type kind byte

const (
	kindWant    kind = 'w'
	kindPlan    kind = 'p'
	kindGo      kind = 'g'
	kindBytes   kind = 'd'
	kindEnd     kind = 'e'
	kindReceipt kind = 'r'
	kindRefuse  kind = 'x'
	kindBeat    kind = 'b'
)

// greeting begins what each side says: the protocol's name and its version.
const greeting = "ployz transfer 1\n"

const (
	headBytes = 13
	// maxPayloadBytes bounds a frame, and with it what a side must hold: four times what a pipe gives at once,
	// so that the heads and the calls to send one cost nothing beside it.
	maxPayloadBytes = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func headSum(number uint64, head []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint64(nil, number), castagnoli), castagnoli, head)
}

// frameWriter writes frames in their order.
type frameWriter struct {
	w      io.Writer
	number uint64
}

// write writes one frame in one call. framed is the payload behind headBytes of room.
func (f *frameWriter) write(k kind, framed []byte) error {
	payload := framed[headBytes:]
	if len(payload) > maxPayloadBytes {
		return fmt.Errorf("a frame of %d bytes; the most is %d", len(payload), maxPayloadBytes)
	}
	framed[0] = byte(k)
	binary.BigEndian.PutUint32(framed[1:], uint32(len(payload)))
	binary.BigEndian.PutUint32(framed[5:], crc32.Checksum(payload, castagnoli))
	binary.BigEndian.PutUint32(framed[9:], headSum(f.number, framed[:9]))
	f.number++
	_, err := f.w.Write(framed)
	return err
}

// frameReader reads frames in their order. What it returns as volume.stream-damaged is the bytes' fault, and
// everything else the connection's.
type frameReader struct {
	r      *bufio.Reader
	number uint64
	sum    uint32 // of the payload that follows
}

// head reads the head of the next frame: what it is and how long its payload.
func (f *frameReader) head() (k kind, length int, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, 0, err
	}
	if headSum(f.number, head[:9]) != binary.BigEndian.Uint32(head[9:]) {
		return 0, 0, f.damaged("its head is not as it was sent")
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPayloadBytes {
		return 0, 0, f.damaged("it claims %d bytes, and the most is %d", n, maxPayloadBytes)
	}
	f.sum = binary.BigEndian.Uint32(head[5:])
	return kind(head[0]), int(n), nil
}

// body reads the payload whose head was read into all of payload.
func (f *frameReader) body(payload []byte) error {
	if _, err := io.ReadFull(f.r, payload); err != nil {
		if errors.Is(err, io.EOF) && len(payload) > 0 {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	if crc32.Checksum(payload, castagnoli) != f.sum {
		return f.damaged("its contents are not as they were sent")
	}
	f.number++
	return nil
}

func (f *frameReader) damaged(format string, args ...any) error {
	return storage.StreamDamaged(fmt.Errorf("frame %d of the transfer: "+format, append([]any{f.number}, args...)...))
}
