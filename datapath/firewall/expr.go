package firewall

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A match or a statement is a few of the kernel's expressions; these are the words of rules.go.

type part []expr.Any

func compare(load expr.Any, op expr.CmpOp, value []byte) part {
	return part{load, &expr.Cmp{Op: op, Register: 1, Data: value}}
}

func device(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: 1} }

func iif(name string) part    { return compare(meta(expr.MetaKeyIIFNAME), expr.CmpOpEq, device(name)) }
func iifNot(name string) part { return compare(meta(expr.MetaKeyIIFNAME), expr.CmpOpNeq, device(name)) }
func oif(name string) part    { return compare(meta(expr.MetaKeyOIFNAME), expr.CmpOpEq, device(name)) }
func oifNot(name string) part { return compare(meta(expr.MetaKeyOIFNAME), expr.CmpOpNeq, device(name)) }

// family also has to stand before every look at an address: the table is inet.
func family(v4 bool) part {
	number := byte(unix.NFPROTO_IPV6)
	if v4 {
		number = unix.NFPROTO_IPV4
	}
	return compare(meta(expr.MetaKeyNFPROTO), expr.CmpOpEq, []byte{number})
}

var protocols = map[string]byte{
	"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6,
}

func protocol(name string) part {
	return compare(meta(expr.MetaKeyL4PROTO), expr.CmpOpEq, []byte{protocols[name]})
}

func transport(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func dport(port uint16) part {
	return compare(transport(2, 2), expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))
}

// icmpType needs the protocol in front.
func icmpType(number byte) part { return compare(transport(0, 1), expr.CmpOpEq, []byte{number}) }

func source(p netip.Prefix) part         { return within(p, expr.CmpOpEq, 12, 8) }
func destination(p netip.Prefix) part    { return within(p, expr.CmpOpEq, 16, 24) }
func destinationNot(p netip.Prefix) part { return within(p, expr.CmpOpNeq, 16, 24) }

// within compares an address of the header with a subnet; the offsets are those of the
// address in IPv4's and IPv6's header.
func within(p netip.Prefix, op expr.CmpOp, offset4, offset6 uint32) part {
	offset, length := offset4, uint32(4)
	if p.Addr().Is6() {
		offset, length = offset6, 16
	}
	match := family(p.Addr().Is4())
	match = append(match, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length})
	if p.Bits() < p.Addr().BitLen() {
		match = append(match, masked(length, mask(p.Bits(), int(length))))
	}
	return append(match, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// gatewayOfAny matches a source that is the first address of any machine's subnet, all being as large as
// this one. It needs the family in front.
func gatewayOfAny(own netip.Prefix) part {
	offset, length := uint32(12), own.Addr().BitLen()/8
	if own.Addr().Is6() {
		offset = 8
	}
	host := mask(own.Bits(), length)
	for i := range host {
		host[i] = ^host[i]
	}
	first := make([]byte, length)
	first[length-1] = 1
	return part{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(length)},
		masked(uint32(length), host), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first},
	}
}

// Flags of TCP's header.
const tcpSYN, tcpACK = 0x02, 0x10

// opensNothing matches TCP packets that do not ask for a new connection. It needs the protocol in front.
func opensNothing() part {
	return part{transport(13, 1), masked(1, []byte{tcpSYN | tcpACK}), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{tcpSYN}}}
}

func masked(length uint32, bits []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: bits, Xor: make([]byte, length)}
}

func mask(ones, length int) []byte {
	b := make([]byte, length)
	for i := range ones {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

// Bits of conntrack, from the kernel's nf_conntrack_common.h.
const (
	stateKnown = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	statusDNAT = 1 << 5
)

func ctHas(key expr.CtKey, bits uint32) part {
	return part{
		&expr.Ct{Key: key, Register: 1},
		masked(4, binaryutil.NativeEndian.PutUint32(bits)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func known() part      { return ctHas(expr.CtKeySTATE, stateKnown) }
func translated() part { return ctHas(expr.CtKeySTATUS, statusDNAT) }

// toMachine matches what is addressed to any address of the machine.
func toMachine() part {
	fib := &expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}
	return compare(fib, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL))
}

func accept() part           { return part{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() part             { return part{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }
func jump(chain string) part { return part{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }
func notrack() part          { return part{&expr.Notrack{}} }
func masquerade() part       { return part{&expr.Masq{}} }

func dnat(to netip.AddrPort) part {
	number := uint32(unix.NFPROTO_IPV6)
	if to.Addr().Is4() {
		number = unix.NFPROTO_IPV4
	}
	return part{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: number, RegAddrMin: 1, RegProtoMin: 2},
	}
}
