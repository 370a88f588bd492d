package natslab

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAPortIsItsOwnersAlone(t *testing.T) {
	port := FreePorts(t, 1)[0]
	if err := reserve(t, port); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("another test takes it too: %v", err)
	}
	for range 2 { // a server may be started again
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		if err := reserve(t, port); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("another test takes it while the server listens: %v", err)
		}
		l.Close()
	}
}
