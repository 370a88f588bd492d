package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/storage"
	"github.com/ployz/ployz/node/storage/btrfs"
	"github.com/ployz/ployz/node/storage/storagetest"
	"github.com/ployz/ployz/node/storage/transfer"
)

// envVictim is set in the process that is one side of a transfer, to be killed in the middle of it.
const envVictim = "PLOYZ_TEST_TRANSFER_VICTIM"

// victim is what that process does.
type victim struct {
	Address, Root, Snapshot string
	Receives                bool
	As                      storage.Spec
}

func TestMain(m *testing.M) {
	if text := os.Getenv(envVictim); text != "" {
		if err := beVictim(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beVictim(text string) error {
	var v victim
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	pool, err := btrfs.Open(v.Root)
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", v.Address)
	if err != nil {
		return err
	}
	if v.Receives {
		_, err = transfer.Receive(context.Background(), conn, transfer.Incoming{Pool: pool, As: v.As, Snapshot: v.Snapshot})
	} else {
		_, err = transfer.Send(context.Background(), conn, transfer.Outgoing{Pool: pool, Volume: v.As.ID, Snapshot: v.Snapshot, Every: true})
	}
	return err
}

// start starts the victim and returns the connection that it makes.
func (v victim) start(t *testing.T) (*exec.Cmd, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	storagetest.Must(t, err)
	defer l.Close()
	v.Address = l.Addr().String()
	text, err := json.Marshal(v)
	storagetest.Must(t, err)
	program, err := os.Executable()
	storagetest.Must(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), envVictim+"="+string(text))
	cmd.Stderr = os.Stderr
	storagetest.Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) //nolint:errcheck // it was killed, or has ended
	storagetest.Must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(30*time.Second)))
	conn, err := l.Accept()
	storagetest.Must(t, err)
	return cmd, conn
}

// killing kills a process once so many bytes have passed either way.
type killing struct {
	net.Conn
	left   int
	victim *os.Process
}

func (k *killing) pass(n int) {
	if k.left -= n; k.left <= 0 && k.victim != nil {
		k.victim.Kill() //nolint:errcheck // it may have ended
		k.victim = nil
	}
}

// Read implements net.Conn. One goroutine reads; where writes are counted, reads are not.
func (k *killing) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	k.pass(n)
	return n, err
}

// killingWrites counts what is written instead.
type killingWrites struct{ killing }

// Read implements net.Conn.
func (k *killingWrites) Read(p []byte) (int, error) { return k.Conn.Read(p) }

// Write implements net.Conn.
func (k *killingWrites) Write(p []byte) (int, error) {
	n, err := k.Conn.Write(p)
	k.pass(n)
	return n, err
}

// testKilled: either side's process dies by SIGKILL after a number of bytes, and another one repeats the transfer.
func testKilled(t *testing.T, p pools) {
	v := p.volumeOf(t, 4*mib)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := mrand.New(mrand.NewPCG(uint64(seed), 0))
	for round := range 6 {
		after := random.IntN(8 * mib)
		out, in := p.ends(v, "s2", true)
		who := victim{As: v.Spec, Snapshot: "s2", Receives: round%2 == 0}
		var err error
		if who.Receives {
			who.Root = p.farRoot
			cmd, conn := who.start(t)
			_, err = transfer.Send(t.Context(), &killingWrites{killing{conn, after, cmd.Process}}, out)
		} else {
			who.Root = p.nearRoot
			cmd, conn := who.start(t)
			_, err = transfer.Receive(t.Context(), &killing{conn, after, cmd.Process}, in)
		}
		// What a sender had said to the end before it died is as good as any other's.
		if saidAll := err == nil && !who.Receives; api.CodeOf(err) != api.CodeVolumeTransferCut && !saidAll {
			t.Fatalf("killed after %d bytes (it receives: %t), and the other side says: %v", after, who.Receives, err)
		}
		p.wholeOrNothing(t, v)
		p.repeated(t, v)
		p.sameFiles(t, v, "s1", "s2")
		p.clear(t, v.ID)
	}
}

// repeated carries the volume as a restarted daemon does. What a killed one had under it may take a moment to end.
func (p pools) repeated(t *testing.T, v storage.Volume) {
	t.Helper()
	out, in := p.ends(v, "s2", true)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		e := dial(t).carry(t.Context(), out, in)
		if e.getErr == nil && e.sendErr == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(e.getErr, e.sendErr)
		}
	}
}
