package examples

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// lab is a network of its own:
//
//	namespace lab: bridge 10.99.0.1, DNS for shop.lab.test, and the tests' own connections
//	     |        |        |        |
//	  10.99.0.2  .3       .4       .5     one namespace for each container
type lab struct {
	t      *testing.T
	name   string // begins the name of everything made outside the test's own folder
	dir    string
	zone   zone
	last   int // last byte of the newest address
	client *http.Client
}

const searchDomain = "shop.lab.test"

func newLab(t *testing.T) *lab {
	l := &lab{t: t, name: fmt.Sprintf("shop%d", os.Getpid()), dir: t.TempDir(), last: 1}
	l.addNamespace(l.name)
	// An address of its own: a bridge else takes the least of its ports', and changes it as containers come. Whoever knew the
	// old one loses what they send, for ten seconds and more.
	l.ip("-n", l.name, "link", "add", "br0", "address", "02:00:00:00:00:fe", "type", "bridge")
	l.ip("-n", l.name, "addr", "add", "10.99.0.1/24", "dev", "br0")
	l.ip("-n", l.name, "link", "set", "br0", "up")
	l.serveDNS()
	l.client = &http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}
	l.write("resolv.conf", "nameserver 10.99.0.1\nsearch "+searchDomain+"\noptions ndots:1\n")
	return l
}

func (l *lab) addNamespace(name string) {
	l.ip("netns", "add", name)
	l.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			l.t.Errorf("namespace %s stays: %v %s", name, err, out)
		}
	})
	l.ip("-n", name, "link", "set", "lo", "up")
}

// connect makes a namespace for one container and returns its address.
func (l *lab) connect(id string) (namespace, address string) {
	l.last++
	namespace, address = l.name+"-"+id, fmt.Sprintf("10.99.0.%d", l.last)
	port := fmt.Sprintf("v%d", l.last)
	l.addNamespace(namespace)
	l.ip("-n", l.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
	l.ip("-n", l.name, "link", "set", port, "master", "br0", "up")
	l.ip("-n", namespace, "addr", "add", address+"/24", "dev", "eth0")
	l.ip("-n", namespace, "link", "set", "eth0", "up")
	return namespace, address
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
	}
}

// write puts a file into the lab's folder that any user can read, and returns its path.
func (l *lab) write(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// inside runs work on a thread that is in the lab's namespace. The thread is not unlocked, so it
// ends with its goroutine and never runs anything else there.
func (l *lab) inside(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + l.name)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering %s: %w", l.name, err)
			return
		}
		done <- work()
	}()
	return <-done
}

// dial connects from within the lab. Addresses are literal, so the dialer makes its socket on
// this very thread.
func (l *lab) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = l.inside(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// zone is what the lab's DNS answers.
type zone struct {
	mu    sync.Mutex
	names map[string][]string // guarded by mu; short name to addresses
}

func (z *zone) set(name string, addresses ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.names == nil {
		z.names = map[string][]string{}
	}
	z.names[name+"."+searchDomain+"."] = addresses
}

// ServeDNS implements dns.Handler. A name that exists has no other kinds of address than A.
func (z *zone) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	answer := new(dns.Msg).SetReply(question)
	asked := question.Question[0]
	addresses, known := z.names[asked.Name]
	if !known {
		answer.Rcode = dns.RcodeNameError
	}
	for _, a := range addresses {
		if asked.Qtype == dns.TypeA {
			header := dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}
			answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.ParseIP(a)})
		}
	}
	_ = w.WriteMsg(answer) // who asked and went away asks again
}

func (l *lab) serveDNS() {
	var packets net.PacketConn
	err := l.inside(func() (err error) {
		packets, err = net.ListenPacket("udp", "10.99.0.1:53")
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: &l.zone}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	l.t.Cleanup(func() {
		packets.Close()
		<-ended
	})
}

// await polls until done, and shows the containers' last words if that never happens.
func (l *lab) await(what string, limit time.Duration, done func() error, logs ...*output) {
	l.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("not within %v: %s: %v\n%s", limit, what, err, logs)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// output collects what a container writes, while the test may read it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
