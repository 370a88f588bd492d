package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// exchangeRaw writes text, maybe byte by byte, and returns all that comes back until the end.
func exchangeRaw(t testing.TB, addr, text string, slowly bool) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	step := len(text)
	if slowly {
		step = 1
	}
	for at := 0; at < len(text); at += step {
		if _, err := io.WriteString(c, text[at:min(at+step, len(text))]); err != nil {
			break // it may be closed on us
		}
	}
	b, err := io.ReadAll(c)
	if err != nil && len(b) == 0 {
		t.Fatalf("no answer to %q: %v", text, err)
	}
	return string(b)
}

// smuggled comes after every request of the corpus; the upstream must never see it.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.example.com\r\n\r\n"

// ambiguous holds what comes after the request line and Host of a POST, up to the end of its body.
var ambiguous = map[string]string{
	"CL and TE":             "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"TE and CL":             "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
	"CL twice":              "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	"CL twice, equal":       "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"CL list":               "Content-Length: 5, 5\r\n\r\nhello",
	"CL plus":               "Content-Length: +5\r\n\r\nhello",
	"CL minus":              "Content-Length: -5\r\n\r\nhello",
	"CL hex":                "Content-Length: 0x5\r\n\r\nhello",
	"CL blank inside":       "Content-Length: 5 5\r\n\r\nhello",
	"CL huge":               "Content-Length: 99999999999999999999\r\n\r\nhello",
	"CL empty":              "Content-Length: \r\n\r\nhello",
	"TE twice":              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"TE twice, second else": "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n\r\n0\r\n\r\n",
	"TE gzip, chunked":      "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"TE xchunked":           "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"TE identity":           "Transfer-Encoding: identity\r\n\r\n",
	"TE quoted":             "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
	"TE with VT":            "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
	"TE empty":              "Transfer-Encoding:\r\n\r\n",
	"blank before colon":    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"CL blank before colon": "Content-Length : 5\r\n\r\nhello",
	"folded TE":             "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
	"folded anything":       "X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
	"first line folded":     " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"bare LF":               "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"bare LF at the end":    "Content-Length: 0\r\n\n",
	"bare CR":               "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"NUL":                   "X: \x00\r\nContent-Length: 0\r\n\r\n",
	"NUL in name":           "Content\x00-Length: 5\r\n\r\nhello",
	"no colon":              "Content-Length\r\n\r\nhello",
	"empty name":            ": x\r\n\r\n",
	"Host twice":            "Host: app.example.com\r\nContent-Length: 0\r\n\r\n",
}

// badChunks holds bodies with "Transfer-Encoding: chunked" that go wrong after the header.
var badChunks = map[string]string{
	"plus":               "+5\r\nhello\r\n0\r\n\r\n",
	"0x":                 "0x5\r\nhello\r\n0\r\n\r\n",
	"blank":              " 5\r\nhello\r\n0\r\n\r\n",
	"empty":              "\r\nhello\r\n0\r\n\r\n",
	"overflow":           "10000000000000005\r\nhello\r\n0\r\n\r\n",
	"bare LF after size": "5\nhello\r\n0\r\n\r\n",
	"bare LF in ext":     "5;a\nb\r\nhello\r\n0\r\n\r\n",
	"longer than size":   "3\r\nhello\r\n0\r\n\r\n",
	"LF after chunk":     "5\r\nhello\n0\r\n\r\n",
	"bad trailer":        "5\r\nhello\r\n0\r\nfoo bar: x\r\n\r\n",
	"LF ends trailers":   "5\r\nhello\r\n0\r\n\n",
}

