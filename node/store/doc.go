// Package store is the contract for the cluster's durable truth: facts (intent and status) and
// the ledger of operations.
//
// It names no technology. natsstore obeys it on a real NATS JetStream, memstore in memory for
// tests; storetest is the conformance suite that both run. filestore obeys the facts' and the ledger's
// part of it in one file, for a machine before its cluster exists. Three reading places exist, and a
// caller picks one on purpose:
//
//   - Facts.Get and Facts.List ask the store's leader: for decisions that end in a Commit.
//   - View asks the machine's own mirror: for what serves, and for showing, also when cut off.
//   - the error of Commit: the only thing that decides. Reads may inform; the compare-and-set rules.
//
// Errors are *api.Error with a store.* code. A write whose answer did not come is
// store.uncertain and never anything else: only an explicit refusal means "not committed".
package store
