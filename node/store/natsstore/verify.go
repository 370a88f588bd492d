package natsstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Digest sums up one copy of the facts. Two copies of one history that reached the same revision
// have the same sum; a mirror of a stream that was made anew does not, though it says it is current.
type Digest struct {
	Generation uint64         `json:"generation"`
	Last       store.Revision `json:"last"`
	Facts      int            `json:"facts"`
	Sum        string         `json:"sum"`
}

// CoreDigest sums up the leader's copy.
func (s *Store) CoreDigest(ctx context.Context) (Digest, error) { return s.digest(ctx, s.core) }

// EdgeDigest sums up this machine's mirror.
func (s *Store) EdgeDigest(ctx context.Context) (Digest, error) { return s.digest(ctx, s.edge) }

// digest adds up the hashes of (key, sequence, value), so that the order does not matter.
// Facts with a TTL are left out: copies forget them at slightly different times.
func (s *Store) digest(ctx context.Context, l *link) (Digest, error) {
	d := Digest{Generation: s.cfg.Generation}
	info, err := s.streamState(ctx, l, natsconf.FactsStream(s.cfg.Generation))
	if err != nil {
		return d, unavailable("the facts", err)
	}
	d.Last = store.Revision(info.State.LastSeq)
	var sum [sha256.Size]byte
	stream := natsconf.FactsStream(s.cfg.Generation)
	newest := func(ctx context.Context) (uint64, error) { return l.newest(ctx, stream, s.subject(">")) }
	err = upToDate(ctx, newest, func(ctx context.Context, upTo uint64) error {
		d.Facts, sum = 0, [sha256.Size]byte{}
		return l.snapshot(ctx, stream, s.subjects(""), "all", upTo, func(m *nats.Msg, meta *nats.MsgMetadata) {
			d.Last = max(d.Last, store.Revision(meta.Sequence.Stream))
			if m.Header.Get(headerTTL) == "" {
				d.Facts++
				addHash(&sum, s.keyOf(m.Subject), meta.Sequence.Stream, m.Header.Get(headerOperation), m.Data)
			}
		})
	})
	if err != nil {
		return d, unavailable("the facts", err)
	}
	d.Sum = hex.EncodeToString(sum[:])
	return d, nil
}

// addHash takes the key, not the subject, so that a restored copy has the sum of the one it came from.
func addHash(sum *[sha256.Size]byte, key store.Key, sequence uint64, operation string, value []byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%s\n", key, sequence, operation)
	h.Write(value)
	carry := uint16(0)
	one := h.Sum(nil)
	for i := range sum {
		carry += uint16(sum[i]) + uint16(one[i])
		sum[i] = byte(carry)
		carry >>= 8
	}
}

// Verify compares the mirror with the core at one and the same revision, and repeats while
// writes keep moving them apart. Errors: store.unavailable, store.unsafe-settings (they differ).
func (s *Store) Verify(ctx context.Context) error {
	for {
		core, err := s.CoreDigest(ctx)
		if err != nil {
			return err
		}
		edge, err := s.EdgeDigest(ctx)
		if err != nil {
			return err
		}
		if core.Last == edge.Last {
			return sameDigest(core, edge)
		}
		if edge.Last > core.Last && s.stillAt(ctx, core.Last) {
			return sameDigest(core, edge)
		}
		select {
		case <-ctx.Done():
			return unavailable("the mirror", fmt.Errorf("%w: core at %d, mirror at %d", ctx.Err(), core.Last, edge.Last))
		case <-time.After(again):
		}
	}
}

// stillAt says that the core did not move, so that a mirror ahead of it holds another history.
func (s *Store) stillAt(ctx context.Context, last store.Revision) bool {
	info, err := s.streamState(ctx, s.core, natsconf.FactsStream(s.cfg.Generation))
	return err == nil && store.Revision(info.State.LastSeq) == last
}

func sameDigest(core, edge Digest) error {
	if core == edge {
		return nil
	}
	seen := fmt.Sprintf("%d facts at %d, %.12s", edge.Facts, edge.Last, edge.Sum)
	want := fmt.Sprintf("the core's %d facts at %d, %.12s", core.Facts, core.Last, core.Sum)
	e := unsafe("the mirror", "its history", seen, want)
	return e.WithHint("the mirror follows another history: rebuild it (EnsureMirrors after removing it)")
}

// NamedDigest is one copy's digest with whose it is: a machine's mirror, or a voter's core.
type NamedDigest struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// OddOnes compares the copies that reached the same revision of the same generation, and returns those
// that disagree with most of their like. Where no side has more, all of them are odd: nobody can say
// which is right. A copy alone at its revision is not judged: let it catch up, and ask again. It is pure.
func OddOnes(copies []NamedDigest) []NamedDigest {
	type place struct {
		generation uint64
		last       store.Revision
	}
	sides := map[place]map[Digest]int{}
	for _, c := range copies {
		at := place{c.Digest.Generation, c.Digest.Last}
		if sides[at] == nil {
			sides[at] = map[Digest]int{}
		}
		sides[at][c.Digest]++
	}
	var out []NamedDigest
	for _, c := range copies {
		like := sides[place{c.Digest.Generation, c.Digest.Last}]
		if len(like) > 1 && c.Digest != majority(like) {
			out = append(out, c)
		}
	}
	return out
}

// majority is the digest that more copies have than any other, or none.
func majority(sides map[Digest]int) Digest {
	var best Digest
	most, tied := 0, false
	for d, n := range sides {
		switch {
		case n > most:
			best, most, tied = d, n, false
		case n == most:
			tied = true
		}
	}
	if tied {
		return Digest{}
	}
	return best
}
