package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func testIndex() index {
	var routes []*httpRoute
	for _, r := range []string{
		"a.test ", "a.test /api", "a.test /api/v2", "a.test /b c", "*.a.test ", "only.test /x",
		"deep.w.test ", "*.w.test /in",
	} {
		host, p, _ := strings.Cut(r, " ")
		routes = append(routes, &httpRoute{HTTPRoute: HTTPRoute{Host: host, Path: p}, prefix: p})
	}
	return newIndex(routes)
}

func TestRouteChoice(t *testing.T) {
	x := testIndex()
	for _, tc := range []struct{ host, path, want string }{
		{"a.test", "/", "a.test"},
		{"A.Test", "/", "a.test"},
		{"a.test:8080", "/", "a.test"},
		{"a.test.", "/", "a.test"},
		{"a.test.:80", "/", "a.test"},
		{"a.test", "/api", "a.test/api"},
		{"a.test", "/api/", "a.test/api"},
		{"a.test", "/apis", "a.test"},
		{"a.test", "/api/v2/x", "a.test/api/v2"},
		{"a.test", "/api/v22", "a.test/api"},
		{"a.test", "/API", "a.test"},
		{"a.test", "//api", "a.test"},
		{"a.test", "/%61pi/x", "a.test/api"},
		{"a.test", "/api%2Fv2", "a.test"},
		{"a.test", "/api/%76%32/", "a.test/api/v2"},
		{"a.test", "/api/v2%2fx", "a.test/api"},
		{"a.test", "/b%20c/d", "a.test/b c"},
		{"x.a.test", "/api", "*.a.test"},
		{"y.x.a.test", "/", ""},
		{".a.test", "/", "*.a.test"}, // an empty label; harmless, and no valid hostname
		{"only.test", "/", ""},
		{"only.test", "/x", "only.test/x"},
		{"deep.w.test", "/in", "deep.w.test"},
		{"other.w.test", "/in/x", "*.w.test/in"},
		{"other.w.test", "/out", ""},
		{"*.w.test", "/in", "*.w.test/in"},
		{"w.test", "/in", ""},
		{"", "/", ""},
		{"[::1]:80", "/", ""},
	} {
		got := ""
		if r, n := x.find(canonicalHost(tc.host), tc.path); r != nil {
			got = r.Host + r.prefix
			if plain, err := url.PathUnescape(tc.path[:n]); err != nil || plain != r.prefix {
				t.Errorf("%s%s: covers %q", tc.host, tc.path, tc.path[:n])
			}
		}
		if got != tc.want {
			t.Errorf("%s%s: route %q, want %q", tc.host, tc.path, got, tc.want)
		}
	}
}

func TestDotted(t *testing.T) {
	for p, want := range map[string]bool{
		"/": false, "/a/.": true, "/a/../b": true, "/%2e%2E/b": true, "/.%2e": true, "/a/%2e": true,
		"/.well-known/x": false, "/a/...": false, "/%2e%2e%2e": false, "/a.b": false, "/a/..b": false, "/..": true,
	} {
		if got := dotted(p); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
}

// FuzzMatch compares the choice with a slow and obvious one.
func FuzzMatch(f *testing.F) {
	x := testIndex()
	for _, p := range []string{"/", "/api/v2", "/%61pi", "/api%2fx", "/b%20c", "/..", "//", "/%", "/api/%zz"} {
		f.Add("a.test", p)
		f.Add("q.a.test:1", p)
	}
	f.Fuzz(func(t *testing.T, host, p string) {
		if _, err := url.PathUnescape(p); err != nil || !strings.HasPrefix(p, "/") {
			t.Skip() // net/http refuses it before
		}
		host = canonicalHost(host)
		got, n := x.find(host, p)
		want := slowFind(x, host, p)
		if got != want {
			t.Fatalf("%q %q: %+v, want %+v", host, p, got, want)
		}
		if got != nil && n < len(p) && p[n] != '/' {
			t.Fatalf("%q: covers %d, not a border", p, n)
		}
	})
}

func slowFind(x index, host, p string) *httpRoute {
	list, ok := x.exact[host]
	if !ok {
		if i := strings.IndexByte(host, '.'); i >= 0 {
			list = x.wildcard[host[i+1:]]
		}
	}
	var best *httpRoute
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _ = url.PathUnescape(segments[i])
	}
	for _, r := range list {
		want := strings.Split(r.prefix, "/")
		fits := len(want) <= len(segments)
		for i := 0; fits && i < len(want); i++ {
			fits = want[i] == segments[i]
		}
		if fits && (best == nil || len(r.prefix) > len(best.prefix)) {
			best = r
		}
	}
	return best
}

