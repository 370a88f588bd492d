// Package natsstore is the store contract on a real NATS JetStream: facts and ledger written
// through the core, read through the machine's own edge.
//
// It needs the two servers of cmd/ployz-nats with the configuration of natsconf, and the seeds of
// this machine's keys. It never purges, never deletes a message, never guards by a wildcard, and
// never calls a write that got no answer anything but uncertain. The streams that it deletes are
// what an interrupted Restore left, and an edge's own mirrors (RemoveMirrors).
//
// # Layout
//
// Facts are the stream KV_facts_g<N> with one message per subject, $KV.facts_g<N>.<key>: to the
// standard tools a key-value bucket named facts_g<N>. All that the design asks for holds there as
// in any stream, because a bucket is nothing but a stream with such names: atomic batches with
// guards, per-message TTLs, a mirror on the edge that follows overwrites and expiries (in the same
// names, so `nats kv` reads the mirror too), deny_delete and deny_purge. TestStandardTools proves
// it with the library that `nats kv` is made of. A removal is that library's delete marker
// (KV-Operation: DEL). What differs from a bucket that the library makes itself:
//
//   - Rollups stay forbidden, since the server takes deny_purge only without them: `nats kv purge` is
//     refused, and so are the server's own expiry markers (subject_delete_marker_ttl). Hence an
//     expired fact leaves no trace, and feeds do not show it go.
//   - A guard that has no write to ride on is carried by a removal of the key _check, which no
//     face of this package shows; `nats kv` does not list it either.
//
// The ledger is the stream LEDGER_g<N>, ledger.g<N>.<operation>, many messages per subject.
//
// # Voters
//
// The cores of 1, 2, 3 or 5 machines are a group that elects a leader. Here are the small steps in which
// voters come and go; each may be repeated, and looks before and after it acts. Which machine has a seat
// is decided elsewhere. The orders, as natslab.Cluster takes them:
//
//   - A machine becomes a voter: InstallRouteSecret and the configuration, with routes to every voter
//     and itself, and PrepareJoin, on that machine; the other cores are reloaded with its route; its core is
//     started; AwaitVoter; Scale to the copies that there shall be (who takes another's seat gets the other's
//     when that one goes); every edge is reloaded with its leaf address.
//     To take it back: RemoveVoter, and what follows there.
//   - A voter leaves, alive or dead: CheckRemoval (pure, of Settled), RemoveVoter; the other cores and
//     every edge are reloaded without it; its core is stopped; RetireCore.
//   - A machine's keys are revoked: every core is reloaded without them, then Revoke.
//   - The quorum is lost for good: Survivors and every EdgeDigest, ChooseCopy (pure). In place:
//     fence the lost ones, Rescue, and then as after a leave. Else a new generation: on the machine with the
//     longest mirror RetireCore, configurations of the next generation with it as the only voter, Found,
//     start, reload its edge, Reform; write the cluster fact; then reload every edge, EnsureMirrors,
//     AwaitMirror, and RemoveMirrors of the old generation.
//   - A backup: Backup at any edge; OpenBackup and Restore in the place of Reform.
//
// A Store must be opened with the addresses of all voters to judge the group. Restored facts keep their
// revisions, for the snapshot's records are copied one by one under the new generation's subjects; the next
// revision is a million further on, so that no fence is given out twice though the newest may be lost.
//
// # What the server taught (2.15.2)
//
//   - On a stream of one replica a single message's guard is judged before its ID: a retry of a
//     committed write is told "wrong sequence". So a refusal of a single message is checked once
//     more by its ID, in a batch of one that no state lets through: in batches, IDs come first.
//   - A guard on the last message's ID stops a replicated stream for good (Store.original tells how).
//     Nothing may send one there.
//   - A wildcard guard is not compared with writes in flight on replicated streams; with one
//     replica there are none, and 200 races of 200 were decided rightly. Nothing here guards by one.
//   - A batch on one replica is made whole again after a crash from a staging folder. Killing the
//     server and cutting the power in the middle of batches left none torn (crash_test.go,
//     powercut_test.go).
//   - A mirror whose request for a consumer is lost waits 30 s and then backs off: after a boot of
//     core and edge together the view was 38 s stale. ployz-nats therefore holds such requests
//     until the core answers (natsconf.MirrorAPI); the view is then current within milliseconds
//     of the first leader.
//   - A mirror's consumer goes with the stream's leader, and the mirror looks for that every ten seconds
//     only: views were up to 20 s stale after each change of leader. ployz-nats nudges a mirror that
//     hears nothing from a core that answers; views then follow within 1 to 4 s.
//   - A core that lost its majority goes on giving signs of life to mirrors, so the leader is asked. ployz-nats
//     asks once for all readers of a machine, and answers them from memory (natsconf.MirrorState): when each
//     asked by itself, that was most of what both servers did at rest.
//   - A follower believes in a dead leader for up to six seconds, and a leader knows nothing of followers that
//     it never heard. So Topology asks every voter by itself, and believes only a leader that answers.
//   - While a stream goes from one copy to two, or back, the write in flight may get no answer: it is
//     uncertain, as any, and its retry is recognised.
//   - Under writes some copy is always a write behind: Settled looks more than once.
//   - A restore that was broken off leaves a name that is taken and a stream that is not found.
//   - A mirror of a stream that was made anew says "no lag" with a mix of two histories.
//     Store.Verify compares digests and tells.
//   - Without a leader the JetStream API does not answer at all, so every question has a short
//     deadline of its own, and a write is preceded by one (at most once a second).
package natsstore
