package daemon_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/daemon"
)

// peerStore is m2's store: it remembers what it was asked.
type peerStore struct {
	mu   sync.Mutex
	said []string
}

func (p *peerStore) note(format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, fmt.Sprintf(format, args...))
	return nil
}

func (p *peerStore) Copy(context.Context) (any, error) {
	return map[string]int{"last": 7}, p.note("copy")
}

func (p *peerStore) Fence(_ context.Context, gone []string, fenced bool) error {
	return p.note("fence %v %t", gone, fenced)
}

func (p *peerStore) Move(_ context.Context, generation uint64, voter netip.Addr) error {
	return p.note("move %d %s", generation, voter)
}

// TestPeerStore: only who may command can have a machine fence others off or follow another generation, and what
// cannot be read is refused before anything is done.
func TestPeerStore(t *testing.T) {
	o, asked := newOverlay(t), &peerStore{}
	o.store = asked
	o.serve(nil, nil, nil)
	ask := func(from int, id, method, path string, q url.Values) error {
		n := &daemon.Neighbours{ID: id, Overlay: address(from), Members: o.list, Operator: o.sign(id), Port: o.port}
		defer n.Close()
		resp, err := n.Do(t.Context(), "machine-m2", daemon.Ask{Method: method, Path: path, Query: q, Caller: "root"})
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	fence := url.Values{"gone": {"m3", "m4"}, "fenced": {"true"}}
	move := url.Values{"generation": {"2"}, "voter": {"fd00::1"}}
	for _, c := range []struct {
		method, path string
		q            url.Values
		code         api.Code
	}{
		{http.MethodGet, "/v1/store/copy", nil, ""},
		{http.MethodPost, "/v1/store/fence", fence, ""},
		{http.MethodPost, "/v1/store/generation", move, ""},
		{http.MethodPost, "/v1/store/fence", url.Values{"gone": {"m3"}, "fenced": {"perhaps"}}, api.CodeBadRequest},
		{http.MethodPost, "/v1/store/generation", url.Values{"generation": {"-1"}, "voter": {"fd00::1"}}, api.CodeBadRequest},
		{http.MethodPost, "/v1/store/generation", url.Values{"generation": {"2"}, "voter": {"m1"}}, api.CodeBadRequest},
	} {
		if err := ask(11, "m1", c.method, c.path, c.q); err != nil && api.CodeOf(err) != c.code || err == nil && c.code != "" {
			t.Errorf("m1, %s %s: %v", c.path, c.q.Encode(), err)
		}
		if err := ask(13, "m3", c.method, c.path, c.q); api.CodeOf(err) != api.CodeParticipantRefused {
			t.Errorf("m3, which may not command, %s: %v", c.path, err)
		}
	}
	if want := []string{"copy", "fence [m3 m4] true", "move 2 fd00::1"}; !slices.Equal(asked.said, want) {
		t.Errorf("it was asked %q, want %q", asked.said, want)
	}
}
