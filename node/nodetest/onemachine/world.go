package onemachine

import "strings"

// picture prints everything that an operation could have changed: units, what they run, files
// with their modes and contents, the kernel's network. Left out is what changes by itself, or
// with every look: the store's own files (its facts are listed instead), the fences and the
// founding's journal.
const picture = `
echo "== facts"; /var/lib/agent facts
echo "== units"; cd /etc/systemd/system; find . -name 'ployz*' -type f -exec sha256sum {} + | sort -k2; find . -name 'ployz*' -type l | sort
systemctl show --property=Id,ActiveState,SubState,MainPID,ActiveEnterTimestampMonotonic 'ployz*'
echo "== files"; cd /var/lib/ployz; find . -xdev \( -path ./nats -o -path './images/lock*' \) -prune -o ! -name fences.json ! -name founding.journal ! -type d -printf '%y %m %U:%G %s %p %l\n' | sort -k5
find . -xdev -type d -path './workloads/*' -prune -printf '%p\n' | sort
find workloads net keys machine.json ../../../etc/ployz -type f -not -path '*/upper/*' -exec sha256sum {} + 2>/dev/null | sort -k2 || true
echo "== network"; nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*/counter/'; ip -oneline link show type veth | sed 's/^[0-9]*: //; s/@if[0-9]*//' | cut -d' ' -f1 | sort; [ ! -d /run/ployz/netns ] || ls /run/ployz/netns
grep /ployz /proc/mounts | sort || true
`

// World returns the machine's world as text, to be compared before and after.
func (m *Machine) World() string {
	m.t.Helper()
	return m.Script(m.Host, picture)
}

// Differences returns the lines of two texts that are in one only, "-" for the first's.
func Differences(before, after string) string {
	count := map[string]int{}
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	var out strings.Builder
	for _, text := range []string{before, after} {
		for line := range strings.Lines(text) {
			switch n := count[line]; {
			case n < 0:
				out.WriteString("- " + line)
				count[line]++
			case n > 0:
				out.WriteString("+ " + line)
				count[line]--
			}
		}
	}
	return out.String()
}

// Starts says when each of the machine's units last became active, by name. Two equal ones mean
// that nothing was restarted in between.
func (m *Machine) Starts(pattern string) string {
	m.t.Helper()
	return m.Script(m.Host, `systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic "`+pattern+`" | paste -sd' ' | sed 's/  /\n/g' | sort`)
}
