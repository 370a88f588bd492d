package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/machine"
	"github.com/ployz/ployz/node/routing"
	"github.com/ployz/ployz/node/store"
	"github.com/ployz/ployz/node/store/natsstore/natsconf"
	"github.com/ployz/ployz/node/store/natsstore/natslab"
)

// cluster is one machine with the real store and both real consumers, on loopback only:
//
//	commit ─► core ─► edge ─┬─► ployz-gateway ─► instances at 127.101.1.x
//	                        └─► ployz-dns
type cluster struct {
	t         testing.TB
	nats      *natslab.Machine
	facts     store.Facts
	dir       string
	binaries  map[string]string
	processes map[string]*exec.Cmd
	httpAt    string
	dnsAt     string
	port      uint16 // of every instance
	batch     int
	hang      chan struct{} // instances answer /hang when it is closed
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), binaries: map[string]string{}, processes: map[string]*exec.Cmd{}, hang: make(chan struct{})}
	for _, name := range []string{"gateway", "dns"} {
		c.binaries[name] = filepath.Join(c.dir, "ployz-"+name)
		if out, err := exec.Command("go", "build", "-o", c.binaries[name], "../ployz-"+name).CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	c.nats = natslab.Start(t)
	c.port = natslab.FreePorts(t, 1)[0]
	s := c.nats.Open()
	if err := s.AwaitCore(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.facts = s.Facts()
	ports := natslab.FreePorts(t, 2)
	c.httpAt, c.dnsAt = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	self := machine.Identity{
		ID: c.nats.ID, Name: "m1", Generation: 1, Overlay: netip.MustParseAddr("fd00:1:0:1::1"),
		Subnet4: netip.MustParsePrefix("127.101.1.0/24"), Subnet6: netip.MustParsePrefix("fd00:1:0:1::/64"),
		CIDR: netip.MustParsePrefix("127.101.0.0/16"), Prefix: netip.MustParsePrefix("fd00:1::/48"), Member: true,
	}
	for _, dir := range []string{"gateway", "dns", "workloads/early"} {
		c.must(os.MkdirAll(filepath.Join(c.dir, dir), 0o700))
	}
	c.must(self.Save(c.dir))
	t.Cleanup(func() {
		for name := range c.processes {
			c.stop(name)
		}
	})
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// instance answers with its own id at 127.101.1.n.
func (c *cluster) instance(id string, n int) routing.Instance {
	c.t.Helper()
	v4 := fmt.Sprintf("127.101.1.%d", n)
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", v4, c.port))
	c.must(err)
	c.port = netip.MustParseAddrPort(ln.Addr().String()).Port()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-c.hang
		}
		io.WriteString(w, id)
	})}
	go server.Serve(ln)
	c.t.Cleanup(func() { server.Close() })
	return routing.Instance{ID: id, Slot: "web-0", Machine: "m1", V4: netip.MustParseAddr(v4), V6: netip.MustParseAddr(fmt.Sprintf("fd00:1:0:1:0:7:0:%x", n))}
}

// commit writes a namespace's routing event.
func (c *cluster) commit(ns string, id uint32, instances ...routing.Instance) store.Revision {
	c.t.Helper()
	text, err := routing.View{Namespace: ns, NamespaceID: id, Services: map[string]routing.Service{"web": {
		Instances: instances, Routes: []api.Route{{Host: ns + ".test", Port: c.port}},
		Ports: []routing.Port{{Name: "http", Number: c.port}},
	}}}.Encode()
	c.must(err)
	return c.put(store.Put{Key: store.Route(ns), Value: text})
}

func (c *cluster) put(puts ...store.Put) store.Revision {
	c.t.Helper()
	c.batch++
	ctx, cancel := context.WithTimeout(context.Background(), natslab.Patience)
	defer cancel()
	at, err := c.facts.Commit(ctx, store.Batch{ID: fmt.Sprintf("%d", c.batch), Puts: puts})
	c.must(err)
	return at
}

