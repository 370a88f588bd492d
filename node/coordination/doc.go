// Package coordination keeps two operations from acting on one scope: leases with fences that
// the store judges, and the fences that each participant remembers on its own disk.
//
// A lease is a fact with a time to live; its revision is the fence. No clock but the store
// leader's decides when it ends, and no participant trusts a clock at all: it compares fences.
//
// Commands go from a coordinator to a participant over a Wire. Calls seals them (for whom, from whom, until
// when, signed) and hears what comes back; Responder opens them, holds them against the fences, and answers:
//
//	Calls ── sealed command ──► Wire ──► Responder: whose? for us? fresh? fence? known already? ── Verb
//	  ▲                                      │
//	  └── beats, progress, parts, answer ◄───┘  numbered, so that a missing one shows
//
//	it ends with               it means                                    the caller may
//	the verb's answer, error   that was decided there                      go by it
//	participant.absent         nobody listens: nothing was delivered       try elsewhere, or again
//	participant.silent         no answer: it may have acted                repeat it: the first answer comes
//	participant.refused        not trusted, not for it, or too old         be told
//	operation.lease-lost       somebody else holds the scope               stop
//
// An acting command is remembered by operation, step, verb, scope and body. A later command of the same step,
// as an undo is, ends the earlier one and waits until it has; so does the first command of a new coordinator.
package coordination
