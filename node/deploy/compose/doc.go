// Package compose reads a Compose file into the typed deploy spec. It runs on the operator's
// machine, before anything is sent: the values of secrets and configs are read here.
//
// Every key of the Compose specification is in one table (Keys): supported, harmless, or refused
// with a reason and what to do instead. Nothing that a file says is passed over in silence. A key
// without effect gives a Note; a key that we cannot honour, a misspelt one, or a variable that is
// not set ends in an error with its file, line and key. A test walks the schema inside compose-go,
// so that a newer one with new keys cannot slip by.
//
// compose-go does the merging (several files, extends, anchors, interpolation) and drops places
// as it goes. So each file is walked a second time here, as a tree of YAML nodes with lines; that
// walk finds the unsupported keys and lends its places to whatever is wrong with the values.
//
// It changes nothing, talks to nobody, and needs neither a daemon nor root.
package compose
