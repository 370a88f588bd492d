package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	queryBytes  = 2048 // largest query read over UDP; a longer one arrives cut and is malformed
	oobBytes    = 128  // control messages: one of packet information
	maxReadErrs = 100  // in a row, until a socket is given up
)

// udpSocket is one that many goroutines may read.
type udpSocket struct {
	conn *net.UDPConn
	// wildcard sockets must be told which of the machine's addresses a reply comes from.
	wildcard bool
}

func newUDPSocket(conn *net.UDPConn) (*udpSocket, error) {
	u := &udpSocket{conn, addrPort(conn.LocalAddr()).Addr().IsUnspecified()}
	if !u.wildcard {
		return u, nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var v4, v6 error
	err = raw.Control(func(fd uintptr) {
		v4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		v6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if v4 != nil && v6 != nil {
		err = errors.Join(err, v4, v6)
	}
	return u, err
}

// readUDP answers datagrams until the socket's deadline.
func (s *Server) readUDP(u *udpSocket) error {
	in, out, oob := make([]byte, queryBytes), make([]byte, 0, ednsSize), make([]byte, oobBytes)
	failures := 0
	for {
		n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(in, oob)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			if failures++; failures > maxReadErrs || errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(time.Millisecond)
			continue
		}
		failures = 0
		source := u.replySource(oob[:oobn])
		q := query{raw: in[:n], from: from.Addr(), out: out}
		reply, work := s.answer(q)
		if work != nil {
			source := slices.Clone(source)
			s.later(q, work, func(reply []byte) { s.sendUDP(u, reply, source, from) })
			continue
		}
		if reply != nil {
			s.sendUDP(u, reply, source, from)
		}
	}
}

func (s *Server) sendUDP(u *udpSocket, reply, source []byte, to netip.AddrPort) {
	if _, _, err := u.conn.WriteMsgUDPAddrPort(reply, source, to); err != nil {
		s.count.unsent.Add(1)
		return
	}
	s.count.replies.sent(reply)
}

// replySource turns the received packet information, in place, into what makes the reply come
// from the address that was asked. The layouts are those of ip(7) and ipv6(7).
func (u *udpSocket) replySource(oob []byte) []byte {
	if !u.wildcard || len(oob) == 0 {
		return nil
	}
	for rest := oob; len(rest) > 0; {
		hdr, body, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return nil
		}
		this := rest[:len(rest)-len(next)]
		switch {
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			clear(body[:4]) // any interface: the route back need not be the way in
			return this
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
			if a := netip.AddrFrom16([16]byte(body[:16])); !a.IsLinkLocalUnicast() {
				clear(body[16:20])
			}
			return this
		}
		rest = next
	}
	return nil
}
