package main

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
)

// A server that counts time in another way than this program knows would tick as before, or stand still.
func TestCalmClockGoesOn(t *testing.T) {
	ats.Register()
	defer ats.Unregister()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { calm(stop); close(ended) }()
	defer func() { close(stop); <-ended }()
	before := ats.AccessTime()
	for end := time.Now().Add(3 * accessEvery); ats.AccessTime() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the clock stands still")
		}
	}
	stacks := make([]byte, 1<<20)
	if text := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(text, "ats.Register.func") {
		t.Error("the clock of ten ticks a second still goes")
	}
}

func TestUsageIsToldSeldom(t *testing.T) {
	tellSeldom()
	if usageEvery != calmUsageEvery {
		t.Errorf("the servers of a group tell each other every %v how much they hold", usageEvery)
	}
}