func TestTableErrors(t *testing.T) {
	up := []Upstream{{ID: "u1", Address: netip.MustParseAddrPort("127.0.0.1:80")}}
	h := func(r HTTPRoute) Namespace {
		if r.Service == "" {
			r.Service = "web"
		}
		return Namespace{Name: "n", HTTP: []HTTPRoute{r}}
	}
	tcp := func(rs ...TCPRoute) Namespace { return Namespace{Name: "n", TCP: rs} }
	for _, tc := range []struct {
		part string
		ns   []Namespace
	}{
		{"has no name", []Namespace{{}}},
		{"is there twice", []Namespace{{Name: "n"}, {Name: "n"}}},
		{"is empty or too long", []Namespace{h(HTTPRoute{})}},
		{"no DNS name", []Namespace{h(HTTPRoute{Host: "A.test"})}},
		{"no DNS name", []Namespace{h(HTTPRoute{Host: "a.*.test"})}},
		{"no DNS name", []Namespace{h(HTTPRoute{Host: "a.test:80"})}},
		{"one slash", []Namespace{h(HTTPRoute{Host: "a.test", Path: "api"})}},
		{"plain", []Namespace{h(HTTPRoute{Host: "a.test", Path: "/a/../b"})}},
		{"plain", []Namespace{h(HTTPRoute{Host: "a.test", Path: "/a%20b"})}},
		{"neither http nor h2c", []Namespace{h(HTTPRoute{Host: "a.test", Protocol: "ftp"})}},
		{"no service", []Namespace{{Name: "n", HTTP: []HTTPRoute{{Host: "a.test"}}}}},
		{"has no id", []Namespace{h(HTTPRoute{Host: "a.test", Upstreams: []Upstream{{}}})}},
		{"unusable address", []Namespace{h(HTTPRoute{Host: "a.test", Upstreams: []Upstream{{ID: "x"}}})}},
		{"upstream u1 is there twice", []Namespace{h(HTTPRoute{Host: "a.test", Upstreams: append(up, up...)})}},
		{"path are there twice", []Namespace{{Name: "n", HTTP: []HTTPRoute{{Host: "a.test", Path: "/", Service: "w"}, {Host: "a.test", Service: "w"}}}}},
		{"belongs to namespace m", []Namespace{{Name: "m", HTTP: []HTTPRoute{{Host: "a.test", Service: "w"}}}, h(HTTPRoute{Host: "a.test", Path: "/x"})}},
		{"port 0", []Namespace{tcp(TCPRoute{})}},
		{"port 5 is taken", []Namespace{tcp(TCPRoute{Port: 5, Service: "a"}, TCPRoute{Port: 5, Service: "b"})}},
		{"PROXY protocol version 3", []Namespace{tcp(TCPRoute{Port: 5, Service: "a", ProxyProtocol: 3})}},
	} {
		err := Table{Namespaces: tc.ns}.Validate()
		var typed *TableError
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), tc.part) {
			t.Errorf("want %q, got %v", tc.part, err)
		}
	}
}

func TestLastGoodTableStays(t *testing.T) {
	f := serve(t, nil)
	f.apply(t, oneRoute(HTTPRoute{Upstreams: []Upstream{named(t, "one")}}))
	bad := f.Table().With(Namespace{Name: "evil", Sequence: 9, HTTP: []HTTPRoute{{Host: "app.example.com", Path: "/x", Service: "s"}}})
	var typed *TableError
	if err := f.Apply(bad); !errors.As(err, &typed) || typed.Namespace != "shop" && typed.Namespace != "evil" {
		t.Fatalf("apply: %v", err)
	}
	if _, body := get(t, f.client(t, false), "http://app.example.com/x"); body != "one" {
		t.Fatal(body)
	}
	if n := f.Status().Namespaces; len(n) != 1 || n[0].Sequence != 1 {
		t.Fatalf("%+v", n)
	}
}

func TestTableWith(t *testing.T) {
	var a Table
	for _, n := range []string{"c", "a", "b", "a"} {
		a = a.With(Namespace{Name: n, Sequence: uint64(len(a.Namespaces))})
	}
	if got := fmt.Sprint(a.Namespaces); got != "[{a 3 [] []} {b 2 [] []} {c 0 [] []}]" {
		t.Fatal(got)
	}
	if b := a.Without("b"); len(b.Namespaces) != 2 || len(a.Namespaces) != 3 {
		t.Fatal("Without changed its receiver, or nothing")
	}
}
