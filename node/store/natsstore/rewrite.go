package natsstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
)

// revisionGap is added to the last revision when a store begins a new generation. What is restored may
// lack the newest writes, and a revision, which is also a fence, must never be given out twice.
const revisionGap = 1 << 20

// stateEntry is the first entry of nats-server's snapshots; an entry without name and sequence is the last.
const stateEntry = "state.json"

// rewritten says what a rewriting let through.
type rewritten struct {
	last     store.Revision
	messages uint64
	digest   Digest
	sum      [sha256.Size]byte
}

// rewrite copies a snapshot of a stream and gives every message the subject that it has in the new
// generation. Subjects carry the generation, so the server's own restore would bring back messages
// that belong to no subject of the stream; publishing them again would change every revision. So the
// snapshot's records are copied one by one, with their sequences, times and headers as they are, and
// only the last sequence is moved on, by the revision gap.
func rewrite(to io.Writer, from io.Reader, oldPrefix, newPrefix string) (rewritten, error) {
	var out rewritten
	in := archive.NewReader(s2.NewReader(from))
	packed := s2.NewWriter(to)
	w := archive.NewWriter(packed)
	for {
		header, err := in.Next()
		if err != nil {
			return out, cutShort(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return out, cutShort(err)
		}
		end := header.Sequence == 0 && header.Name == ""
		if !end {
			if content, err = out.pass(header, content, oldPrefix, newPrefix); err != nil {
				return out, err
			}
		}
		if err := writeEntry(w, header, content); err != nil {
			return out, err
		}
		if end {
			out.digest.Sum = hex.EncodeToString(out.sum[:])
			return out, errors.Join(drain(in), w.Close(), packed.Close())
		}
	}
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(errCutShort)
	}
	return damaged(err)
}

// drain reads to the end, so that whoever checks the file's seal gets to it.
func drain(in *archive.Reader) error {
	_, err := in.Next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return damaged(fmt.Errorf("something follows the end of a snapshot: %w", err))
}

func writeEntry(w *archive.Writer, header *archive.Header, content []byte) error {
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// pass changes one entry's header in place and returns its content.
func (r *rewritten) pass(header *archive.Header, content []byte, oldPrefix, newPrefix string) ([]byte, error) {
	if header.Sequence == 0 {
		if header.Name != stateEntry {
			return nil, damaged(fmt.Errorf("an entry %q in a snapshot", header.Name))
		}
		return r.passState(header, content)
	}
	key, mine := strings.CutPrefix(header.Name, oldPrefix)
	if !mine {
		return nil, damaged(fmt.Errorf("a message of subject %q, which is not below %s", header.Name, oldPrefix))
	}
	header.Name = newPrefix + key
	r.messages++
	return content, r.count(store.Key(key), header, content)
}

// passState moves the last sequence on.
func (r *rewritten) passState(header *archive.Header, content []byte) ([]byte, error) {
	state := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	if err := d.Decode(&state); err != nil {
		return nil, damaged(err)
	}
	number, _ := state["last_seq"].(json.Number)
	last, err := number.Int64()
	if err != nil {
		return nil, damaged(fmt.Errorf("a snapshot without its last revision: %w", err))
	}
	r.last = store.Revision(last) + revisionGap
	if number, _ := state["first_seq"].(json.Number); number == "0" {
		state["first_seq"] = 1 // an empty stream that was never written to
	}
	state["last_seq"] = uint64(r.last)
	text, err := json.Marshal(state)
	header.PayloadSize = int64(len(text))
	return text, err
}

// count adds what Digest counts: everything without a TTL.
func (r *rewritten) count(key store.Key, header *archive.Header, content []byte) error {
	headers := nats.Header{}
	if header.HeaderSize > 0 {
		var err error
		if headers, err = nats.DecodeHeadersMsg(content[:header.HeaderSize]); err != nil {
			return damaged(err)
		}
	}
	if headers.Get(headerTTL) == "" {
		r.digest.Facts++
		addHash(&r.sum, key, header.Sequence, headers.Get(headerOperation), content[header.HeaderSize:])
	}
	return nil
}
