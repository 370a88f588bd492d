package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// port is a TCP route's open listeners.
type port struct {
	listeners []net.Listener
	err       error // why there are none
}

// openPorts opens the ports of the table's TCP routes that are not open, and closes the others.
// The caller holds applyMu.
func (s *Server) openPorts(st *state) {
	for n, p := range s.ports {
		if st.tcp[n] == nil {
			p.close()
			delete(s.ports, n)
			if s.CloseTCP != nil {
				s.CloseTCP(n)
			}
		}
	}
	if s.draining.Load() {
		return // the successor opens them
	}
	for n := range st.tcp {
		if p := s.ports[n]; p == nil || p.err != nil {
			s.ports[n] = s.openPort(n)
		}
	}
}

func (p *port) close() {
	for _, ln := range p.listeners {
		ln.Close()
	}
}

func (s *Server) openPort(n uint16) *port {
	if s.ListenTCP == nil {
		return &port{err: errors.New("gateway: this server has no TCP ports")}
	}
	lns, err := s.ListenTCP(n)
	if err != nil {
		s.Log.Error("tcp route's port cannot be opened", "port", n, "error", err)
		return &port{err: err}
	}
	for _, ln := range lns {
		go func() {
			if err := s.acceptLoop(ln, func(c *tracked) { s.serveTCP(c, n) }); err != nil {
				s.Log.Error("tcp port stopped accepting", "port", n, "error", err)
			}
		}()
	}
	return &port{listeners: lns}
}

// serveTCP passes one connection through. A client nobody can be found for is reset, which it
// can tell from a regular end.
func (s *Server) serveTCP(c *tracked, n uint16) {
	defer c.Close()
	c.idleSince.Store(0)
	s.counts.tcpConnections.Add(1)
	client, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return
	}
	up, u, route, err := s.dialTCP(n, client)
	if errors.Is(err, errClientLeft) {
		s.counts.clientGone.Add(1)
		return
	}
	if err != nil {
		s.counts.refused(tcpRefusal(err))
		client.SetLinger(0)
		return
	}
	defer u.inFlight.Add(-1)
	defer up.Close()
	if _, err := up.Write(proxyHeader(route.ProxyProtocol, c.RemoteAddr(), c.LocalAddr())); err != nil {
		client.SetLinger(0)
		return
	}
	pass(client, up, &c.traffic)
}

// dialTCP connects a client to an upstream of the port's route, trying others where one cannot be reached.
func (s *Server) dialTCP(n uint16, client net.Conn) (*net.TCPConn, *upstream, *tcpRoute, error) {
	var tried []*upstream
	var route *tcpRoute
	find := func(st *state) (pool, bool) {
		if route = st.tcp[n]; route == nil {
			return pool{}, false
		}
		return route.pool, true
	}
	var last error
	for len(tried) < maxAttempts {
		u, err := s.acquire(find, tried)
		if errors.Is(err, errOnHold) {
			if err := s.await(context.Background(), find, connectionLeft(client)); err != nil {
				return nil, nil, nil, err
			}
			tried, last = nil, nil
			continue
		}
		if err != nil {
			return nil, nil, nil, errors.Join(last, err)
		}
		c, err := net.DialTimeout("tcp", u.address, s.Limits.Dial)
		if err == nil {
			u.noteSuccess()
			return c.(*net.TCPConn), u, route, nil
		}
		u.inFlight.Add(-1)
		u.noteFailure(time.Now())
		s.counts.connectFailures.Add(1)
		s.counts.retries.Add(1)
		last, tried = err, append(tried, u)
	}
	return nil, nil, nil, last
}

// pass copies both ways in the kernel (splice) until both sides have ended, passing on each
// end by itself, and a reset as a reset. The client's bytes are counted at the end.
func pass(client, up *net.TCPConn, t *traffic) {
	var both sync.WaitGroup
	both.Go(func() { t.received.Add(passOne(client, up)) })
	t.sent.Add(passOne(up, client))
	both.Wait()
}

func passOne(from, to *net.TCPConn) uint64 {
	n, err := io.Copy(to, from)
	if err != nil {
		for _, c := range []*net.TCPConn{from, to} {
			c.SetLinger(0)
			c.Close()
		}
		return uint64(n)
	}
	to.CloseWrite()
	return uint64(n)
}

// proxyV2Signature opens a PROXY header of version 2.
const proxyV2Signature = "\r\n\r\n\x00\r\nQUIT\n"

// proxyHeader returns the PROXY header that tells an upstream who the client is.
func proxyHeader(v ProxyProtocol, client, gateway net.Addr) []byte {
	src, dst := addrPort(client), addrPort(gateway)
	switch v {
	case ProxyV1:
		family := "TCP6"
		if src.Addr().Is4() {
			family = "TCP4"
		}
		return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, src.Addr(), dst.Addr(), src.Port(), dst.Port())
	case ProxyV2:
		family := byte(0x21) // stream over IPv6
		if src.Addr().Is4() {
			family = 0x11
		}
		addresses := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
		b := append([]byte(proxyV2Signature), 0x21, family) // version 2, command PROXY
		b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)+4))
		b = append(b, addresses...)
		b = binary.BigEndian.AppendUint16(b, src.Port())
		return binary.BigEndian.AppendUint16(b, dst.Port())
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
