package gateway

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// index finds the route of a host and path; immutable.
type index struct {
	exact    map[string][]*httpRoute // by hostname; longest path first
	wildcard map[string][]*httpRoute // by what follows "*."
}

func newIndex(routes []*httpRoute) index {
	x := index{map[string][]*httpRoute{}, map[string][]*httpRoute{}}
	for _, r := range routes {
		if parent, ok := strings.CutPrefix(r.Host, "*."); ok {
			x.wildcard[parent] = append(x.wildcard[parent], r)
		} else {
			x.exact[r.Host] = append(x.exact[r.Host], r)
		}
	}
	for _, m := range []map[string][]*httpRoute{x.exact, x.wildcard} {
		for _, list := range m {
			slices.SortFunc(list, func(a, b *httpRoute) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
		}
	}
	return x
}

// find returns the route for a canonical host and a path as it came over the wire, and how
// many bytes of that path the route's prefix covers.
func (x index) find(host, rawPath string) (*httpRoute, int) {
	list, ok := x.exact[host]
	if !ok {
		_, parent, _ := strings.Cut(host, ".")
		list = x.wildcard[parent]
	}
	for _, r := range list {
		if n, ok := covers(r.prefix, rawPath); ok {
			return r, n
		}
	}
	return nil, 0
}

// canonicalHost turns a Host header or :authority into the form that routes use: lower case,
// no port, no trailing dot.
func canonicalHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// covers says whether prefix (no trailing slash, "" covers all) ends on a segment border of
// rawPath, and how many bytes it takes there. Segments are compared decoded, but an encoded
// slash is not a border: /a%2Fb is one segment, here as for every upstream that keeps to RFC 3986.
func covers(prefix, rawPath string) (int, bool) {
	if strings.HasPrefix(rawPath, prefix) && (len(rawPath) == len(prefix) || rawPath[len(prefix)] == '/') {
		return len(prefix), true
	}
	if strings.IndexByte(rawPath, '%') < 0 {
		return 0, false
	}
	n := 0
	for prefix != "" {
		var want, got string
		want, prefix = nextSegment(prefix)
		got, rest := nextSegment(rawPath[n:])
		plain, err := url.PathUnescape(got)
		if err != nil || plain != want {
			return 0, false
		}
		n = len(rawPath) - len(rest)
	}
	return n, true
}

// nextSegment splits "/a/b" into "/a" and "/b".
func nextSegment(p string) (segment, rest string) {
	if p == "" {
		return "", ""
	}
	if i := strings.IndexByte(p[1:], '/'); i >= 0 {
		return p[:i+1], p[i+1:]
	}
	return p, ""
}

// dotted says whether a path has a "." or ".." segment, plain or percent-encoded. Whoever sends
// one means a different path than the bytes say, and two programs may disagree on which.
func dotted(rawPath string) bool {
	if !strings.Contains(rawPath, "/.") && !strings.Contains(rawPath, "%2") {
		return false
	}
	for s := range strings.SplitSeq(rawPath, "/") {
		if len(s) > len("%2e%2e") {
			continue
		}
		switch plain, _ := url.PathUnescape(s); plain {
		case ".", "..":
			return true
		}
	}
	return false
}
