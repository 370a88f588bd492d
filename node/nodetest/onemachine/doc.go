// Package onemachine gives tests and benchmarks what a user has after the first five minutes: one
// systemd machine with this checkout's package installed, a cluster founded on it, small images to
// deploy, and the package's own ployzctl to do everything with.
//
// Nothing in it reaches around the product: it is the command line, and what the machine's own
// tools (systemctl, nft, ip) say. The one exception is the list of facts in World, which comes from
// the store by way of node/nodetest/agent.
package onemachine
