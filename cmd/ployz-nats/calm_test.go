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

// What is left of the cache's time must never be a part of a tick.
func TestAccessTimeIsInWholeTicks(t *testing.T) {
	begin := time.Unix(1700000000, 999_999_000)
	for n := range 20 {
		at := accessTime(begin.Add(time.Duration(n) * (accessEvery + 3*time.Millisecond)))
		if at%int64(accessEvery) != 0 {
			t.Fatalf("tick %d is at %d", n, at)
		}
	}
}
