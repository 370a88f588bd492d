package vm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/nodetest/testenv"
	"github.com/ployz/ployz/node/nodetest/vm"
)

// cluster is two machines with a pool of ZFS each, and an application that keeps rows in a volume. Commands are given on the
// first.
type cluster struct {
	t      *testing.T
	m1, m2 *vm.Machine
}

// patient lets units take longer to start than they have on hardware: where the computer is busy, an emulated machine's took
// more than the 90 s of ployz-net.
const patient = `mkdir -p /etc/systemd/system/ployz-.service.d
printf '[Service]\nTimeoutStartSec=15min\n' >/etc/systemd/system/ployz-.service.d/patient.conf
`

// founded boots the machines, founds a cluster on one and lets the other join by a token.
func founded(t *testing.T) cluster {
	t.Helper()
	testenv.Require(t, testenv.VM, testenv.Deb)
	payload := t.TempDir()
	load(t, payload)
	m1, m2 := vm.StartPair(t, payload, 24<<30)
	c := cluster{t, m1, m2}
	c.found()
	return c
}

func (c cluster) found() {
	c.t.Helper()
	for _, m := range []*vm.Machine{c.m1, c.m2} {
		m.Run("modprobe -a zfs wireguard; zpool create -O mountpoint=none tank /dev/vdc")
		m.Run(patient + "dpkg -i " + mounted + "/ployz.deb >/dev/null")
		m.Run(fmt.Sprintf(`sed -i 's/^#endpoints = .*/endpoints = ["%s:51820"]/' /etc/ployz/config.toml; systemctl restart ployzd`, m.Address()))
	}
	c.m1.Run("ployzctl init --name m1 --pool zfs:tank")
	token := c.m1.Run("ployzctl machine token 2>/dev/null")
	c.m2.Run("ployzctl join --name m2 --pool zfs:tank --token '" + token + "'")
	for _, m := range []*vm.Machine{c.m1, c.m2} {
		if got := m.Run("ip -details link show type wireguard"); !strings.Contains(got, "wireguard") {
			c.t.Errorf("the overlay's device is no WireGuard device of the kernel:\n%s", got)
		}
	}
	c.m1.Run("cd /root; ployzctl image push " + mounted + "/web")
}

// in is the same cluster for a subtest.
func (c cluster) in(t *testing.T) cluster { return cluster{t, c.m1.In(t), c.m2.In(t)} }

// ctl runs a command that must succeed, and returns what it printed.
func (c cluster) ctl(args string) string {
	c.t.Helper()
	return c.m1.Run("ployzctl " + args)
}

// try runs a command that changes something, and returns how it ended.
func (c cluster) try(args string) (out api.Outcome) {
	c.t.Helper()
	text, _ := c.m1.Try("ployzctl --json " + args + " 2>/dev/null")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		c.t.Fatalf("ployzctl %s: %v\n%s", args, err, text)
	}
	return out
}

// operate runs a command that must commit, and returns its value.
func operate[V any](c cluster, args string) (value V) {
	c.t.Helper()
	out := c.try(args)
	if out.Outcome != api.Committed {
		c.t.Fatalf("%s ended %s: %v %+v", args, out.Outcome, out.Error, out.Leftovers)
	}
	c.t.Logf("%s: %s", args, out.Took)
	if len(out.Value) > 0 {
		if err := json.Unmarshal(out.Value, &value); err != nil {
			c.t.Fatal(err)
		}
	}
	return value
}

func (c cluster) do(args string) {
	c.t.Helper()
	operate[json.RawMessage](c, args)
}

// refused runs a command that must be refused with a code, and with words in what it says.
func (c cluster) refused(args string, code api.Code, words ...string) {
	c.t.Helper()
	out := c.try(args)
	if out.Outcome != api.Refused || out.Error == nil {
		c.t.Fatalf("%s ended %s: %v, and was to be refused", args, out.Outcome, out.Error)
	}
	text, err := json.Marshal(out.Error)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, word := range append(words, string(code)) {
		if !strings.Contains(string(text), word) {
			c.t.Errorf("%s was refused without %q: %s", args, word, text)
		}
	}
}

// book keeps rows in a volume.
const book = `name: book
services:
  db:
    image: web:1
    environment: {VERSION: "1"}
    volumes: ["data:/data"]
    x-ployz:
      routes: [{host: book.test, port: 8080}]
      ready: {http: {path: /healthz, port: 8080}, timeout: 180s}
volumes:
  data: {x-ployz: {size: 200m, mode: "0750"}}
`

// deploy deploys the book in a version, with its host and to its namespace.
func (c cluster) deploy(version, namespace, host string) {
	c.t.Helper()
	text := strings.NewReplacer(`VERSION: "1"`, `VERSION: "`+version+`"`, "book.test", host).Replace(book)
	c.m1.Run("cat >/root/book.yaml <<'END'\n" + text + "END")
	c.do("deploy -f /root/book.yaml --namespace " + namespace)
}

const (
	original = "book.test"
	branch   = "try.book.test"
)

func ask(host, path string) string {
	return fmt.Sprintf("curl -sS --fail-with-body --max-time 120 -H 'Host: %s' 'http://127.0.0.1%s'", host, path)
}

// insert writes rows, each acknowledged once it is on the disk.
func (c cluster) insert(host string, batch, n int) {
	c.t.Helper()
	c.m1.Run(fmt.Sprintf("for i in $(seq 0 %d); do %s; done", n-1, ask(host, fmt.Sprintf("/append?path=/data/rows&row=%d.'$i'", batch))))
}

// want compares the rows with those that insert wrote, and which version serves them.
func (c cluster) want(host, version string, batches ...[]string) {
	c.t.Helper()
	c.m1.Eventually("version "+version+" at "+host, ask(host, "/")+" | grep -q '^version "+version+" '")
	var rows []string
	for _, b := range batches {
		rows = append(rows, b...)
	}
	if got := c.m1.Run(ask(host, "/file?path=/data/rows")); got != strings.Join(rows, "\n") {
		c.t.Fatalf("%s has the rows %q, want %q", host, got, rows)
	}
}

// rows are those that insert writes.
func rows(batch, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%d.%d", batch, i))
	}
	return all
}

// volumes are those of a namespace, wherever they are.
func (c cluster) volumes(namespace string) []api.VolumeEntry {
	c.t.Helper()
	var list api.VolumeList
	text := c.m1.Run("ployzctl --json volume ls " + namespace + " 2>/dev/null")
	if err := json.Unmarshal([]byte(text), &list); err != nil || list.Uncertain != "" {
		c.t.Fatalf("%v %s\n%s", err, list.Uncertain, text)
	}
	return list.Volumes
}

// live is the volume that has a name in a namespace.
func (c cluster) live(namespace, name string) api.VolumeEntry {
	c.t.Helper()
	for _, v := range c.volumes(namespace) {
		if v.Name == name && v.State == api.VolumeLive {
			return v
		}
	}
	c.t.Fatalf("nothing has the name %s/%s", namespace, name)
	return api.VolumeEntry{}
}

// keptOf are the IDs of the volumes of a namespace that lost their name.
func (c cluster) keptOf(namespace string) (ids []string) {
	c.t.Helper()
	for _, v := range c.volumes(namespace) {
		if v.State == api.VolumeKept && v.Copy == nil {
			ids = append(ids, v.ID)
		}
	}
	return ids
}

// guid is what a pool itself says of a snapshot.
func guid(m *vm.Machine, snapshot string) string {
	return m.Run("zfs get -H -o value guid " + snapshot)
}
