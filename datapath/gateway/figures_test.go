package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// figuresOnce waits until the figures are as wanted: a request is counted after its answer has left.
func figuresOnce(t *testing.T, s *Server, want func(Figures) bool) Figures {
	t.Helper()
	var f Figures
	eventually(t, "the figures that are wanted", func() bool { f = s.Figures(); return want(f) })
	return f
}

func TestFigures(t *testing.T) {
	f := serve(t, nil)
	slow := origin(t, "slow", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(3 * time.Millisecond)
		io.WriteString(w, strings.Repeat("x", 1000))
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{slow, nobody(t, "gone")}}))
	c := f.client(t, false)
	for range 20 {
		if resp, _ := get(t, c, "http://app.example.com/"); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	get(t, c, "http://unknown.example.com/")
	got := figuresOnce(t, f.Server, func(f Figures) bool { return f.Answered[2] == 20 && f.Answered[4] == 1 })
	if got.Refused["no-route"] != 1 || got.Took.Count != 21 || got.Took.Sum < 60*time.Millisecond || got.Took.AtMost[0.001] > 1 {
		t.Errorf("refused %v, took %+v", got.Refused, got.Took)
	}
	if got.ConnectFailures == 0 || got.Retries == 0 || got.FailingUpstreams+got.ReadyUpstreams != 2 || got.InFlight != 0 {
		t.Errorf("upstreams: %+v", got)
	}
	if got.SentBytes < 20*1000 || got.ReceivedBytes < 21*20 {
		t.Errorf("%d bytes received, %d sent", got.ReceivedBytes, got.SentBytes)
	}
}
