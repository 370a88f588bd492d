package dev

import (
	"slices"
	"strings"
	"testing"
)

func TestReadRules(t *testing.T) {
	const text = `{"nftables": [{"metainfo": {"version": "1.0.6"}},
		{"table": {"family": "bridge", "name": "ployz_faults"}},
		{"rule": {"table": "other", "comment": "not ours", "expr": [{"counter": {"packets": 9}}]}},
		{"rule": {"table": "ployz_faults", "comment": "partition m1 m2", "expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 1}}, {"drop": null}]}},
		{"rule": {"table": "ployz_faults", "comment": "block m1 udp", "expr": [{"counter": {"packets": 0}}, {"drop": null}]}},
		{"rule": {"table": "ployz_faults", "comment": "partition m1 m2", "expr": [{"counter": {"packets": 4}}, {"drop": null}]}}]}`
	got, err := readRules([]byte(text))
	if want := []Fault{{"partition m1 m2", 7}, {"block m1 udp", 0}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := readRules([]byte("table bridge")); err == nil {
		t.Error("what is not JSON is read as no faults")
	}
}

func TestBetween(t *testing.T) {
	got := between([]string{"m1", clientPlace}, []string{"m2"})
	want := []rule{
		{"forward", `iifname { "m1", "m1-wire" } oifname { "m2", "m2-wire" }`},
		{"output", `oifname { "m2", "m2-wire" }`},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := between([]string{"m2"}, []string{clientPlace}); !slices.Equal(got, []rule{{"input", `iifname { "m2", "m2-wire" }`}}) {
		t.Errorf("to the client: %q", got)
	}
}

// TestLongComment: nft refuses a comment that is too long, and a lab may have many machines.
func TestLongComment(t *testing.T) {
	long := Split{Groups: [][]string{slices.Repeat([]string{"m100"}, 100), {"m1"}}}
	if got := comment(long.String()); len(got) > 128 || !strings.HasPrefix(got, "partition m100,") {
		t.Errorf("%d letters: %s", len(got), got)
	}
}
