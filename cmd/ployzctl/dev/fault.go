package dev

import (
	"errors"
	"slices"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// Faults are of the underlay, never of a machine: they stand where cables and switches would be, and
// a machine cannot tell them from bad ones. They are kept nowhere but in the kernel and in the
// processes that make them, so what Inspect shows is what there is, and down has nothing to undo.

// Fault is one fault of a lab's underlay as found now.
type Fault struct {
	// Text is the fault in the words of the command that makes it, without the lab's name.
	Text string `json:"text"`
	// Dropped counts the packets that it swallowed so far; a delayed line does not count its losses.
	Dropped int `json:"dropped_packets,omitempty"`
}

// Split says who loses whom. Places are machines and "client"; those in no group keep talking to all.
type Split struct {
	// Groups are at least two; places of one group keep talking to each other.
	Groups [][]string
	// OneWay drops only packets from the first group to the second, and takes exactly two.
	OneWay bool
}

// ParseGroups reads groups as the command line has them: places with commas between them.
func ParseGroups(words ...string) [][]string {
	groups := make([][]string, len(words))
	for i, word := range words {
		groups[i] = strings.Split(word, ",")
	}
	return groups
}

func (s Split) String() string {
	words := []string{"partition"}
	for _, group := range s.Groups {
		words = append(words, strings.Join(group, ","))
	}
	if s.OneWay {
		words = append(words, "--one-way")
	}
	return strings.Join(words, " ")
}

// Partition cuts groups of places off from each other, in both directions unless asked otherwise: not
// a packet passes, of any protocol. It comes on top of the faults that are there, and may be repeated.
// Errors: dev.no-such-lab, dev.no-such-machine, dev.bad-options, dev.machine-off, dev.host-unfit.
func Partition(name string, s Split) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	if err := l.checkSplit(s); err != nil {
		return err
	}
	var rules []rule
	for i, from := range s.Groups {
		for j, to := range s.Groups {
			if i != j && (!s.OneWay || i < j) {
				rules = append(rules, between(from, to)...)
			}
		}
	}
	return l.addFault(s.String(), rules)
}

func (l *lab) checkSplit(s Split) error {
	seen := map[string]bool{}
	for _, place := range slices.Concat(s.Groups...) {
		if place != clientPlace {
			if _, err := l.number(place); err != nil {
				return err
			}
		}
		if seen[place] {
			return api.Errorf(api.CodeDevOptions, "%s is named twice in %q", place, s).WithHint("ployzctl dev partition %s m1,m2 m3", l.name)
		}
		seen[place] = true
	}
	switch {
	case len(s.Groups) < 2:
		return api.Errorf(api.CodeDevOptions, "a partition is between two groups or more").WithHint("ployzctl dev partition %s m1,m2 m3", l.name)
	case s.OneWay && len(s.Groups) != 2:
		return api.Errorf(api.CodeDevOptions, "one way is from one group to one other, not between %d", len(s.Groups)).
			WithHint("ployzctl dev partition %s m1,m2 m3 --one-way", l.name)
	}
	return nil
}

// Direction is which packets of a machine a block takes.
type Direction string

// The directions of a block, as the machine has them.
const (
	Both Direction = ""
	From Direction = "from"
	To   Direction = "to"
)

// Block takes one protocol of a machine away and leaves the rest.
type Block struct {
	Machine  string
	Protocol string // "udp", "tcp" or "icmp", of IPv4 and of IPv6
	Only     Direction
}

func (b Block) String() string {
	text := "block " + b.Machine + " " + b.Protocol
	if b.Only != Both {
		text += " --only " + string(b.Only)
	}
	return text
}

// protocols maps a word to what nft calls it.
var protocols = map[string]string{"udp": "udp", "tcp": "tcp", "icmp": "{ icmp, ipv6-icmp }"}

// BlockProtocol drops all packets of one protocol from and to a machine, or only one of the two. It
// comes on top of the faults that are there, and may be repeated. Errors: as Partition's.
func BlockProtocol(name string, b Block) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	if _, err := l.number(b.Machine); err != nil {
		return err
	}
	match, known := protocols[b.Protocol]
	if !known || !slices.Contains([]Direction{Both, From, To}, b.Only) {
		return api.Errorf(api.CodeDevOptions, "%q: a block takes udp, tcp or icmp, and only %q or %q", b, From, To).
			WithHint("ployzctl dev block %s/%s udp --only from", name, b.Machine)
	}
	var rules []rule
	port := ports([]string{b.Machine})
	if b.Only != To {
		rules = append(rules, rule{"prerouting", "iifname " + port + " meta l4proto " + match})
	}
	if b.Only != From {
		rules = append(rules, rule{"postrouting", "oifname " + port + " meta l4proto " + match})
	}
	return l.addFault(b.String(), rules)
}

// Heal makes a lab's underlay whole again: it removes every partition, block and delay, and may be
// repeated. It does not undo Readdress, which is no fault. Errors: dev.no-such-lab, dev.machine-off.
func Heal(name string) error {
	l, err := openLab(name)
	if err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.needHolder(); err != nil {
		return err
	}
	return errors.Join(l.nft("add table bridge "+faultTable+"\ndelete table bridge "+faultTable+"\n"), l.removeWires(l.machines()))
}

// addFault adds rules that drop packets under one text, unless they are there.
func (l *lab) addFault(text string, rules []rule) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.needHolder(); err != nil {
		return err
	}
	there, err := l.rules()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(there, func(f Fault) bool { return f.Text == comment(text) }) {
		return nil
	}
	return l.nft(ruleset(comment(text), rules))
}

// needHolder returns an error unless the lab's network is up.
func (l *lab) needHolder() error {
	holder, err := l.holder()
	if err == nil && holder == 0 {
		return l.off(clientPlace)
	}
	return err
}

// faults are all faults of the lab as found now.
func (l *lab) faults() ([]Fault, error) {
	rules, err := l.rules()
	if err != nil {
		return nil, err
	}
	wires, err := l.wires()
	return slices.Concat([]Fault{}, rules, wires), err
}
