package firewall

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Render returns the wanted table as text, the same that Found returns for it once it is in
// the kernel. It reads like nft's own language but promises nothing to nft.
func Render(c Config) string { return draw(chains(c)) }

func draw(list []chain) string {
	var b strings.Builder
	b.WriteString("table inet " + tableName + "\n")
	for _, ch := range list {
		b.WriteString("chain " + ch.name)
		if ch.hook != nil {
			fmt.Fprintf(&b, " type %s hook %s priority %d", ch.kind, hookNames[*ch.hook], ch.priority)
		}
		b.WriteByte('\n')
		for _, r := range ch.rules {
			b.WriteString("  " + r.text() + "\n")
		}
	}
	return b.String()
}

var hookNames = map[nftables.ChainHook]string{
	unix.NF_INET_PRE_ROUTING: "prerouting", unix.NF_INET_LOCAL_IN: "input", unix.NF_INET_FORWARD: "forward",
	unix.NF_INET_LOCAL_OUT: "output", unix.NF_INET_POST_ROUTING: "postrouting",
}

// reading follows a rule's expressions: what is in each register now, in words.
type reading struct {
	words []string
	// loaded is the word for what a register holds, value its bytes where they are known.
	loaded map[uint32]string
	value  map[uint32][]byte
}

func (r rule) text() string {
	at := reading{loaded: map[uint32]string{}, value: map[uint32][]byte{}}
	for _, e := range r.exprs {
		at.read(e)
	}
	if r.comment != "" {
		at.say("comment %q", r.comment)
	}
	return strings.Join(at.words, " ")
}

func (at *reading) say(format string, args ...any) {
	at.words = append(at.words, fmt.Sprintf(format, args...))
}

// read turns one expression into words. One that we never write is shown raw, so that it
// always differs from what is wanted.
func (at *reading) read(e expr.Any) {
	switch e := e.(type) {
	case *expr.Meta:
		at.load(e.Register, metaNames[e.Key], e.SourceRegister, e.Key)
	case *expr.Ct:
		at.load(e.Register, ctNames[e.Key], e.SourceRegister, e.Key)
	case *expr.Payload:
		at.load(e.DestRegister, payloadName(e), e.OperationType != expr.PayloadLoad, *e)
	case *expr.Fib:
		plain := expr.Fib{Register: e.Register, FlagDADDR: true, ResultADDRTYPE: true}
		at.load(e.Register, "fib daddr type", *e != plain, *e)
	case *expr.Bitwise:
		at.loaded[e.DestRegister] = fmt.Sprintf("%s & %x ^ %x", at.loaded[e.SourceRegister], e.Mask, e.Xor)
	case *expr.Cmp:
		at.compared(e)
	case *expr.Immediate:
		at.value[e.Register] = e.Data
	case *expr.NAT:
		at.nat(e)
	default:
		at.statement(e)
	}
}

func (at *reading) load(register uint32, name string, unusual bool, raw any) {
	if name == "" || unusual {
		name = fmt.Sprintf("%T%+v", raw, raw)
	}
	at.loaded[register] = name
}

func (at *reading) statement(e expr.Any) {
	switch e := e.(type) {
	case *expr.Verdict:
		at.words = append(at.words, strings.TrimSpace(verdictNames[e.Kind]+" "+e.Chain))
	case *expr.Counter:
		at.say("counter")
	case *expr.Notrack:
		at.say("notrack")
	case *expr.Masq:
		at.say("masquerade")
		if *e != (expr.Masq{}) {
			at.say("%+v", *e)
		}
	default:
		at.say("%T%+v", e, e)
	}
}

var (
	metaNames = map[expr.MetaKey]string{
		expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname",
		expr.MetaKeyNFPROTO: "family", expr.MetaKeyL4PROTO: "protocol",
	}
	ctNames      = map[expr.CtKey]string{expr.CtKeySTATE: "ct state", expr.CtKeySTATUS: "ct status"}
	verdictNames = map[expr.VerdictKind]string{
		expr.VerdictAccept: "accept", expr.VerdictDrop: "drop", expr.VerdictJump: "jump", expr.VerdictReturn: "return",
	}
	payloadNames = map[expr.Payload]string{
		{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}:  "dport",
		{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}:  "type",
		{Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}: "flags",
		{Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}:   "saddr",
		{Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}:   "daddr",
		{Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}:   "saddr",
		{Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}:  "daddr",
	}
)

func payloadName(p *expr.Payload) string {
	return payloadNames[expr.Payload{Base: p.Base, Offset: p.Offset, Len: p.Len}]
}

// compared says "what value", as nft does, and "what != value" for the opposite.
func (at *reading) compared(c *expr.Cmp) {
	what := at.loaded[c.Register]
	op := map[expr.CmpOp]string{expr.CmpOpEq: "", expr.CmpOpNeq: "!= "}
	sign, ok := op[c.Op]
	if !ok {
		sign = fmt.Sprintf("op%d ", c.Op)
	}
	at.say("%s %s%s", shortMask(what), sign, valueText(what, c.Data))
}

// shortMask leaves out what is always there: an exclusive or with nothing.
func shortMask(what string) string {
	head, xor, found := strings.Cut(what, " ^ ")
	if found && strings.Trim(xor, "0") == "" {
		return head
	}
	return what
}

func valueText(what string, data []byte) string {
	name, _, _ := strings.Cut(what, " &")
	switch {
	case name == "iifname" || name == "oifname":
		return string(bytes.TrimRight(data, "\x00"))
	case name == "family" && len(data) == 1:
		return named(data[0], map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6})
	case name == "protocol" && len(data) == 1:
		return named(data[0], protocols)
	case name == "dport" && len(data) == 2:
		return fmt.Sprint(binary.BigEndian.Uint16(data))
	case name == "saddr" || name == "daddr":
		return addrText(data)
	case name == "fib daddr type" && len(data) == 4:
		return map[bool]string{true: "local", false: fmt.Sprintf("%x", data)}[binaryutil.NativeEndian.Uint32(data) == unix.RTN_LOCAL]
	}
	return fmt.Sprintf("%x", data)
}

func named(number byte, names map[string]byte) string {
	for name, n := range names {
		if n == number {
			return name
		}
	}
	return fmt.Sprint(number)
}

func addrText(data []byte) string {
	a, ok := netip.AddrFromSlice(data)
	if !ok {
		return fmt.Sprintf("%x", data)
	}
	return a.String()
}

func (at *reading) nat(n *expr.NAT) {
	plain := expr.NAT{Type: expr.NATTypeDestNAT, Family: n.Family, RegAddrMin: n.RegAddrMin, RegProtoMin: n.RegProtoMin}
	found := *n
	// The kernel answers with a range whose ends are one register, and says so in flags.
	if found.RegAddrMax == found.RegAddrMin {
		found.RegAddrMax = 0
	}
	if found.RegProtoMax == found.RegProtoMin {
		found.RegProtoMax = 0
	}
	found.Specified = false
	port := at.value[n.RegProtoMin]
	if found != plain || len(port) != 2 {
		at.say("%T%+v", *n, *n)
		return
	}
	at.say("dnat to %s port %d", addrText(at.value[n.RegAddrMin]), binary.BigEndian.Uint16(port))
}
