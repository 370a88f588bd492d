package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// exchangeWith asks one upstream, over UDP and where that answer is truncated over TCP. With
// an error, the message is the truncated answer if there was one, else nil.
func exchangeWith(u netip.AddrPort, k upstreamKey, timeout time.Duration) (*dns.Msg, error) {
	req := upstreamQuery(k)
	m, err := overUDP(u, req, timeout)
	if err == nil && m.Truncated {
		full, tcpErr := overTCP(u, req, timeout)
		if tcpErr != nil {
			return m, fmt.Errorf("%v: after a truncated answer: %w", u, tcpErr)
		}
		m = full
	}
	if err != nil {
		return nil, fmt.Errorf("%v: %w", u, err)
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%v: it answered %s", u, dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// upstreamQuery takes from a client's query only what decides the answer, so that nothing
// else about the client is told.
func upstreamQuery(k upstreamKey) *dns.Msg {
	m := new(dns.Msg).SetQuestion(k.name, k.qtype)
	m.CheckingDisabled = k.cd
	m.AuthenticatedData = true // "tell me if you validated" (RFC 6840 §5.7)
	return m.SetEdns0(ednsSize, k.do)
}

// overUDP uses a socket, and so a random port, per query.
func overUDP(u netip.AddrPort, req *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	conn, err := net.DialTimeout("udp", u.String(), timeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	packed, err := req.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	strays := 0
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, withStrays(err, strays)
		}
		// What does not fit may be forged. The true answer may still come.
		if m := matching(req, buf[:n]); m != nil {
			return m, nil
		}
		strays++
	}
}

func withStrays(err error, strays int) error {
	if strays == 0 {
		return err
	}
	return fmt.Errorf("%w (after %d messages that did not fit the question)", err, strays)
}

func overTCP(u netip.AddrPort, req *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	conn, err := net.DialTimeout("tcp", u.String(), timeout)
	if err != nil {
		return nil, err
	}
	c := dns.Conn{Conn: conn}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if err := c.WriteMsg(req); err != nil {
		return nil, err
	}
	raw, err := c.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	m := matching(req, raw)
	if m == nil {
		return nil, errors.New("its answer over TCP did not fit the question")
	}
	m.Truncated = false // there is nowhere else to go for more
	return m, nil
}

// matching parses a message and returns it if it answers req, else nil.
func matching(req *dns.Msg, raw []byte) *dns.Msg {
	if len(raw) < headerLen || binary.BigEndian.Uint16(raw) != req.Id {
		return nil
	}
	m := new(dns.Msg)
	if m.Unpack(raw) != nil || !m.Response || m.Opcode != dns.OpcodeQuery {
		return nil
	}
	if len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess {
		return m // some leave the question out of an error
	}
	if len(m.Question) != 1 {
		return nil
	}
	want, got := req.Question[0], m.Question[0]
	if !strings.EqualFold(want.Name, got.Name) || want.Qtype != got.Qtype || want.Qclass != got.Qclass {
		return nil
	}
	return m
}
