package main

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ployz/ployz/datapath/link"
	"github.com/ployz/ployz/datapath/link/linktest"
	"github.com/ployz/ployz/datapath/overlay/overlaytest"
	"github.com/ployz/ployz/node/mesh"
	"github.com/ployz/ployz/node/mesh/wireguard"
	"github.com/ployz/ployz/node/nodetest/testenv"
)

const (
	rounds     = 9
	roundBytes = 96 << 20
)

// BenchmarkOverlayThroughput compares a stream between two machines' overlay addresses, and one between their workloads, with one
// over a WireGuard device with addresses of its own and nothing else, between the same two namespaces. Rounds alternate, and the
// ratio is the median of the rounds'.
func BenchmarkOverlayThroughput(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.TUN)
	sites := newCluster(b, 2)
	for _, s := range sites {
		s.boot(b)
	}
	one, two := sites[0], sites[1]
	bare := bareDevices(b, sites)
	for b.Loop() {
		var machines, workloads, rates []float64
		for range rounds {
			base := rate(b, one.machine, two.machine, bare)
			machines = append(machines, rate(b, one.machine, two.machine, two.bridge.V6.Addr())/base)
			workloads = append(workloads, rate(b, one.inside, two.inside, two.workload.V4)/base)
			rates = append(rates, base)
		}
		b.ReportMetric(median(rates)/1e6, "bare-MB/s")
		b.ReportMetric(median(workloads), "workloads/bare")
		ratio := median(machines)
		b.ReportMetric(ratio, "overlay/bare")
		if ratio < 0.97 {
			b.Errorf("%.3f of the bare device, at least 0.97 is wanted; rounds: %.2f", ratio, machines)
		}
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// bareDevices joins the two machines by devices that only have addresses, and returns the second one's.
func bareDevices(b *testing.B, sites []*site) netip.Addr {
	b.Helper()
	addresses := both(netip.MustParsePrefix("fd99::1/64"), netip.MustParsePrefix("fd99::2/64"))
	for i, s := range sites {
		other := sites[1-i].peer(1 - i)
		other.AllowedIPs = []netip.Prefix{netip.PrefixFrom(addresses[1-i].Addr(), 128)}
		other.Endpoints = []netip.AddrPort{netip.AddrPortFrom(other.Endpoints[0].Addr(), meshPort+1)}
		state := s.state
		state.Interface, state.ListenPort, state.Peers = overlaytest.Name(), meshPort+1, []mesh.Peer{other}
		overlaytest.Start(b, s.machine, state.Interface)
		s.machine.Kernel(b, func(k *link.Kernel) error {
			if err := k.EnsureDevice(state.Interface, state.MTU); err != nil {
				return err
			}
			if _, err := wireguard.Ensure(b.Context(), state); err != nil {
				return err
			}
			return k.EnsureAddresses(state.Interface, addresses[i])
		})
	}
	return addresses[1].Addr()
}

// rate sends a stream and returns bytes a second, from the first byte sent to the last one taken.
func rate(b *testing.B, from, to linktest.Netns, address netip.Addr) float64 {
	b.Helper()
	var listener net.Listener
	to.Run(b, func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
		return err
	})
	defer func() { _ = listener.Close() }()
	taken := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.CopyN(io.Discard, conn, roundBytes)
			_ = conn.Close()
		}
		taken <- err
	}()
	begin := time.Now()
	from.Run(b, func() error { return send(listener.Addr().String()) })
	if err := <-taken; err != nil {
		b.Fatal(err)
	}
	return roundBytes / time.Since(begin).Seconds()
}

func send(address string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	chunk := make([]byte, 256<<10)
	for sent := 0; sent < roundBytes; sent += len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// adoptions are enough for a median: the first one also meets cold caches, and is told beside it.
const adoptions = 21

// BenchmarkAdopt reads a device with 200 peers and its 400 routes, finds nothing to do, and writes nothing.
func BenchmarkAdopt(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.TUN)
	s := crowded(b, 200)
	var times []float64
	for b.Loop() {
		for range adoptions {
			took, writes := adoption(b, s)
			if len(writes) > 0 {
				b.Fatalf("written: %q", writes)
			}
			times = append(times, float64(took.Microseconds())/1000)
		}
	}
	b.ReportMetric(times[0], "ms-first")
	b.ReportMetric(median(times), "ms-median")
	if median(times) > 10 {
		b.Errorf("adopting took %.1f ms, at most 10 are wanted", median(times))
	}
}

// BenchmarkAdd puts 200 peers and 400 routes into a new device.
func BenchmarkAdd(b *testing.B) {
	testenv.Require(b, testenv.Root, testenv.TUN)
	s := crowded(b, 200)
	for b.Loop() {
		b.StopTimer()
		s.device.Stop()
		s.device = overlaytest.Start(b, s.machine, s.state.Interface)
		b.StartTimer()
		if changes := s.ensure(b); len(changes) < 600 {
			b.Fatalf("%d changes", len(changes))
		}
	}
}
