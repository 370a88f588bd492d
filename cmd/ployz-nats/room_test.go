package main

import (
	"math"
	"testing"
)

// TestRoomIsSeen: a server stops below its line, goes on above another, and knows why JetStream is off also when all room
// came back at once.
func TestRoomIsSeen(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		role                 string
		free                 []int64 // one look after another
		short, changed, near bool    // at the last
	}{
		{"core", []int64{1 << 40}, false, false, false},
		{"core", []int64{100 * mib}, false, false, true},
		{"core", []int64{1 << 40, 15 * mib}, true, true, true},
		{"core", []int64{15 * mib, 20 * mib}, true, false, true},
		{"core", []int64{15 * mib, 33 * mib}, false, true, true},
		{"core", []int64{0, 1 << 40}, false, true, true},
		{"core", []int64{0, 1 << 40, 1 << 40}, false, false, false},
		{"core", []int64{20 * mib}, false, false, true},
		{"edge", []int64{15 * mib}, false, false, true},
		{"edge", []int64{7 * mib}, true, true, true},
		{"edge", []int64{7 * mib, 31 * mib}, true, false, true},
	} {
		r, changed := &room{role: c.role, free: math.MaxInt64}, false
		for _, free := range c.free {
			changed = r.see(free)
		}
		if r.short != c.short || changed != c.changed || r.near != c.near {
			t.Errorf("%s %v: short %t, changed %t, near %t; want %+v", c.role, c.free, r.short, changed, r.near, c)
		}
	}
}
