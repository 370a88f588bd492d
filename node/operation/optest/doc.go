// Package optest breaks an operation at every point at which it can break, and checks that the
// world afterwards is one that the form allows.
//
//	where                     broken how                         must be
//	a step                    before it acts, after it acted     rolled-back, the world as before
//	a step and its undo       both fail                          stranded, leftovers named
//	a step                    coordinator killed before/after    interrupted, visible, resolved by the retry
//	the commit                rejected, never sent               rolled-back, the world as before
//	the commit                lost, landed or not                uncertain (or found to have landed)
//	the commit                coordinator killed before/after    interrupted
//	a cleaning step           before it acts, after it acted     committed-with-leftovers
//	a ledger entry            cannot be written                  nothing done that is not undone
//	a ledger entry            coordinator killed after it        resolved by the retry
//	every ledger entry        landed, its answer lost            committed
//
// After each of these the operation is tried again, unbroken, and must end in the same world as a
// run that was never broken.
package optest
