package transfer

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ployz/ployz/node/storage/storagetest"
)

// TestBegins: what was written before a program says anything goes out at once, and what it says does not wait for a full
// frame while it goes on.
func TestBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		l := openLine(t.Context(), here, "receiver", time.Minute)
		defer l.close()
		other := openLine(t.Context(), there, "sender", time.Minute)
		defer other.close()
		s := &sender{line: l, meter: newMeter(0, nil, time.Now)}
		out := s.chunker(t.Context())
		program, says := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, err := out.Write([]byte("head"))
			if err == nil {
				_, err = out.ReadFrom(program)
			}
			ended <- err
		}()
		expect := func(want string) {
			t.Helper()
			k, length, err := other.next()
			storagetest.Must(t, err)
			got := make([]byte, length)
			storagetest.Must(t, other.body(got))
			if k != kindBytes || string(got) != want {
				t.Fatalf("%v: %q, want %q", k, got, want)
			}
		}
		expect("head")
		time.Sleep(2 * longestStay) // the program thinks
		_, err := says.Write([]byte("first"))
		storagetest.Must(t, err)
		expect("first")
		storagetest.Must(t, says.Close())
		storagetest.Must(t, <-ended)
	})
}