func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		args := []string{"-state", c.dir, "-status", c.socket(name), "-edge", c.nats.EdgeURL()}
		if name == "gateway" {
			args = append(args, "-http", c.httpAt, "-https", "", "-tls", filepath.Join(c.dir, "tls"), "-seed", c.nats.Seed(natsconf.RoleGateway))
		} else {
			args = append(args, "-listen", c.dnsAt, "-upstream", "127.0.0.1:1", "-seed", c.nats.Seed(natsconf.RoleDNS))
		}
		cmd := exec.Command(c.binaries[name], args...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		c.must(cmd.Start())
		c.processes[name] = cmd
	}
	for _, name := range names {
		c.await(name+" answers", func() bool { return c.report(name).PID == c.processes[name].Process.Pid })
	}
}

// stop ends a process and its successors, which are found by their status.
func (c *cluster) stop(name string) {
	pid := c.report(name).PID
	_ = c.processes[name].Process.Signal(unix.SIGTERM)
	_ = c.processes[name].Wait()
	if pid != 0 && pid != c.processes[name].Process.Pid {
		_ = unix.Kill(pid, unix.SIGTERM)
		c.await("the successor has ended", func() bool { return !alive(pid) })
	}
	delete(c.processes, name)
}

func (c *cluster) socket(name string) string { return filepath.Join(c.dir, name+".sock") }

func (c *cluster) get(name, path string, into any) bool {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", c.socket(name)) }}}
	resp, err := client.Get("http://" + name + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == 200 && json.NewDecoder(resp.Body).Decode(into) == nil
}

func (c *cluster) report(name string) (r routing.Report) {
	c.get(name, "/freshness", &r)
	return r
}

func (c *cluster) applied(name, ns string) (s routing.Statement) {
	c.get(name, "/applied?namespace="+ns, &s)
	return s
}

func (c *cluster) await(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(natslab.Patience); !cond(); time.Sleep(3 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s\ngateway %+v\ndns %+v", natslab.Patience, what, c.report("gateway"), c.report("dns"))
		}
	}
}

// awaitBoth waits until both consumers say so.
func (c *cluster) awaitBoth(what string, cond func(name string) bool) {
	c.t.Helper()
	for _, name := range []string{"gateway", "dns"} {
		c.await(name+": "+what, func() bool { return cond(name) })
	}
}

// web asks the gateway for a host; an error is an answer too.
func (c *cluster) web(host, path string) string {
	req, err := http.NewRequest("GET", "http://"+c.httpAt+path, nil)
	c.must(err)
	req.Host = host
	client := http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// name asks the resolver, from an address, and returns the answer's addresses or the code.
func (c *cluster) name(name, from string) string {
	query := wire.Client{Timeout: 2 * time.Second, Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}}
	m, _, err := query.Exchange(new(wire.Msg).SetQuestion(name, wire.TypeA), c.dnsAt)
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*wire.A); ok {
			out = append(out, a.A.String())
		}
	}
	if len(out) == 0 {
		return wire.RcodeToString[m.Rcode]
	}
	return strings.Join(out, " ")
}

func (c *cluster) serves(when, ns, id, v4 string) {
	c.t.Helper()
	if got := c.web(ns+".test", "/"); got != id {
		c.t.Errorf("%s: the gateway answers %q for %s, want %q", when, got, ns, id)
	}
	if got := c.name("web."+ns+".ployz.internal.", "127.0.0.1"); got != v4 {
		c.t.Errorf("%s: the resolver answers %q for %s, want %q", when, got, ns, v4)
	}
}

