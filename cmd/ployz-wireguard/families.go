package main

import (
	"net"
	"reflect"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
)

// families is conn.StdNetBind for a machine with peers of both families.
//
// One StdNetBind must not send to both: it keeps addresses for reuse, and one last used for IPv4 keeps only
// the first four bytes of the next IPv6 address, so that the packet goes to a stranger. So each family
// is sent by one of its own, on the same two sockets.
type families struct {
	mu     sync.Mutex
	v4, v6 *conn.StdNetBind // nil while closed; v4 owns the sockets
}

var _ conn.Bind = (*families)(nil)

// Open implements conn.Bind. The second sender is the first one's copy from before either was used; both are new each
// time, so that they share nothing but the sockets.
func (f *families) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.v4 != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	v4, v6 := conn.NewStdNetBind().(*conn.StdNetBind), &conn.StdNetBind{}
	receive, actual, err := v4.Open(port)
	if err != nil {
		return nil, 0, err
	}
	reflect.ValueOf(v6).Elem().Set(reflect.ValueOf(v4).Elem())
	f.v4, f.v6 = v4, v6
	return receive, actual, nil
}

// Close implements conn.Bind.
func (f *families) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.v4 == nil {
		return nil
	}
	owner := f.v4
	f.v4, f.v6 = nil, nil
	return owner.Close()
}

// SetMark implements conn.Bind.
func (f *families) SetMark(mark uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.v4 == nil {
		return nil // the device sets it again when it opens
	}
	return f.v4.SetMark(mark)
}

// Send implements conn.Bind. An answer goes out from the address that was asked; where the machine has lost that address
// since, from another.
func (f *families) Send(packets [][]byte, to conn.Endpoint) error {
	bind := f.sender(to)
	if bind == nil {
		return net.ErrClosed
	}
	err := bind.Send(packets, to)
	if err == nil || !to.SrcIP().IsValid() {
		return err
	}
	to.ClearSrc()
	return bind.Send(packets, to)
}

func (f *families) sender(to conn.Endpoint) *conn.StdNetBind {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to.DstIP().Is6() {
		return f.v6
	}
	return f.v4
}

// ParseEndpoint implements conn.Bind.
func (f *families) ParseEndpoint(s string) (conn.Endpoint, error) {
	return (*conn.StdNetBind)(nil).ParseEndpoint(s)
}

// BatchSize implements conn.Bind.
func (f *families) BatchSize() int { return (*conn.StdNetBind)(nil).BatchSize() }
