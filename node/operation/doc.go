// Package operation is the form in which everything that changes the cluster is written and run.
//
// An Operation inspects, plans as a pure function of what it saw, and hands over phases of bounded steps with
// their undo beside them, exactly one commit, and the cleaning up after it. The Runner does the
// rest, the same way for each:
//
//	lease the scope → inspect → plan → refuse if a requirement is unmet → open → steps →
//	commit → clean up → close the ledger entry and give the scope back
//
//	it ends before "open"            refused            nothing was touched
//	a step or the commit fails       rolled-back        everything done was undone, in reverse
//	an undo fails                    stranded           leftovers are named, with their command
//	the commit's answer is lost      uncertain          neither undone nor cleaned up
//	cleaning up fails                committed-with-leftovers
//	the coordinator dies             interrupted        shown by the open fact it left
//
// The ledger explains and does not steer: a retry inspects again, and its steps are ensure-shaped.
// optest breaks every registered operation at each of these places.
package operation
