// Package runtimetest is the conformance suite of runtime.Runtime and runtime.Console. The
// in-memory runtime and the runc backend pass the same one.
//
// Its workload is the program of Main, which does what its arguments say. A real
// backend builds it into an image; the in-memory one plays it with Play.
package runtimetest
