package onemachine

import "github.com/ployz/ployz/node/api"

// KillDaemon kills ployzd as nothing can be killed harder.
func (m *Machine) KillDaemon() {
	m.t.Helper()
	m.Run(m.Host, "systemctl", "kill", "--signal=KILL", "ployzd")
}

// AwaitDaemon waits until ployzd answers and has looked at everything, and returns its status.
func (m *Machine) AwaitDaemon() (s api.Status) {
	m.t.Helper()
	m.Eventually("ployzd to answer", func() bool {
		if m.Ctl("status").Status != 0 {
			return false
		}
		s = m.Status()
		return s.Daemon.State == api.StateUp && s.Daemon.AdoptionTook > 0
	})
	return s
}
