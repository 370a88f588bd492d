package daemon

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestWay: what arrives where nobody listens is answered, what somebody takes in silence is not.
func TestWay(t *testing.T) {
	if !arrives(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:51820")}) {
		t.Error("what was sent to a closed port of this machine was not seen to arrive")
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	begin := time.Now()
	if nobodyAt(t.Context(), netip.MustParseAddrPort(silent.LocalAddr().String())) {
		t.Error("silence was taken for an answer")
	}
	if took := time.Since(begin); took > 2*wayWithin {
		t.Errorf("that took %s", took)
	}
}
