// Package many holds the sentences about clusters of many machines as tests: what joins, what leaves, what
// is refused, and what goes on being served and known while machines are cut off from each other, killed,
// robbed of their power, and out of room on the disk of the store.
//
// The tests read from the outside only: the command line asked at any of the machines, requests from a
// client in the lab, and what systemd says. With PLOYZ_TEST_LONG set they repeat longer.
package many
