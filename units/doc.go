// Package units renders every systemd unit that ployzd writes, as text, and describes a unit as
// found on a machine.
//
// A unit's text is a pure function of its arguments. It carries X-Ployz-Identity=, the hash of
// the text itself with this package's schema version, so that a file can be told from another
// version, from a hand-edited one (Check) and from somebody else's. Long-running processes also get the
// identity as PLOYZ_UNIT_IDENTITY, since a file may change while the process of the old one runs.
//
// It touches no file and no bus: node/services/systemd does.
package units
