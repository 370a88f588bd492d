package main

import "testing"

// With a library that calls its measure something else, or has another, elections would be as late as it likes.
func TestElectionsAreSoon(t *testing.T) {
	electSoon()
	if standsAfterAtMost != soonEnough {
		t.Errorf("voters stand for election after up to %v", standsAfterAtMost)
	}
}
