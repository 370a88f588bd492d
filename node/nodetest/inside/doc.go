// Package inside runs, in a throw-away systemd machine, the tests of those packages that need
// systemd as process 1: the service supervisor over its bus, and the runc backend.
//
// On a computer that was booted by systemd the packages' own `go test` does the same in place.
package inside
