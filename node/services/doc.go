// Package services supervises what serves on this machine, adopting first: observe, verdict,
// act. What runs as wanted is never touched, and what cannot be told is left alone and reported.
//
// Verdict is a pure function; Ensure acts on it, once, and returns what it did for `status`.
// Nothing here loops or heals: systemd restarts what dies.
package services
