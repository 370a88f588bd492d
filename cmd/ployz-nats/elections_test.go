package main

import (
	"fmt"
	"testing"
	"time"
)

// The library's own measures, from before any server of a test.
var firstLeast, firstMost = standsAfterAtLeast, standsAfterAtMost

// With a library that calls its measures something else, or has others, elections would be as late as it likes.
func TestElectionsAreSoon(t *testing.T) {
	least, most := standsAfterAtLeast, standsAfterAtMost
	t.Cleanup(func() { standsAfterAtLeast, standsAfterAtMost = least, most })
	standsAfterAtLeast, standsAfterAtMost = firstLeast, firstMost
	electSoon("fd00:1:2:1::1")
	if standsAfterAtLeast != 4400*time.Millisecond || standsAfterAtMost != 4700*time.Millisecond {
		t.Errorf("it stands for election after %v to %v", standsAfterAtLeast, standsAfterAtMost)
	}
}

// TestTurns: any five machines in a row have turns that do not touch, within the time that all have.
func TestTurns(t *testing.T) {
	for first := range uint16(200) {
		type turn struct{ least, most time.Duration }
		var had []turn
		for n := first; n < first+turns; n++ {
			least, most := standsAfter(fmt.Sprintf("fd00:1:2:%x::1", n))
			if least < libraryStandsAfterAtLeast || most > soonEnough || most <= least {
				t.Fatalf("machine %d stands after %v to %v", n, least, most)
			}
			for _, other := range had {
				if least < other.most+forVote && other.least < most+forVote {
					t.Fatalf("machine %d stands after %v to %v, and another one after %v to %v", n, least, most, other.least, other.most)
				}
			}
			had = append(had, turn{least, most})
		}
	}
	for _, host := range []string{"", "127.0.0.1", "::1", "m1"} {
		if least, most := standsAfter(host); least != libraryStandsAfterAtLeast || most != soonEnough {
			t.Errorf("at %q it stands after %v to %v", host, least, most)
		}
	}
}
