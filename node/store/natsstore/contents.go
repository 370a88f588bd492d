package natsstore

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Contents are the facts that a backup holds, with the revisions that they have there and will have once restored.
// Those that run out by themselves are left out.
type Contents struct {
	facts   []store.Fact // ordered by key
	removed map[store.Key]store.Revision
}

// Contents reads the facts without a server. Errors: store.backup-damaged.
func (b *Backup) Contents() (*Contents, error) {
	from := b.part(partFacts)
	c, err := readFacts(from, natsconf.FactsSubject(b.Manifest.Generation))
	if err == nil {
		_, err = io.Copy(io.Discard, from) // to the seal
	}
	if err = errors.Join(err, from.Close()); err != nil {
		return nil, damaged(err)
	}
	c.sort()
	return c, nil
}

// ContentsOf are facts that were read from a store.
func ContentsOf(facts []store.Fact) *Contents {
	c := &Contents{facts: slices.Clone(facts)}
	c.sort()
	return c
}

func (c *Contents) sort() {
	slices.SortFunc(c.facts, func(a, b store.Fact) int { return strings.Compare(string(a.Key), string(b.Key)) })
}

func readFacts(from io.Reader, prefix string) (*Contents, error) {
	in := archive.NewReader(s2.NewReader(from))
	c := &Contents{removed: map[store.Key]store.Revision{}}
	for {
		header, err := in.Next()
		if err != nil {
			return nil, cutShort(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return nil, cutShort(err)
		}
		if header.Sequence == 0 && header.Name == "" {
			return c, drain(in)
		}
		if err := c.add(header, content, prefix); err != nil {
			return nil, err
		}
	}
}

// add leaves out the stream's state, the carriers of guards, and what has a TTL.
func (c *Contents) add(header *archive.Header, content []byte, prefix string) error {
	headers := nats.Header{}
	if header.HeaderSize > 0 {
		var err error
		if headers, err = nats.DecodeHeadersMsg(content[:header.HeaderSize]); err != nil {
			return err
		}
	}
	name, mine := strings.CutPrefix(header.Name, prefix)
	key := store.Key(name)
	switch {
	case !mine, header.Sequence == 0, key == carrierToken, headers.Get(headerTTL) != "":
	case isRemoval(headers.Get):
		c.removed[key] = store.Revision(header.Sequence)
	default:
		c.facts = append(c.facts, store.Fact{
			Key: key, Revision: store.Revision(header.Sequence), Written: time.Unix(0, header.Timestamp).UTC(), Value: content[header.HeaderSize:],
		})
	}
	return nil
}

// Get returns one fact. Errors: store.not-found, with the revision of the removal if there was one.
func (c *Contents) Get(_ context.Context, key store.Key) (store.Fact, error) {
	at, found := slices.BinarySearchFunc(c.facts, key, func(f store.Fact, key store.Key) int { return strings.Compare(string(f.Key), string(key)) })
	if !found {
		return store.Fact{Key: key, Revision: c.removed[key]}, store.NotFound(key)
	}
	return c.facts[at], nil
}

// List returns the facts below a prefix.
func (c *Contents) List(_ context.Context, prefix store.Key) ([]store.Fact, error) {
	return slices.DeleteFunc(slices.Clone(c.facts), func(f store.Fact) bool { return !f.Key.Under(prefix) }), nil
}
