// Package deploy turns what an operator asks for in a namespace into a commit.
//
// Each primitive (deploy, rollback, scale, restart, rm, clear, branch) is a file that says what the next
// release should be. They share one plan, since they share one promise: the new serves before the old stops, nothing is
// committed before it is ready, and the commit and its routing event are one atomic write.
//
//	leftovers → images → volumes → stop who writes what a new one will write → (stop-first: stop the old)
//	  → start, in the order of dependencies → ready
//	  → commit + routing event → ports switch → gateways and resolvers have applied it
//	  → drain → stop and remove the old → keep the volumes no longer asked for → jobs after
//
// Placement is a pure function with a reason for each choice. What runs where is asked of the
// machines at decision time and never stored; what was decided is in the commit.
package deploy
