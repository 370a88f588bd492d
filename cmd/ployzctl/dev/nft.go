package dev

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/ployz/ployz/node/api"
)

// faultTable is the nftables table of a lab's bridge: it sees every frame, so also ARP and IPv6's
// neighbour discovery are cut, which rules for IP would let pass.
const faultTable = "ployz_faults"

// comment is a text as short as nft lets a comment be.
func comment(text string) string {
	const limit = 120
	if len(text) > limit {
		return text[:limit] + "..."
	}
	return text
}

// rule drops what matches at one of the bridge's hooks.
type rule struct{ hook, match string }

// between are the rules that drop everything from one group of places to another. The client is the
// bridge's own address, whose packets the bridge takes in and sends out itself.
func between(from, to []string) []rule {
	var rules []rule
	source, sourceClient := ports(from), hasClient(from)
	target, targetClient := ports(to), hasClient(to)
	if source != "" && target != "" {
		rules = append(rules, rule{"forward", "iifname " + source + " oifname " + target})
	}
	if source != "" && targetClient {
		rules = append(rules, rule{"input", "iifname " + source})
	}
	if sourceClient && target != "" {
		rules = append(rules, rule{"output", "oifname " + target})
	}
	return rules
}

// ports is the nft set of the bridge's ports that lead to machines, "" for none: a machine's own
// cable, or the wire that Delay puts in its place.
func ports(places []string) string {
	var names []string
	for _, place := range places {
		if place != clientPlace {
			names = append(names, strconv.Quote(place), strconv.Quote(wirePort(place)))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "{ " + strings.Join(names, ", ") + " }"
}

func hasClient(places []string) bool {
	for _, place := range places {
		if place == clientPlace {
			return true
		}
	}
	return false
}

// ruleset is a transaction that adds rules with a comment to the table, which it makes if need be.
func ruleset(text string, rules []rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table bridge %s {\n", faultTable)
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		fmt.Fprintf(&b, "chain %s { type filter hook %s priority 0; policy accept; }\n", hook, hook)
	}
	b.WriteString("}\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "add rule bridge %s %s %s counter drop comment %q\n", faultTable, r.hook, r.match, text)
	}
	return b.String()
}

// nft plays a transaction in the lab's network namespace.
func (l *lab) nft(transaction string) error {
	cmd, err := l.inNetwork("nft", "-f", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(transaction)
	if said, err := cmd.CombinedOutput(); err != nil {
		return api.Errorf(api.CodeDevHost, "nft in the lab's network: %w: %s", err, strings.TrimSpace(string(said))).
			WithHint("faults need nftables with the bridge family: apt-get install --no-install-recommends nftables")
	}
	return nil
}

// inNetwork is a command in the lab's network namespace that has this computer's files.
func (l *lab) inNetwork(argv ...string) (*exec.Cmd, error) {
	holder, err := l.holder()
	if err != nil {
		return nil, err
	}
	if holder == 0 {
		return nil, l.off(clientPlace)
	}
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(holder), "-n", "--"}, argv...)...), nil
}

// rules are the faults that nft's table makes. Without a network, or without nft, there are none.
func (l *lab) rules() ([]Fault, error) {
	holder, err := l.holder()
	if err != nil || holder == 0 {
		return nil, err
	}
	if _, err := exec.LookPath("nft"); err != nil {
		return nil, nil
	}
	cmd, err := l.inNetwork("nft", "-j", "list", "ruleset", "bridge")
	if err != nil {
		return nil, err
	}
	text, err := cmd.Output()
	if now, gone := l.holder(); gone == nil && now != holder {
		return nil, nil // the lab was taken down meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("looking for faults of lab %s: nft: %w", l.name, err)
	}
	return readRules(text)
}

// listing is the part of nft's JSON that faults are read from.
type listing struct {
	Items []struct {
		Rule *struct {
			Table, Comment string
			Expr           []struct{ Counter *struct{ Packets int } }
		}
	} `json:"nftables"`
}

// readRules adds up the rules of each comment, in the order of the table.
func readRules(text []byte) ([]Fault, error) {
	var list listing
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the JSON of nft: %w", err)
	}
	var faults []Fault
	at := map[string]int{}
	for _, item := range list.Items {
		if item.Rule == nil || item.Rule.Table != faultTable {
			continue
		}
		i, seen := at[item.Rule.Comment]
		if !seen {
			i = len(faults)
			at[item.Rule.Comment] = i
			faults = append(faults, Fault{Text: item.Rule.Comment})
		}
		for _, e := range item.Rule.Expr {
			if e.Counter != nil {
				faults[i].Dropped += e.Counter.Packets
			}
		}
	}
	return faults, nil
}
