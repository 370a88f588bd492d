package sdk_test

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/sdk"
)

// TestLostDaemon: a stream that breaks off says nothing of how the operation ended, and the hint is true whether or not it
// ended with the daemon.
func TestLostDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"type":"phase","operation":"d1"}` + "\n"))
		http.NewResponseController(w).Flush() // then it is gone, in the middle of the answer
		panic(http.ErrAbortHandler)
	})}
	t.Cleanup(func() { daemon.Close() })
	go daemon.Serve(socket)
	c, err := sdk.Open("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	out, err := c.Run(t.Context(), "deploy", struct{}{}, "", nil)
	if e := api.AsError(err); out.Outcome != "" || api.CodeOf(err) != api.CodeDaemonUnreachable || e.Operation != "d1" ||
		!strings.Contains(e.Hint, "ended with it: ployzctl operation show d1;") || !strings.HasSuffix(e.Hint, "ployzctl operation resolve d1") {
		t.Errorf("%+v %v", out, err)
	}
}
