package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// closedPorts are UDP ports at which nothing listens, the first of those that traceroute uses: a machine that gets a
// packet there says by ICMP that nobody is at home.
var closedPorts = []uint16{33434, 33441, 33457}

// wayWithin is how long one may take to say so.
const wayWithin = 2 * time.Second

// arrives reports whether UDP from here is seen to arrive at one of a machine's endpoints. That it is not seen proves
// nothing: the answer may be filtered, too.
func arrives(ctx context.Context, endpoints []netip.AddrPort) bool {
	var at []netip.AddrPort
	for _, e := range endpoints {
		for _, port := range closedPorts {
			at = append(at, netip.AddrPortFrom(e.Addr(), port))
		}
	}
	seen, _ := everywhere(ctx, at, func(ctx context.Context, at netip.AddrPort) (bool, error) { return nobodyAt(ctx, at), nil })
	return slices.Contains(seen, true)
}

// nobodyAt sends one byte, and waits to be told that nobody takes it.
func nobodyAt(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, wayWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", at.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // ends the reading
	if _, err = conn.Write([]byte{0}); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
