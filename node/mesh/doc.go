// Package mesh is the overlay between a cluster's machines: which peers a machine's WireGuard device has,
// where it looks for them, and what boot needs to put all of it back.
//
// The decisions are pure functions. Diff tells what a device lacks of what is wanted, Rotate where to look
// next for a peer that does not answer. Device is the contract of what carries it; every
// implementation runs the suite in meshtest. A device is adopted: it is read as found, and what is as wanted is
// never written again, so a daemon that restarts breaks no session.
//
// Words: a peer's endpoint is the underlay address that packets to it are sent to; its candidates are the endpoints
// that it may have, its own word first, then where its peers saw it. WireGuard itself follows a peer that calls from
// elsewhere: its endpoint has roamed. A handshake is fresh while its session still carries.
//
// Nothing here loops, and nothing here changes a fact: what a machine sees of its peers is an observation.
package mesh
