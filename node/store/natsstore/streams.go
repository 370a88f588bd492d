package natsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

// schemaVersion changes when the layout of keys or streams does.
const schemaVersion = "1"

// Errors of JetStream's stream API that are looked at.
const (
	errStreamNameInUse  = 10058
	errStreamNotFound   = 10059
	errNotAvailable     = 10008 // no leader yet
	errInsufficientPeer = 10005 // no suitable peers: the meta leader has just been elected
)

// StreamSize bounds the two streams; zero fields mean the defaults.
type StreamSize struct {
	FactsBytes  int64 // 256 MiB
	LedgerBytes int64 // 1 GiB
}

func (z StreamSize) orDefault() StreamSize {
	if z.FactsBytes == 0 {
		z.FactsBytes = 256 << 20
	}
	if z.LedgerBytes == 0 {
		z.LedgerBytes = 1 << 30
	}
	return z
}

// factsConfig is the stream of facts: a key-value bucket in all but its creation. Rollups stay
// forbidden, as deny_purge demands, so the standard tools read and cannot purge.
func factsConfig(generation uint64, replicas int, z StreamSize) map[string]any {
	return map[string]any{
		"name": natsconf.FactsStream(generation), "subjects": []any{natsconf.FactsSubject(generation) + ">"},
		"retention": "limits", "storage": "file", "num_replicas": replicas, "discard": "new",
		"max_msgs_per_subject": 1, "max_bytes": z.orDefault().FactsBytes, "max_msg_size": 1 << 20, "max_age": 0,
		"duplicate_window": store.DedupeWindow, "allow_direct": true, "allow_msg_ttl": true, "allow_atomic": true,
		"deny_delete": true, "deny_purge": true, "metadata": metadata(generation),
	}
}

func ledgerConfig(generation uint64, replicas int, z StreamSize) map[string]any {
	return map[string]any{
		"name": natsconf.LedgerStream(generation), "subjects": []any{natsconf.LedgerSubject(generation) + ">"},
		"retention": "limits", "storage": "file", "num_replicas": replicas, "discard": "old",
		"max_bytes": z.orDefault().LedgerBytes, "max_msg_size": 1 << 20, "max_age": 90 * 24 * time.Hour,
		"duplicate_window": store.DedupeWindow, "allow_direct": true,
		"deny_delete": true, "deny_purge": true, "metadata": metadata(generation),
	}
}

func metadata(generation uint64) map[string]any {
	return map[string]any{"ployz.generation": fmt.Sprint(generation), "ployz.schema": schemaVersion}
}

// mirrorConfig is what an edge keeps of a stream. Without allow_msg_ttl it would keep what expires
// at the origin.
func mirrorConfig(origin string, machine string, perSubject int) map[string]any {
	return map[string]any{
		"name": origin, "retention": "limits", "storage": "file", "num_replicas": 1, "discard": "old",
		"max_msgs_per_subject": perSubject, "allow_direct": true, "allow_msg_ttl": true, "mirror_direct": false,
		"mirror": map[string]any{"name": origin, "external": map[string]any{
			"api": natsconf.MirrorAPI, "deliver": natsconf.MirrorDeliver(machine),
		}},
	}
}

// CreateStreams makes the two streams on the core, or finds them as they must be. It waits for a
// leader until ctx ends: a lone core gets one when its edge connects. Errors: store.unavailable,
// store.unsafe-settings (a stream of that name is there with other settings).
func (s *Store) CreateStreams(ctx context.Context, replicas int, size StreamSize) error {
	for _, config := range []map[string]any{
		factsConfig(s.cfg.Generation, replicas, size), ledgerConfig(s.cfg.Generation, replicas, size),
	} {
		if err := s.ensureStream(ctx, s.core, config); err != nil {
			return err
		}
	}
	return nil
}

// EnsureMirrors makes the edge's mirrors of both streams, or finds them. The origin need not be
// reachable. Errors: store.unavailable, store.unsafe-settings.
func (s *Store) EnsureMirrors(ctx context.Context) error {
	for origin, perSubject := range map[string]int{
		natsconf.FactsStream(s.cfg.Generation): 1, natsconf.LedgerStream(s.cfg.Generation): -1,
	} {
		if err := s.ensureStream(ctx, s.edge, mirrorConfig(origin, s.cfg.Machine, perSubject)); err != nil {
			return err
		}
	}
	return nil
}

// createWithin is short because a server without a leader does not answer at all.
const createWithin = time.Second

func (l *link) callWithin(ctx context.Context, d time.Duration, subject string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return l.call(ctx, subject, body, nil)
}

// ensureStream repeats until the server answers: what it asks for is the same each time.
func (s *Store) ensureStream(ctx context.Context, l *link, config map[string]any) error {
	name := fmt.Sprint(config["name"])
	for {
		err := l.callWithin(ctx, createWithin, "$JS.API.STREAM.CREATE."+name, config)
		if err == nil || isAPIError(err, errStreamNameInUse) {
			return s.compareStream(ctx, l, config)
		}
		if errors.Is(err, errNotConfigured) || refusedForGood(err) {
			return unavailable("stream "+name, err)
		}
		select {
		case <-ctx.Done():
			return unavailable("stream "+name, fmt.Errorf("%w; last: %w", ctx.Err(), err))
		case <-time.After(again):
		}
	}
}

// refusedForGood tells a "no" from a "not yet".
func refusedForGood(err error) bool {
	var e *apiError
	return errors.As(err, &e) && !isAPIError(err, errNotAvailable, errInsufficientPeer) && e.Code != 503
}

// AwaitMirror waits until the mirror of facts holds revision r and hears from its origin.
func (s *Store) AwaitMirror(ctx context.Context, r store.Revision) error {
	for {
		f, err := s.View().Freshness(ctx)
		if err == nil && f.Fresh && f.Last >= r {
			return nil
		}
		select {
		case <-ctx.Done():
			return unavailable("the mirror", fmt.Errorf("%w; last: revision %d, %s %v", ctx.Err(), f.Last, f.Why, err))
		case <-time.After(again / 4):
		}
	}
}
