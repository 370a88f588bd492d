package vm

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// link is the network card by which a machine reaches the other of a pair: QEMU carries its frames as datagrams between two
// sockets of this computer's file system, and nothing leaves it.
type link struct {
	dir string
	// number is 1 or 2: the machine's, and the last part of its address.
	number int
}

// Address is where the other machine of a pair reaches this one.
func (m *Machine) Address() string { return m.link.address() }

func (l link) address() string { return "10.9.0." + strconv.Itoa(l.number) }

func (l link) socket(number int) string { return filepath.Join(l.dir, strconv.Itoa(number)) }

// args are QEMU's words for the card; it is the machine's second, eth1.
func (l link) args() []string {
	return []string{
		"-netdev", fmt.Sprintf("dgram,id=pair,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", l.socket(l.number), l.socket(3-l.number)),
		"-device", fmt.Sprintf("virtio-net-pci,netdev=pair,mac=52:54:00:09:00:0%d", l.number),
	}
}

// boot tells systemd-networkd of the card before the network comes up: the disk's own file would give it the address of the
// first one.
func (l link) boot() string {
	unit := fmt.Sprintf("[Match]\nName=eth1\n[Network]\nAddress=%s/24\n", l.address())
	return " systemd.set_credential_binary=network.network.05-pair:" + base64.StdEncoding.EncodeToString([]byte(unit))
}

// StartPair boots two machines that share a network of their own. Both have the files of a folder under /mnt/payload, and an
// empty disk of so many bytes as /dev/vdc. They are removed when the test ends.
func StartPair(t testing.TB, payload string, diskBytes int64) (one, two *Machine) {
	t.Helper()
	began, dir := time.Now(), t.TempDir()
	var pair [2]*Machine
	for i := range pair {
		m := prepare(t, payload)
		m.link = &link{dir: dir, number: i + 1}
		m.spare = filepath.Join(m.dir, "spare.qcow2")
		m.host("qemu-img", "create", "-q", "-f", "qcow2", m.spare, strconv.FormatInt(diskBytes, 10))
		m.powerOn()
		pair[i] = m
	}
	for _, m := range pair {
		m.ready(began)
	}
	return pair[0], pair[1]
}
