package daemon

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/ployz/ployz/node/api"
)

// TestAsk: whatever a gateway does instead of answering is the one code that a deploy and a doctor know.
func TestAsk(t *testing.T) {
	dir, err := os.MkdirTemp("", "ployz") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Daemon{Run: dir}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter) // nil: nobody listens
		want   api.Code
	}{
		"nobody":     {nil, api.CodeServingSilent},
		"an error":   {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, api.CodeServingSilent},
		"no JSON":    {func(w http.ResponseWriter) { io.WriteString(w, "ready") }, api.CodeServingSilent},
		"hangs up":   {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, api.CodeServingSilent},
		"the answer": {func(w http.ResponseWriter) { io.WriteString(w, `{"revision":7}`) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.answer != nil {
				l, err := net.Listen("unix", filepath.Join(dir, "gateway.sock"))
				if err != nil {
					t.Fatal(err)
				}
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })}
				go server.Serve(l) //nolint:errcheck // ends with the test
				t.Cleanup(func() { server.Close() })
			}
			var into struct{ Revision uint64 }
			err := d.ask(t.Context(), "gateway", "/applied", &into)
			if api.CodeOf(err) != c.want {
				t.Errorf("got %v", err)
			}
			if c.want == "" && into.Revision != 7 {
				t.Errorf("read %+v", into)
			}
		})
	}
}
