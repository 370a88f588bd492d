package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// Marks in a stream's metadata: of a restore under way, and of the backup that it came from.
const (
	metaRestoring = "ployz.restoring"
	metaRestored  = "ployz.restored"
)

// errRestoreNameInUse is JetStream's number for a stream that exists, or is being restored.
const errRestoreNameInUse = 10130

// restoreChunk is how much of a snapshot goes in one message; restoreWithin is how long the server may take
// over the end of one: it syncs every message.
const (
	restoreChunk  = 128 << 10
	restoreWithin = 2 * time.Minute
)

// Restore fills the streams of this store's generation, which must not exist yet, from a backup of an
// older one. The core was founded for it, alone, with a configuration of the new generation, and its
// machine's edge is connected. Every fact keeps its revision; the next write gets one that the old
// generation never gave out. An interrupted restore may be repeated, and is begun anew; a finished
// one is nothing to do. The cluster fact still says the old generation: the caller writes the new one.
//
// Errors: store.backup-damaged and store.backup-foreign (nothing was changed, or what was begun is
// marked as such and never served), store.unavailable, store.unsafe-settings (streams of that
// generation exist and are something else).
func (s *Store) Restore(ctx context.Context, b *Backup, cluster string) error {
	switch m := b.Manifest; {
	case m.Cluster != cluster:
		return foreign("it is of cluster %s, this is %s", m.Cluster, cluster)
	case m.Generation >= s.cfg.Generation:
		return foreign("it is of generation %d, and the new one is %d: a restored history is a new generation", m.Generation, s.cfg.Generation)
	}
	if err := s.awaitLeader(ctx); err != nil {
		return err
	}
	old, now := b.Manifest.Generation, s.cfg.Generation
	for _, part := range []restoring{
		{b, partFacts, factsConfig(now, 1, StreamSize{}), natsconf.FactsSubject(old), natsconf.FactsSubject(now), s.sameFacts},
		{b, partLedger, ledgerConfig(now, 1, StreamSize{}), natsconf.LedgerSubject(old), natsconf.LedgerSubject(now), s.sameLedger},
	} {
		if err := s.restore(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) awaitLeader(ctx context.Context) error {
	return s.awaitTopology(ctx, "the new core", func(t Topology) string {
		if t.Leader == "" {
			return "it has no leader; is its machine's edge connected?"
		}
		return ""
	})
}

// restoring is one stream's restore.
type restoring struct {
	b                    *Backup
	part                 string
	config               map[string]any
	oldPrefix, newPrefix string
	// same proves that the stream now holds what the rewriting let through.
	same func(context.Context, rewritten) error
}

func (r restoring) stream() string { return fmt.Sprint(r.config["name"]) }

// marked is the stream's configuration with a mark.
func (r restoring) marked(key string) map[string]any {
	meta := map[string]any{key: r.b.Manifest.Digest}
	for k, v := range r.config["metadata"].(map[string]any) {
		meta[k] = v
	}
	out := map[string]any{}
	for k, v := range r.config {
		out[k] = v
	}
	out["metadata"] = meta
	return out
}

func (s *Store) restore(ctx context.Context, r restoring) error {
	deliver, err := s.beginRestore(ctx, r)
	if err != nil || deliver == "" {
		return err
	}
	passed, err := s.upload(ctx, r, deliver)
	if err != nil {
		return err
	}
	if err := r.same(ctx, passed); err != nil {
		return err
	}
	if err := s.core.call(ctx, "$JS.API.STREAM.UPDATE."+r.stream(), r.marked(metaRestored), nil); err != nil {
		return unavailable("stream "+r.stream(), err)
	}
	return nil
}

// beginRestore returns where the chunks go, or "" when this backup was restored before. A restore whose
// upload ended half-way leaves a name that is taken, with no stream to be seen: that is deleted too.
func (s *Store) beginRestore(ctx context.Context, r restoring) (string, error) {
	var begun struct {
		Deliver string `json:"deliver_subject"`
	}
	body := map[string]any{"config": r.marked(metaRestoring), "state": map[string]any{}}
	err := poll(ctx, func() (string, error) {
		done, err := s.clearBegun(ctx, r)
		if err != nil || done {
			return "", err
		}
		err = s.core.call(ctx, "$JS.API.STREAM.RESTORE."+r.stream(), body, &begun)
		if isAPIError(err, errRestoreNameInUse) { // and yet not found a moment ago: an upload that ended half-way
			gone := s.core.call(ctx, "$JS.API.STREAM.DELETE."+r.stream(), nil, nil)
			return errors.Join(err, gone).Error(), nil
		}
		if isAPIError(err, errNotAvailable, errInsufficientPeer) {
			return err.Error(), nil
		}
		return "", err
	})
	var typed *api.Error
	if err != nil && !errors.As(err, &typed) {
		err = unavailable("restoring "+r.stream(), err)
	}
	return begun.Deliver, err
}

// clearBegun deletes what an interrupted restore left, known by its mark. Nothing else is deleted.
func (s *Store) clearBegun(ctx context.Context, r restoring) (done bool, err error) {
	info, err := s.streamState(ctx, s.core, r.stream())
	if isAPIError(err, errStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, unavailable("stream "+r.stream(), err)
	}
	meta, _ := info.Config["metadata"].(map[string]any)
	switch {
	case meta[metaRestored] == r.b.Manifest.Digest:
		return true, nil
	case meta[metaRestoring] == nil:
		e := unsafe("the core", "stream "+r.stream(), "there", "absent")
		return false, e.WithHint("restore into a core that was just founded")
	}
	if err := s.core.call(ctx, "$JS.API.STREAM.DELETE."+r.stream(), nil, nil); err != nil {
		return false, unavailable("stream "+r.stream(), err)
	}
	return false, nil
}

// upload sends the rewritten snapshot in chunks, each acknowledged before the next.
func (s *Store) upload(ctx context.Context, r restoring, deliver string) (rewritten, error) {
	out, in := io.Pipe()
	var passed rewritten
	ended := make(chan error, 1)
	go func() {
		from := r.b.part(r.part)
		var err error
		passed, err = rewrite(in, from, r.oldPrefix, r.newPrefix)
		if err == nil {
			_, err = io.Copy(io.Discard, from) // to the seal
		}
		err = errors.Join(err, from.Close())
		in.CloseWithError(err)
		ended <- err
	}()
	err := s.sendChunks(ctx, deliver, out)
	out.CloseWithError(err)
	if rewriting := <-ended; rewriting != nil && api.CodeOf(err) != api.CodeStoreUnavailable {
		return passed, rewriting
	}
	return passed, err
}

func (s *Store) sendChunks(ctx context.Context, subject string, from io.Reader) error {
	chunk := make([]byte, restoreChunk)
	for {
		n, err := io.ReadFull(from, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if n > 0 {
			if err := s.sendChunk(ctx, subject, chunk[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return s.sendChunk(ctx, subject, nil)
		}
	}
}

// sendChunk waits for the answer: nothing for a chunk, the stream or an error for the end.
func (s *Store) sendChunk(ctx context.Context, subject string, chunk []byte) error {
	answer, err := s.core.sendWithin(ctx, restoreWithin, &nats.Msg{Subject: subject, Data: chunk})
	if err != nil {
		return unavailable("restoring", err)
	}
	if len(answer.Data) == 0 {
		return nil
	}
	var reply struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return unavailable("restoring", err)
	}
	if reply.Error != nil {
		return unavailable("restoring", reply.Error)
	}
	return nil
}

// sameFacts compares by digest: a fact that is missing or another would show.
func (s *Store) sameFacts(ctx context.Context, r rewritten) error {
	have, err := s.CoreDigest(ctx)
	if err != nil {
		return err
	}
	want := r.digest
	want.Generation, want.Last = s.cfg.Generation, r.last
	return restoredAs(fmt.Sprintf("%+v", have), fmt.Sprintf("%+v", want))
}

func (s *Store) sameLedger(ctx context.Context, r rewritten) error {
	info, err := s.streamState(ctx, s.core, natsconf.LedgerStream(s.cfg.Generation))
	if err != nil {
		return unavailable("the ledger", err)
	}
	have := fmt.Sprintf("%d records to %d", info.State.Messages, info.State.LastSeq)
	return restoredAs(have, fmt.Sprintf("%d records to %d", r.messages, r.last))
}

func restoredAs(have, want string) error {
	if have == want {
		return nil
	}
	return api.Errorf(api.CodeStoreDamaged, "what was restored is not what the backup holds: %s, not %s", have, want)
}

// RemoveMirrors drops this machine's mirrors of the store's generation: of an older one once the new
// one is fresh, or of one that Verify found to follow another history; EnsureMirrors then makes them
// anew. Only the edge's own copies go. Errors: store.unavailable.
func (s *Store) RemoveMirrors(ctx context.Context) error {
	for _, stream := range s.streams() {
		err := s.edge.call(ctx, "$JS.API.STREAM.DELETE."+stream, nil, nil)
		if err != nil && !isAPIError(err, errStreamNotFound) {
			return unavailable("the mirror "+stream, err)
		}
	}
	return nil
}
