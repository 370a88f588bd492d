package wire

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Line is how bad a cable is, the same in each direction.
type Line struct {
	// Delay is what each packet takes longer, so a round trip takes twice that.
	Delay time.Duration
	// Jitter is how much a packet's delay may be more or less than Delay. It alone changes no order.
	Jitter time.Duration
	// Loss and Reorder are the shares, 0 to 1, of packets that get lost, or that overtake those waiting.
	Loss, Reorder float64
}

// String is the line in the words of `dev delay`, and ParseLine reads it.
func (l Line) String() string {
	text := l.Delay.String()
	if l.Jitter > 0 {
		text += " --jitter " + l.Jitter.String()
	}
	if l.Loss > 0 {
		text += " --loss " + percent(l.Loss)
	}
	if l.Reorder > 0 {
		text += " --reorder " + percent(l.Reorder)
	}
	return text
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 6, 64) + "%" }

// ParseShare reads a share such as "1%" or "0.5%".
func ParseShare(text string) (float64, error) {
	number, found := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || !(share >= 0 && share <= 100) {
		return 0, fmt.Errorf("%q is no share: say 0%% to 100%%", text)
	}
	return share / 100, nil
}

// ParseLine reads what String wrote.
func ParseLine(text string) (Line, error) {
	words := strings.Fields(text)
	if len(words)%2 != 1 {
		return Line{}, fmt.Errorf("%q is no line", text)
	}
	var l Line
	var err error
	if l.Delay, err = time.ParseDuration(words[0]); err != nil {
		return Line{}, err
	}
	for i := 1; i < len(words) && err == nil; i += 2 {
		switch words[i] {
		case "--jitter":
			l.Jitter, err = time.ParseDuration(words[i+1])
		case "--loss":
			l.Loss, err = ParseShare(words[i+1])
		case "--reorder":
			l.Reorder, err = ParseShare(words[i+1])
		default:
			err = fmt.Errorf("%q is no word of a line", words[i])
		}
	}
	return l, err
}

// Check returns why there can be no such line, or nil.
func (l Line) Check() error {
	switch {
	case l.Delay < 0 || l.Jitter < 0 || l.Jitter > l.Delay:
		return fmt.Errorf("a delay of %v, more or less %v, would be before its time", l.Delay, l.Jitter)
	case l.Loss < 0 || l.Loss > 1 || l.Reorder < 0 || l.Reorder > 1:
		return fmt.Errorf("shares of packets are 0%% to 100%%, not %s and %s", percent(l.Loss), percent(l.Reorder))
	case l == Line{}:
		return fmt.Errorf("that is a good line: say a delay, a loss or both")
	}
	return nil
}

// fate is what happens to one packet.
type fate struct {
	lost, overtakes bool
	after           time.Duration
}

// draw decides one packet's fate.
func (l Line) draw(r *rand.Rand) fate {
	f := fate{lost: r.Float64() < l.Loss, overtakes: r.Float64() < l.Reorder, after: l.Delay}
	if l.Jitter > 0 {
		f.after += time.Duration((2*r.Float64() - 1) * float64(l.Jitter))
	}
	return f
}
