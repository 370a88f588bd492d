package firewall

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// rule is one rule, before it is in the kernel or as found there.
type rule struct {
	exprs   []expr.Any
	comment string
}

// chain is one chain with its rules in order. A regular chain has no hook.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    []rule
}

func (ch *chain) add(comment string, parts ...part) {
	ch.rules = append(ch.rules, rule{slices.Concat(parts...), comment})
}

const publishedChain = "published"

// chains returns the whole wanted table. A pure function of the configuration.
func chains(c Config) []chain {
	list := []chain{
		input(c), forward(c), output(c),
		published(c), arriving(), local(),
		postrouting(c),
	}
	if len(c.exempt()) > 0 {
		list = append(list, passing(c), leaving(c))
	}
	return list
}

// passing: between machines nothing is tracked, neither what arrives by the overlay nor what a workload sends to another
// machine's subnet. Both ways of a flow are exempt, on both machines, so none sees half of it. A published port is not
// translated for what comes by the overlay: workloads of other machines ask the workload itself.
func passing(c Config) chain {
	ch := base("passing", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	for _, p := range c.Cluster {
		for _, name := range c.Overlay {
			ch.add("", iif(name), source(p), destination(p), notrack())
		}
		own := c.V6
		if p.Addr().Is4() {
			own = c.V4
		}
		ch.add("", iif(c.Bridge), source(own), destination(p), destinationNot(own), notrack())
	}
	return ch
}

// leaving is the same for what the machine itself sends.
func leaving(c Config) chain {
	ch := base("leaving", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw)
	for _, p := range c.Cluster {
		for _, name := range c.Overlay {
			ch.add("", oif(name), source(p), destination(p), notrack())
		}
	}
	return ch
}

func base(name string, kind nftables.ChainType, hook *nftables.ChainHook, p *nftables.ChainPriority) chain {
	return chain{name: name, kind: kind, hook: hook, priority: *p}
}

// input: what workloads may reach on the machine itself. Everything else that listens here,
// the store and ssh above all, is not for them.
func input(c Config) chain {
	ch := base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	others := iifNot(c.Bridge)
	for _, name := range c.exempt() {
		others = append(others, iifNot(name)...)
	}
	ch.add("", others, accept())
	ch.add("", known(), accept())
	machines(&ch, c)
	// The bridge has route_localnet on, for answers to the machine's own calls; never for new ones.
	ch.add("", destination(netip.MustParsePrefix("127.0.0.0/8")), drop())
	ch.add("", protocol("icmp"), accept())
	ch.add("", protocol("icmpv6"), accept())
	ports := slices.Concat([]uint16{53, 80, 443}, c.GatewayPorts)
	slices.Sort(ports)
	for _, port := range slices.Compact(ports) {
		ch.add("", protocol("tcp"), dport(port), accept())
		ch.add("", protocol("udp"), dport(port), accept())
	}
	ch.add("", drop())
	return ch
}

// ThresholdPort is where a machine answers those who are about to become members: they have no machine's
// source address yet, and WireGuard alone says that they may speak.
const ThresholdPort = 7481

// machines: what other machines themselves say is welcome, by their sources, which WireGuard vouches for; their workloads are
// guests as this machine's are. Nothing of it is tracked, so an answer is what does not open a connection:
// this machine may call workloads elsewhere by TCP, not by UDP.
func machines(ch *chain, c Config) {
	for _, name := range c.exempt() {
		for _, own := range []netip.Prefix{c.V4, c.V6} {
			ch.add("", iif(name), family(own.Addr().Is4()), gatewayOfAny(own), accept())
		}
		ch.add("", iif(name), protocol("tcp"), opensNothing(), accept())
		ch.add("", iif(name), protocol("tcp"), dport(ThresholdPort), accept())
	}
}

// forward: workloads may go anywhere; to them comes what they asked for, what was published,
// and the overlay. Without the last rule, a neighbour of the machine that sets a route would
// reach every unpublished port.
func forward(c Config) chain {
	ch := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	for _, name := range c.exempt() {
		// Nobody behind the bridge is this machine; where the packet arrives, its source is believed.
		for _, own := range []netip.Prefix{c.V4, c.V6} {
			ch.add("", iif(c.Bridge), oif(name), source(gateway(own)), drop())
		}
	}
	ch.add("", oifNot(c.Bridge), accept())
	ch.add("", iif(c.Bridge), accept())
	ch.add("", known(), accept())
	ch.add("", translated(), accept())
	for _, name := range c.Overlay {
		ch.add("", iif(name), accept())
	}
	ch.add("", drop())
	return ch
}

// Types of redirect messages.
const (
	icmpRedirect   = 5
	icmpv6Redirect = 137
)

// output: the machine sends what comes from the bridge back out of it, and would advise
// workloads to talk to each other directly, which they cannot.
func output(c Config) chain {
	ch := base("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	ch.add("", oif(c.Bridge), family(true), protocol("icmp"), icmpType(icmpRedirect), drop())
	ch.add("", oif(c.Bridge), family(false), protocol("icmpv6"), icmpType(icmpv6Redirect), drop())
	return ch
}

// published: one rule per port and family. Only the first packet of a flow comes here.
func published(c Config) chain {
	ch := chain{name: publishedChain}
	for _, p := range c.Ports {
		for _, v4 := range []bool{true, false} {
			if !p.in(v4) {
				continue
			}
			where := family(v4)
			if !p.everywhere() {
				where = destination(netip.PrefixFrom(p.Listen, p.Listen.BitLen()))
			}
			ch.add(p.Workload, where, protocol(p.Protocol), dport(p.Port), dnat(netip.AddrPortFrom(p.target(v4), p.Target)))
		}
	}
	return ch
}

// arriving: published ports from outside and from workloads. A port that is published on the
// machine's loopback only must stay there: translation comes before the kernel's own check
// that nobody sends to 127.0.0.1 from outside.
func arriving() chain {
	ch := base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	ch.add("", destination(netip.MustParsePrefix("127.0.0.0/8")), accept())
	ch.add("", toMachine(), jump(publishedChain))
	return ch
}

// local: published ports from the machine itself. The kernel cannot bring an answer back to
// ::1 (there is no route_localnet for IPv6), so that is left to be refused at once, on which
// callers of "localhost" turn to 127.0.0.1; translated, it would hang.
func local() chain {
	ch := base("output-nat", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	ch.add("", destination(netip.MustParsePrefix("::1/128")), accept())
	ch.add("", toMachine(), jump(publishedChain))
	return ch
}

// postrouting: to the world as the machine; and to a workload as the bridge, where the true
// source would make the answer take a way on which nobody translates it back: from a
// workload by a published port (hairpin), and from the machine's loopback.
func postrouting(c Config) chain {
	ch := base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	for _, subnet := range []netip.Prefix{c.V4, c.V6} {
		ch.add("", oif(c.Bridge), source(subnet), translated(), masquerade())
	}
	ch.add("", oif(c.Bridge), source(netip.MustParsePrefix("127.0.0.0/8")), masquerade())
	for _, subnet := range []netip.Prefix{c.V4, c.V6} {
		// What the machine says to itself from a bridge address stays as it is: the resolver
		// knows the machine by it.
		outward := append(oifNot(c.Bridge), oifNot("lo")...)
		for _, name := range c.Overlay {
			outward = append(outward, oifNot(name)...)
		}
		ch.add("", source(subnet), outward, masquerade())
	}
	return ch
}
