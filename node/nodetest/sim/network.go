package sim

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/ployz/ployz/node/coordination"
)

// network is the bus between daemons. A message takes its time, and may be lost, late or doubled; messages
// overtake each other, except the frames of one conversation, which the bus keeps in order.
type network struct {
	w *world

	mu   sync.Mutex
	cuts map[[2]string]int // guarded by mu; how many faults separate two machines
	sent map[string]int    // guarded by mu; how many messages had a name already
}

func newNetwork(w *world) *network {
	return &network{w: w, cuts: map[[2]string]int{}, sent: map[string]int{}}
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// cut separates two machines, or joins them again with -1.
func (n *network) cut(a, b string, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[pair(a, b)] += by
}

// apart says that nothing gets from one machine to another now.
func (n *network) apart(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[pair(a, b)] > 0
}

// name makes a message's name unlike all before it.
func (n *network) name(of string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent[of]++
	return fmt.Sprintf("%s/%d", of, n.sent[of])
}

// travel is how long a message is on its way, and whether it arrives.
func (n *network) travel(name string) (time.Duration, bool) {
	d, weather := n.w.dice, n.w.weather()
	if d.chance(weather.late, "late "+name) {
		return d.between(time.Second, 25*time.Second, "travel "+name), true
	}
	return d.between(100*time.Microsecond, 4*time.Millisecond, "travel "+name), !d.chance(weather.lost, "lost "+name)
}

// wire is the bus as one daemon reaches it.
type wire struct {
	n *network
	d *daemon
}

var _ coordination.Wire = wire{}

// Send implements coordination.Wire.
func (x wire) Send(_ context.Context, id, verb string, sealed []byte) (coordination.Conversation, error) {
	x.d.gate()
	n, from, to := x.n, x.d.m, x.n.w.machineByID(id)
	if to == nil || to.present() == nil && !n.apart(from.name, to.name) {
		return nil, coordination.ErrNobody
	}
	c := &conversation{network: n, from: to.name, to: from.name, caller: x.d, wake: make(chan struct{}, 1)}
	c.name = n.name(fmt.Sprintf("%s>%s %s %x", from.name, to.name, verb, contentOf(sealed)))
	copies := 1
	if n.w.dice.chance(n.w.weather().doubled, "doubled "+c.name) {
		copies = 2
	}
	for i := range copies {
		go n.deliver(c, to, fmt.Sprintf("%s.%d", c.name, i), sealed)
	}
	return c, nil
}

// contentOf tells two commands of one verb apart: by what is asked, without the call's own number and time.
func contentOf(sealed []byte) uint32 {
	_, command, _ := bytes.Cut(sealed, []byte(`"command":`))
	return crc32.ChecksumIEEE(command)
}

// deliver brings one copy of a message to whoever is there when it arrives.
func (n *network) deliver(c *conversation, to *simMachine, name string, sealed []byte) {
	after, arrives := n.travel(name)
	time.Sleep(after)
	d := to.present()
	if !arrives || d == nil || n.apart(c.from, c.to) {
		return
	}
	d.gate()
	d.receive(sealed, func(frame []byte) error {
		d.live()
		c.reply(frame)
		return nil
	})
}

// conversation is the way back. Frames arrive in the order in which they were sent.
type conversation struct {
	network        *network
	name, from, to string
	caller         *daemon
	wake           chan struct{}

	mu     sync.Mutex
	count  int
	last   time.Time // guarded by mu; when the last frame arrives
	frames [][]byte  // guarded by mu
}

func (c *conversation) reply(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	after, arrives := c.network.travel(fmt.Sprintf("%s<%d", c.name, c.count))
	if !arrives || c.network.apart(c.from, c.to) {
		return
	}
	at := time.Now().Add(after)
	if !at.After(c.last) {
		at = c.last.Add(1)
	}
	c.last = at
	time.AfterFunc(time.Until(at), func() { c.put(frame) })
}

func (c *conversation) put(frame []byte) {
	c.mu.Lock()
	c.frames = append(c.frames, frame)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Next implements coordination.Conversation.
func (c *conversation) Next(ctx context.Context) ([]byte, error) {
	for {
		c.caller.gate()
		if frame := c.take(); frame != nil {
			return frame, nil
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			c.caller.gate()
			return nil, ctx.Err()
		}
	}
}

func (c *conversation) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == 0 {
		return nil
	}
	first := c.frames[0]
	c.frames = c.frames[1:]
	return first
}

// Close implements coordination.Conversation.
func (c *conversation) Close() {}