// TestFollowsTheEdge is the life of a machine's routing, from the first commit through the loss of
// the store and restarts without it to a poisoned event and a removal.
func TestFollowsTheEdge(t *testing.T) {
	c := newCluster(t)
	i1, i2, i3 := c.instance("i1", 2), c.instance("i2", 3), c.instance("i3", 4)
	c.start("gateway", "dns")
	certain := func(name string) bool { return !c.report(name).Uncertain }

	at := c.commit("shop", 7, i1)
	c.commit("blog", 8, aliased(i2, 8))
	begun := time.Now()
	c.awaitBoth("the first commits", func(name string) bool {
		return c.applied(name, "shop").Revision == at && c.applied(name, "blog").Revision > at && certain(name)
	})
	t.Logf("applied %v after the second commit", time.Since(begun).Round(time.Millisecond))
	c.serves("first", "shop", "i1", "127.101.1.2")
	c.serves("first", "blog", "i2", "127.101.1.3")
	c.drains(i1)
	c.early()

	// Without the edge: on they go, and say so; a commit meanwhile waits.
	c.nats.Edge.Kill()
	c.awaitBoth("uncertain", func(name string) bool { return c.report(name).Why != "" })
	c.serves("without the edge", "shop", "i1", "127.101.1.2")
	at = c.commit("shop", 7, i3)
	c.stop("gateway")
	c.stop("dns")
	c.start("gateway", "dns")
	c.serves("restarted without the edge", "shop", "i1", "127.101.1.2")
	c.serves("restarted without the edge", "blog", "i2", "127.101.1.3")
	c.awaitBoth("uncertain after the restart", func(name string) bool {
		r := c.report(name)
		return r.Uncertain && strings.Contains(r.Why, "edge") && len(r.Namespaces) == 2
	})

	c.nats.Edge.Start()
	c.awaitBoth("fresh again", func(name string) bool { return certain(name) && c.applied(name, "shop").Revision == at })
	c.serves("after the edge came back", "shop", "i3", "127.101.1.4")
	if got := c.applied("dns", "shop"); got.Uncertain || got.Why != "" {
		t.Errorf("%+v", got)
	}

	// A poisoned event spoils its own namespace's progress and nothing else.
	poisoned := c.put(store.Put{Key: store.Route("shop"), Value: []byte(`{"schema":1,"namespace":"shop","services":{"web":{"routes":[{"port":0}]}}}`)})
	blog := c.commit("blog", 8, aliased(c.instance("i4", 5), 8))
	c.awaitBoth("the other namespace", func(name string) bool { return c.applied(name, "blog").Revision == blog })
	c.serves("poisoned", "shop", "i3", "127.101.1.4")
	c.serves("poisoned", "blog", "i4", "127.101.1.5")
	for _, name := range []string{"gateway", "dns"} {
		r := c.report(name)
		if one := r.Namespaces["shop"]; len(r.Rejected) != 1 || one.Rejected == nil || one.Rejected.Revision != poisoned || one.Sequence != at {
			t.Errorf("%s does not show the rejection: %+v", name, r)
		}
		if c.applied(name, "shop").Revision != at {
			t.Errorf("%s says that it applied the poisoned event", name)
		}
	}

	gone := c.put(store.Put{Key: store.Route("shop"), Remove: true, TTL: time.Hour})
	c.awaitBoth("the removal", func(name string) bool { return c.applied(name, "shop").Revision >= gone })
	if got := c.name("web.shop.ployz.internal.", "127.0.0.1"); got != "NXDOMAIN" {
		t.Errorf("a removed service resolves: %q", got)
	}
}

// aliased gives an instance the IPv6 address that fits another namespace.
func aliased(i routing.Instance, namespace byte) routing.Instance {
	b := i.V6.As16()
	b[11] = namespace
	i.V6 = netip.AddrFrom16(b)
	return i
}

