// Package runtime owns the instances of one machine: what each one is (Spec), how it is told
// apart (identity), and the contracts under which backends make it run.
//
// The runc backend renders a bundle and a systemd unit; the unit, not ployzd, supervises the
// instance, so nothing here needs the daemon to stay alive. The oci backend keeps images. The
// machine's network comes in through Network, which the composition root fills.
package runtime
