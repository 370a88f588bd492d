// Package coordination keeps two operations from acting on one scope: leases with fences that
// the store judges, and the fences that each participant remembers on its own disk.
//
// A lease is a fact with a time to live; its revision is the fence. No clock but the store
// leader's decides when it ends, and no participant trusts a clock at all: it compares fences.
package coordination