// drains: what the instance that a commit retires still has open is told until it is done, across a
// replacement of the gateway.
func (c *cluster) drains(stays routing.Instance) {
	c.t.Helper()
	old := c.instance("old", 9)
	at := c.commit("shop", 7, old)
	c.await("the old one", func() bool { return c.applied("gateway", "shop").Revision == at })
	var open sync.WaitGroup
	open.Go(func() {
		if got := c.web("shop.test", "/hang"); got != "old" {
			c.t.Errorf("the long request got %q", got)
		}
	})
	c.await("in flight", func() bool { return c.applied("gateway", "shop").InFlight["old"] == 1 })
	at = c.commit("shop", 7, stays)
	c.await("the flip", func() bool { s := c.applied("gateway", "shop"); return s.Revision == at && s.InFlight["old"] == 1 })
	if got := c.web("shop.test", "/"); got != stays.ID {
		c.t.Errorf("after the flip: %q", got)
	}
	first := c.report("gateway").PID
	c.must(unix.Kill(first, unix.SIGHUP))
	// At no moment of the replacement may the open request be overlooked.
	c.await("replaced", func() bool {
		if s := c.applied("gateway", "shop"); s.Revision != 0 && s.InFlight["old"] != 1 {
			c.t.Fatalf("overlooked: %+v", s)
		}
		pid := c.report("gateway").PID
		return pid != 0 && pid != first
	})
	for range 50 {
		if s := c.applied("gateway", "shop"); s.InFlight["old"] != 1 || s.Revision != at {
			c.t.Fatalf("overlooked after the replacement: %+v", s)
		}
	}
	close(c.hang)
	open.Wait()
	c.await("idle", func() bool { s := c.applied("gateway", "shop"); return s.Revision == at && s.InFlight["old"] == 0 })
}

// early: an instance that no commit names resolves as one of its namespace once its link is there.
func (c *cluster) early() {
	c.t.Helper()
	if got := c.name("web.", "127.101.1.77"); got != "NXDOMAIN" && got != "REFUSED" {
		c.t.Errorf("a stranger's question for web: %q", got)
	}
	begun := time.Now()
	link := `{"id": "early", "netns_path": "/x", "v4": "127.101.1.77", "v6": "fd00:1:0:1:0:7:0:4d"}`
	file := filepath.Join(c.dir, "workloads", "early", "link.json")
	c.must(os.WriteFile(file+".new", []byte(link), 0o600))
	c.must(os.Rename(file+".new", file))
	c.await("known", func() bool { return c.name("web.", "127.101.1.77") == "127.101.1.2" })
	c.t.Logf("an instance resolves %v after its link was written", time.Since(begun).Round(time.Millisecond))
}

// TestTenThousandRoutes: both are certain of them within a second of their start, without a file.
func TestTenThousandRoutes(t *testing.T) {
	c := newCluster(t)
	var at store.Revision
	for n := range 100 {
		v := routing.View{Namespace: fmt.Sprintf("ns%d", n), NamespaceID: uint32(n + 1), Services: map[string]routing.Service{}}
		for k := range 100 {
			v4 := netip.AddrFrom4([4]byte{127, 101, byte(n), byte(k)})
			v6 := netip.MustParseAddr(fmt.Sprintf("fd00:1:0:1:0:%x:0:%x", n+1, k+1))
			v.Services[fmt.Sprintf("web%d", k)] = routing.Service{
				Instances: []routing.Instance{{ID: fmt.Sprintf("i%d-%d", n, k), Slot: "web-0", Machine: "m1", V4: v4, V6: v6}},
				Routes:    []api.Route{{Host: fmt.Sprintf("h%d-%d.test", n, k), Port: 80}},
			}
		}
		text, err := v.Encode()
		c.must(err)
		at = c.put(store.Put{Key: store.Route(v.Namespace), Value: text})
	}
	begun := time.Now()
	c.start("gateway", "dns")
	c.awaitBoth("all of them", func(name string) bool {
		s := c.applied(name, "ns99")
		return s.Revision == at && !s.Uncertain
	})
	took := time.Since(begun)
	t.Logf("10 000 routes served and certain %v after the start of both", took.Round(time.Millisecond))
	if took > 5*time.Second { // the aim is 1 s; a busy machine is not a failure
		t.Errorf("it took %v", took)
	}
	begun = time.Now()
	at = c.commit("ns7", 8)
	c.awaitBoth("one more", func(name string) bool { return c.applied(name, "ns7").Revision == at })
	t.Logf("one commit beside them applied by both after %v", time.Since(begun).Round(time.Millisecond))
}
