// Package first holds the sentences of the first issue as tests: what one machine that was
// installed from the real package does, what it refuses, and what it keeps doing while its manager is
// killed, its serving processes are replaced, its store is away or its power is cut.
//
// The tests read from the outside only: the command line, requests from a client in the lab, and
// what systemd and the kernel say. With PLOYZ_TEST_LONG set they repeat longer.
package first
