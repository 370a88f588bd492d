package echo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// Probe says how a measurement is made.
type Probe struct {
	// Count is how many requests each target gets, Every the time between two, Wait how long the last one's answer may take.
	Count int
	Every time.Duration
	Wait  time.Duration
}

// Default takes about a second and a half where everybody answers, and a second more where somebody does not.
func Default() Probe { return Probe{Count: 5, Every: 200 * time.Millisecond, Wait: time.Second} }

// Trip is what was measured of one target.
type Trip struct {
	// Sent counts requests, Times has the round trip of each that was answered, in the order of the answers.
	Sent  int
	Times []time.Duration
	// Err is why the last request could not even be sent, as where the overlay knows no endpoint.
	Err error
}

// protocolICMPv6 is its number in IPv6's next header.
const protocolICMPv6 = 58

// Measure asks every target at the same time, from the address source, and returns a Trip for each, in the order of
// the targets. What does not answer is in its Trip; an error is that nothing could be measured at all.
func Measure(ctx context.Context, source netip.Addr, targets []netip.Addr, p Probe) ([]Trip, error) {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", source.String())
	if err != nil {
		return nil, fmt.Errorf("echo: a raw socket on %s: %w", source, err)
	}
	defer conn.Close()
	m := &measurement{conn: conn, targets: targets, trips: make([]Trip, len(targets)), sent: map[stamp]time.Time{}}
	var id [2]byte
	rand.Read(id[:]) // never fails
	m.id = int(binary.BigEndian.Uint16(id[:]))
	return m.trips, m.run(ctx, p)
}

// stamp names one request.
type stamp struct {
	target int
	round  int
}

// measurement sends and hears in one goroutine: while it waits for the next round it hears answers.
type measurement struct {
	conn    *icmp.PacketConn
	id      int
	targets []netip.Addr
	trips   []Trip
	// sent are the requests without an answer yet.
	sent map[stamp]time.Time
}

func (m *measurement) run(ctx context.Context, p Probe) error {
	for round := range p.Count {
		for i := range m.targets {
			m.ask(i, round)
		}
		pause := p.Every
		if round == p.Count-1 {
			pause = p.Wait
		}
		if err := m.hear(ctx, time.Now().Add(pause), round == p.Count-1); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) ask(target, round int) {
	request := icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: m.id, Seq: round, Data: make([]byte, 32)}}
	text, err := request.Marshal(nil) // the kernel sums it up
	if err == nil {
		m.sent[stamp{target, round}] = time.Now()
		_, err = m.conn.WriteTo(text, &net.IPAddr{IP: m.targets[target].AsSlice()})
	}
	m.trips[target].Sent++
	if m.trips[target].Err = err; err != nil {
		delete(m.sent, stamp{target, round})
	}
}

// hear takes answers until a moment; in the last round it ends as soon as there is none to come.
func (m *measurement) hear(ctx context.Context, until time.Time, last bool) error {
	if err := m.conn.SetReadDeadline(until); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	buffer := make([]byte, 1500)
	for !last || len(m.sent) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, from, err := m.conn.ReadFrom(buffer)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return nil
		case err != nil:
			return fmt.Errorf("echo: %w", err)
		}
		m.note(time.Now(), from, buffer[:n])
	}
	return nil
}

// note keeps the time of an answer to a request of ours; everything else that the socket hears is other people's.
func (m *measurement) note(now time.Time, from net.Addr, text []byte) {
	message, err := icmp.ParseMessage(protocolICMPv6, text)
	if err != nil || message.Type != ipv6.ICMPTypeEchoReply {
		return
	}
	body, ok := message.Body.(*icmp.Echo)
	if !ok || body.ID != m.id {
		return
	}
	for i, target := range m.targets {
		at, asked := m.sent[stamp{i, body.Seq}]
		if asked && target.String() == from.String() {
			m.trips[i].Times = append(m.trips[i].Times, now.Sub(at))
			delete(m.sent, stamp{i, body.Seq})
			return
		}
	}
}
