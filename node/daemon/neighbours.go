package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/coordination"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/runtime"
)

// Neighbours asks the peer surfaces of the cluster's other machines, from this machine's overlay address.
type Neighbours struct {
	// ID is this machine's id, Overlay its address.
	ID      string
	Overlay netip.Addr
	// Members reads the memberships, from the machine's own mirror.
	Members func(ctx context.Context) ([]machine.Member, error)
	// Machine signs as a member, Operator as one that may command; nil where this machine may not.
	Machine, Operator coordination.Sign
	// Port is that of the others; 0 means PeerPort.
	Port uint16

	once   sync.Once
	client *http.Client

	mu    sync.Mutex
	known []machine.Member // guarded by mu; the last that were read, not nil once there were any
}

var _ Elsewhere = (*Neighbours)(nil)

// Machines implements Elsewhere.
func (n *Neighbours) Machines(ctx context.Context) ([]string, error) {
	members, err := n.others(ctx)
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	return names, err
}

// others are the members besides this one: those last known while the mirror does not answer.
func (n *Neighbours) others(ctx context.Context) ([]machine.Member, error) {
	members, err := n.Members(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && n.known == nil {
		return nil, err
	}
	if err == nil {
		n.known = []machine.Member{}
		for _, m := range members {
			if m.ID != n.ID {
				n.known = append(n.known, m)
			}
		}
	}
	return n.known, nil
}

// Do implements Elsewhere.
func (n *Neighbours) Do(ctx context.Context, name string, ask Ask) (*http.Response, error) {
	members, err := n.others(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Name == name {
			return n.ask(ctx, m, ask, n.Operator)
		}
	}
	return nil, api.Errorf(api.CodeNotFound, "the cluster has no machine of that name").About(name).WithHint("list them: ployzctl machine ls")
}

func (n *Neighbours) ask(ctx context.Context, m machine.Member, ask Ask, sign coordination.Sign) (*http.Response, error) {
	if sign == nil {
		return nil, mayNotOperate()
	}
	target := url.URL{Scheme: "http", Host: n.address(m).String(), Path: ask.Path, RawQuery: ask.Query.Encode()}
	req, err := http.NewRequestWithContext(ctx, ask.Method, target.String(), ask.Body)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "making the request: %w", err)
	}
	for name, values := range ask.Header {
		req.Header[name] = values
	}
	pass := coordination.Pass{Sender: n.ID, Caller: ask.Caller, Request: requestLine(ask.Method, req.URL.RequestURI())}
	text, err := coordination.IssuePass(pass, m.ID, sign)
	if err != nil {
		return nil, err
	}
	req.Header.Set(passHeader, text)
	resp, err := n.http().Do(req)
	if err != nil {
		return nil, unreached(m.Name, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, refusal(m.Name, resp)
	}
	return resp, nil
}

func mayNotOperate() error {
	return api.Errorf(api.CodePermission, "this machine may not operate the cluster").WithHint("ask on a machine that may")
}

func (n *Neighbours) address(m machine.Member) netip.AddrPort {
	port := n.Port
	if port == 0 {
		port = PeerPort
	}
	return netip.AddrPortFrom(m.Overlay, port)
}

func unreached(name string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return api.Errorf(api.CodeMachineSilent, "it cannot be reached: %w", err).About(name).Again().
		WithHint("is it up? ployzctl machine show %s", name)
}

// refusal is the machine's own error.
func refusal(name string, resp *http.Response) error {
	var answer struct{ Error *api.Error }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRequestBytes)).Decode(&answer); err != nil || answer.Error == nil {
		return api.Errorf(api.CodeMachineSilent, "it answers %s", resp.Status).About(name)
	}
	return answer.Error
}

// http is the client. Connections are kept, since a listing asks the same machines again and again.
func (n *Neighbours) http() *http.Client {
	n.once.Do(func() {
		dialer := net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.Overlay, 0)), Timeout: 3 * time.Second,
			// Who follows logs of a machine that loses its power learns of it.
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
		}
		n.client = &http.Client{Transport: &http.Transport{
			DialContext: dialer.DialContext, DisableCompression: true, ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		}}
	})
	return n.client
}

// Close drops the connections that are kept.
func (n *Neighbours) Close() { n.http().CloseIdleConnections() }

// holdersTimeout bounds the search for machines that have an image; whoever is slower is not a good source.
const holdersTimeout = 3 * time.Second

// Holders are the machines that have a blob, as sources for it.
func (n *Neighbours) Holders(ctx context.Context, digest string) []runtime.Peer {
	members, err := n.others(ctx)
	if err != nil {
		return nil // there is the registry
	}
	ctx, stop := context.WithTimeout(ctx, holdersTimeout)
	defer stop()
	held := make([]bool, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			resp, err := n.ask(ctx, m, Ask{Method: http.MethodHead, Path: "/v1/blobs/" + digest}, n.Machine)
			if err == nil {
				resp.Body.Close()
				held[i] = true
			}
		})
	}
	all.Wait()
	var peers []runtime.Peer
	for i, m := range members {
		if held[i] {
			peers = append(peers, blobPeer{n, m})
		}
	}
	return peers
}

// blobPeer is another machine's image store.
type blobPeer struct {
	from   *Neighbours
	member machine.Member
}

// Blob implements runtime.Peer.
func (p blobPeer) Blob(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	ask := Ask{Method: http.MethodGet, Path: "/v1/blobs/" + digest}
	if offset > 0 {
		ask.Header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", offset)}}
	}
	resp, err := p.from.ask(ctx, p.member, ask, p.from.Machine)
	if err != nil {
		return nil, untyped(err)
	}
	if offset > 0 && !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
		resp.Body.Close()
		return nil, fmt.Errorf("%s does not continue a blob", p.member.Name)
	}
	return resp.Body, nil
}

// untyped lets what may pass be tried again: of a machine's answers only "not found" is final.
func untyped(err error) error {
	if api.CodeOf(err) == api.CodeImageNotFound || errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(err.Error())
}
