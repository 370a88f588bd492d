// Package sim runs whole clusters in virtual time, from a seed, and holds what happened against the promises.
//
//	asks, drawn from the seed                     faults, drawn from the seed
//	      │ at random moments                           │ at random moments
//	      ▼                                             ▼
//	  daemon m1    daemon m2  …  m200            death, pause, cut, store away
//	  Runner ─ Lease ─ deploy.*, machine.*       lost, late and doubled messages, lost answers of the store,
//	      │ Calls          ▲ Responder ─ Local   instances that do not start, are never ready, or crash
//	      └──── network ───┘     │
//	  memstore                 memruntime
//	      └──────── witness ─────┘ sees every write and every act; invariants.go judges
//
// The kernel is the real one: the runner, the leases and their fences, the commands between machines, the
// operations, each machine's participant. What is below it is in memory: the store, the network, what runs.
// Time is that of testing/synctest, so that a lease's half minute passes in microseconds.
//
// # What a seed fixes
//
// The cluster, who asks what and when, which fault comes when, and, by the name of each message, batch and
// instance, what becomes of it. Not fixed is the order of two things at the very same virtual instant; every
// message takes its own odd number of nanoseconds, so that there are few of them.
//
// # What is simplified
//
// A call of the store takes no time, and a daemon that is paused only stops at its ways out: towards machines,
// into its own participant, and before it commits. Its renewals are lost meanwhile. (The kernel holds locks
// around calls of the store, and virtual time stands still for who waits for a lock.) A daemon that dies ends
// each of its goroutines at the next contact with the outside, and leaves what a killed process leaves.
package sim
