// Package memruntime is the runtime, the image store and the network of one machine in memory:
// what a deploy needs in tests that no real machine can be broken for.
//
// It keeps the contracts of node/runtime, runs the same conformance suite as the real backend,
// and adds what tests want: Fault breaks any call before or after it acted, Program says what
// an instance does once started, and World is the whole picture as text, to be compared before
// and after. It runs nothing and never sleeps.
package memruntime
