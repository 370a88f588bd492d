package wire

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestLineIsReadAsWritten(t *testing.T) {
	for _, c := range []struct {
		line Line
		text string
	}{
		{Line{Delay: 50 * time.Millisecond}, "50ms"},
		{Line{Loss: 0.005}, "0s --loss 0.5%"},
		{Line{time.Second, 10 * time.Millisecond, 0.01, 1}, "1s --jitter 10ms --loss 1% --reorder 100%"},
	} {
		if got := c.line.String(); got != c.text {
			t.Errorf("%+v is written %q, want %q", c.line, got, c.text)
		}
		if got, err := ParseLine(c.text); got != c.line || err != nil {
			t.Errorf("%q is read as %+v, %v", c.text, got, err)
		}
		if err := c.line.Check(); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for _, text := range []string{"", "50", "50ms --loss", "50ms --loss 1", "50ms --loss 101%", "50ms --loss -1%", "50ms --loss NaN%", "1s --speed 3%"} {
		if got, err := ParseLine(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
	for _, line := range []Line{{}, {Delay: -1}, {Jitter: time.Second}, {Loss: 1.5}, {Delay: time.Second, Reorder: -0.1}} {
		if line.Check() == nil {
			t.Errorf("%+v passes for a line", line)
		}
	}
}

func TestFates(t *testing.T) {
	line := Line{Delay: 100, Jitter: 10, Loss: 0.25, Reorder: 0.5}
	random := rand.New(rand.NewPCG(1, 2))
	var lost, overtakes int
	const packets = 10000
	for range packets {
		f := line.draw(random)
		if f.after < 90 || f.after > 110 {
			t.Fatalf("a packet is late by %d", f.after)
		}
		if f.lost {
			lost++
		}
		if f.overtakes {
			overtakes++
		}
	}
	if lost < packets/5 || lost > packets/3 || overtakes < packets*2/5 || overtakes > packets*3/5 {
		t.Errorf("of %d packets %d are lost and %d overtake", packets, lost, overtakes)
	}
}

// TestQueueKeepsOrder: however long each of them takes, only those that overtake change places.
func TestQueueKeepsOrder(t *testing.T) {
	got := make(chan byte, 100)
	q := newQueue(Line{Delay: 2 * time.Millisecond, Jitter: 2 * time.Millisecond}, func(frame []byte) { got <- frame[0] })
	for i := range byte(100) {
		q.add([]byte{i})
	}
	for i := range byte(100) {
		if next := <-got; next != i {
			t.Fatalf("packet %d came in the place of %d", next, i)
		}
	}
}
