package filestore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// line is one line of the journal.
type line struct {
	// Sum is the CRC-32C of Entry's bytes as they stand there, in hex.
	Sum   string          `json:"sum"`
	Entry json.RawMessage `json:"entry"`
}

// entry is one write: a batch, or with an operation a record of the ledger.
type entry struct {
	// Line counts from 1, so that a line that is lost or there twice is found out.
	Line      int       `json:"line"`
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	Puts      []put     `json:"puts,omitempty"`
	Operation string    `json:"operation,omitempty"`
	Value     []byte    `json:"value,omitempty"`
}

// put is store.Put without its guard, which held.
type put struct {
	Key        store.Key `json:"key"`
	Value      []byte    `json:"value,omitempty"`
	TTLSeconds int64     `json:"ttl_seconds,omitempty"`
	Remove     bool      `json:"remove,omitempty"`
}

func sum(text []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

func seal(e entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	text, err = json.Marshal(line{sum(text), text})
	return append(text, '\n'), err
}

func unseal(text []byte, number int) (e entry, err error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return e, err
	}
	if got := sum(l.Entry); got != l.Sum {
		return e, fmt.Errorf("its checksum is %s and not %q", got, l.Sum)
	}
	if err := json.Unmarshal(l.Entry, &e); err != nil {
		return e, err
	}
	if e.Line != number {
		return e, fmt.Errorf("it calls itself line %d", e.Line)
	}
	return e, nil
}

// replay takes in every whole line of a journal.
func (s *Store) replay(path string, text []byte) error {
	for len(text) > 0 {
		first, rest, whole := bytes.Cut(text, []byte("\n"))
		e, err := unseal(first, s.lines+1)
		if !whole || err != nil && len(rest) == 0 && unwritten(first) {
			return nil
		}
		if err != nil {
			return api.Errorf(api.CodeStoreDamaged, "line %d of the journal is damaged: %w", s.lines+1, err).About(path).
				WithHint("it knows only of an unfinished init; put it aside and begin again: mv %s %s.damaged && ployzctl init", path, path)
		}
		s.applyLocked(e, len(first)+1)
		text = rest
	}
	return nil
}

// unwritten tells a line whose last page reached the disk before another one from a line that was
// damaged later: the missing page reads as zeros, and JSON holds none.
func unwritten(text []byte) bool { return bytes.IndexByte(text, 0) >= 0 }

// writeLocked makes an entry durable and takes it in. Errors: store.full and store.unavailable
// (not written), store.uncertain (written, and the disk did not confirm it).
func (s *Store) writeLocked(what string, e entry) error {
	e.Line = s.lines + 1
	text, err := seal(e)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding %s: %w", what, err)
	}
	if _, err := s.journal.Write(text); err != nil {
		return s.takeBackLocked(what, err)
	}
	if err := s.journal.Sync(); err != nil {
		// The kernel may have dropped the line and call the next sync a success. Only the file,
		// opened again, can say whether it landed.
		s.endLocked(err)
		return store.Uncertain(what, err)
	}
	s.applyLocked(e, len(text))
	s.wakeLocked()
	return nil
}

// takeBackLocked removes the part of a line that was written. Should that fail, the part stays the
// journal's last and is dropped as torn, for nothing is written behind it any more.
func (s *Store) takeBackLocked(what string, cause error) error {
	if err := s.journal.Truncate(s.size); err != nil {
		s.endLocked(errors.Join(cause, err))
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(cause, full) {
			return store.Full(what, cause)
		}
	}
	return store.Unavailable(what, cause)
}

func (s *Store) applyLocked(e entry, sizeBytes int) {
	s.lines++
	s.size += int64(sizeBytes)
	at := s.revision + store.Revision(len(e.Puts))
	if e.Operation != "" {
		at = s.recordLocked(e)
	}
	for _, p := range e.Puts {
		s.putLocked(p, e.Time)
	}
	s.acks[ackKey{e.Operation, e.ID}] = ack{at, e.Time}
}

// answeredLocked finds how a write was acknowledged that comes again.
func (s *Store) answeredLocked(key ackKey, now time.Time) (store.Revision, bool) {
	a, ok := s.acks[key]
	return a.revision, ok && now.Sub(a.at) < store.DedupeWindow
}

// nowLocked is the time without its monotonic part, which a restart would not keep.
func (s *Store) nowLocked() time.Time { return s.clock().UTC().Round(0) }
