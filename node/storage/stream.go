package storage

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Header stands before a backend's own stream and says what follows, so that a receiver refuses what it
// cannot take before it begins.
type Header struct {
	Backend  string `json:"backend"`
	Snapshot string `json:"snapshot"`
	// GUID is the snapshot's, BaseGUID the base's; "" in a full stream.
	GUID     string `json:"guid"`
	BaseGUID string `json:"baseGuid,omitempty"`
	// Resumed says that the stream goes on with one that broke.
	Resumed bool `json:"resumed,omitempty"`
}

// magic begins every stream: the format's name and its version.
const magic = "ployz volume 1\n"

// maxHeaderBytes bounds what is read before a stream has said anything believable.
const maxHeaderBytes = 16 << 10

// Write writes the header: the magic, the length in four bytes, and JSON.
func (h Header) Write(w io.Writer) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(text))), text...))
	return err
}

// ReadHeader reads a header that the backend can take. Errors: volume.stream-damaged, volume.stream-foreign.
func ReadHeader(r io.Reader, backend string) (Header, error) {
	begin := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, begin); err != nil {
		return Header{}, damaged("it ends before its header does: %w", err)
	}
	length := binary.BigEndian.Uint32(begin[len(magic):])
	if string(begin[:len(magic)]) != magic || length > maxHeaderBytes {
		return Header{}, damaged("it does not begin as one")
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return Header{}, damaged("it ends inside its header: %w", err)
	}
	var h Header
	if err := json.Unmarshal(text, &h); err != nil {
		return Header{}, damaged("its header: %w", err)
	}
	if err := CheckName("snapshot", h.Snapshot); err != nil || h.GUID == "" {
		return Header{}, damaged("its header names no snapshot")
	}
	if h.Backend != backend {
		return Header{}, StreamForeign(h.Backend, backend)
	}
	return h, nil
}

func damaged(format string, args ...any) error { return StreamDamaged(fmt.Errorf(format, args...)) }

// Drain reads the rest of a stream that is not wanted, so that its sender is not cut off.
func Drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, bufio.NewReader(r))
	return err
}
