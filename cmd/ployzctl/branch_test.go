package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
)

// madeBranch is a branch by name and origin, the n-th that was made.
func madeBranch(ns, from string, n int) api.BranchEntry {
	return api.BranchEntry{BranchFact: api.BranchFact{Namespace: ns, From: from, Created: time.Date(2026, 1, 2, 3, n, 0, 0, time.UTC)}}
}

// TestBranchRows: each branch stands below what it was made from, once, whatever names were used again since.
func TestBranchRows(t *testing.T) {
	list := []api.BranchEntry{
		madeBranch("deep", "two", 3), madeBranch("one", "shop", 1), madeBranch("two", "shop", 2), madeBranch("blog-x", "blog", 4),
		madeBranch("a", "b", 5), madeBranch("b", "a", 6),
	}
	var got []string
	for _, row := range branchRows(list) {
		got = append(got, row[0])
	}
	want := []string{"blog", "└─ blog-x", "shop", "├─ one", "└─ two", "   └─ deep", "└─ b", "   └─ a"}
	if !slices.Equal(got, want) {
		t.Errorf("the tree is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var names []string
	for _, b := range under(slices.Clone(list), "shop") {
		names = append(names, b.Namespace)
	}
	if want := []string{"deep", "one", "two"}; !slices.Equal(names, want) {
		t.Errorf("under shop are %q", names)
	}
}

// TestDoomed: without names those that have expired, with names just those, and what was made from another before it.
func TestDoomed(t *testing.T) {
	over, deeper, young := madeBranch("over", "shop", 1), madeBranch("deeper", "over", 2), madeBranch("young", "shop", 3)
	over.Expired, deeper.Expired = true, true
	for _, c := range []struct{ names, want []string }{
		{nil, []string{"deeper", "over"}}, {[]string{"young"}, []string{"young"}}, {[]string{"nobody", "over"}, []string{"over", "nobody"}},
	} {
		var got []string
		for _, b := range doomed([]api.BranchEntry{over, deeper, young}, c.names) {
			got = append(got, b.Namespace)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("of %q go %q", c.names, got)
		}
	}
	if s := expiry(over); s != "expired" {
		t.Errorf("it says %q", s)
	}
}
