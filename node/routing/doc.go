// Package routing carries what a commit means for traffic: one routing event per namespace that
// holds its whole view, published in the same atomic write as the commit.
//
// A Follower reads the events from the machine's mirror and hands each consumer (gateway, DNS) a Projection:
// every namespace's last good view with the revision it came from. A bad event spoils its own
// namespace at most: it is rejected whole, the view before it stays, and the rejection is visible.
// A projection that may be stale says so and is rebuilt; it never goes on in silence.
package routing