func TestAmbiguousFramingIsRefused(t *testing.T) {
	f := serve(t, nil)
	var mu sync.Mutex
	var seen []string
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.URL.Path)
		mu.Unlock()
		io.Copy(io.Discard, r.Body)
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{up}}))
	try := func(t *testing.T, request string, slowly bool) {
		mu.Lock()
		seen = nil
		mu.Unlock()
		got := exchangeRaw(t, f.http, request+smuggled, slowly)
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") && !strings.HasPrefix(got, "HTTP/1.0 400 ") {
			t.Errorf("answer %.200q", got)
		}
		if strings.Count(got, "HTTP/1.") != 1 || !strings.Contains(got, "Connection: close") {
			t.Errorf("more than one answer, or no close: %.400q", got)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, p := range seen {
			if p == "/smuggled" {
				t.Error("the second request reached the upstream")
			}
		}
	}
	for _, slowly := range []bool{false, true} {
		for name, rest := range ambiguous {
			t.Run(fmt.Sprintf("%s/slowly=%v", name, slowly), func(t *testing.T) {
				try(t, "POST /first HTTP/1.1\r\nHost: app.example.com\r\n"+rest, slowly)
			})
		}
		for name, body := range badChunks {
			t.Run(fmt.Sprintf("chunk %s/slowly=%v", name, slowly), func(t *testing.T) {
				try(t, "POST /first HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"+body, slowly)
			})
		}
	}
	try(t, "POST /first HTTP/1.0\r\nHost: app.example.com\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false)
	if f.Status().Counters["refused:bad-framing"] == 0 {
		t.Error("not counted")
	}
}

// TestPlainPipelinesPass guards against a sentry that sees requests where there are none.
func TestPlainPipelinesPass(t *testing.T) {
	f := serve(t, nil)
	up := origin(t, "u", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "[%s %s %q %v %s]", r.Method, r.URL.Path, b, err, r.Trailer.Get("T"))
	})
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{up}}))
	body := "POST /x HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" // data that looks like trouble
	all := fmt.Sprintf("POST /1 HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: %d\r\n\r\n%s", len(body), body) +
		fmt.Sprintf("POST /2 HTTP/1.1\r\nHost: app.example.com\r\nTransfer-Encoding: Chunked\r\nTrailer: T\r\n\r\n%x;ext=\"1\"\r\n%s\r\n5\r\nhello\r\n0\r\nT: end\r\n\r\n", len(body), body) +
		"GET /3 HTTP/1.1\r\nHost: app.example.com\r\n\r\n" +
		"GET /4 HTTP/1.1\r\nHost: app.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	for _, slowly := range []bool{false, true} {
		got := exchangeRaw(t, f.http, all, slowly)
		for _, want := range []string{
			fmt.Sprintf("[POST /1 %q <nil> ]", body), fmt.Sprintf("[POST /2 %q <nil> end]", body+"hello"),
			`[GET /3 "" <nil> ]`, `[GET /4 "" <nil> ]`,
		} {
			if !strings.Contains(got, want) {
				t.Fatalf("slowly=%v: no %s in %q", slowly, want, got)
			}
		}
	}
}

// FuzzSentry holds the sentry against net/http: what it lets pass, net/http must cut into the
// same requests however the bytes are split.
func FuzzSentry(f *testing.F) {
	for _, rest := range ambiguous {
		f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\n"+rest+smuggled), 3)
	}
	for _, b := range badChunks {
		f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+b+smuggled), 1)
	}
	f.Fuzz(func(t *testing.T, input []byte, step int) {
		step = max(1, min(step, 4096))
		sentries := countRequests(input, step)
		if sentries < 0 {
			return // refused
		}
		if got := countNetHTTP(input); got > sentries {
			t.Fatalf("net/http sees %d requests, the sentry %d in %q", got, sentries, input)
		}
	})
}

// countRequests returns how many whole requests the sentry saw, or -1 if it stopped one.
func countRequests(input []byte, step int) int {
	c := &sentry{}
	n := 0
	for at := 0; at < len(input); at += step {
		for _, b := range input[at:min(at+step, len(input))] {
			before := c.stage
			if _, why := c.scan([]byte{b}); why != "" {
				return -1
			}
			if c.stage == inRequestLine && before != inRequestLine {
				n++
			}
		}
	}
	return n
}

func countNetHTTP(input []byte) int {
	r := bufio.NewReader(strings.NewReader(string(input)))
	for n := 0; ; n++ {
		req, err := http.ReadRequest(r)
		if err != nil {
			return n
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return n
		}
	}
}
