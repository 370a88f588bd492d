package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Set, this program is the one that dies: the journal, and the moment.
const (
	envJournal = "PLOYZ_TEST_FILESTORE_JOURNAL"
	envMoment  = "PLOYZ_TEST_FILESTORE_MOMENT"
)

func TestMain(m *testing.M) {
	if journal := os.Getenv(envJournal); journal != "" {
		if err := runUntilKilled(journal, os.Getenv(envMoment)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runUntilKilled says "." on stdout for each step that was acknowledged.
func runUntilKilled(journal, moment string) error {
	at, err := strconv.Atoi(moment)
	if err != nil {
		return err
	}
	s, err := Open(journal, nil)
	if err != nil {
		return err
	}
	s.journal = &deadly{disk: s.journal, left: at}
	for i := range scriptSteps {
		if err := step(s, i+1); err != nil {
			return err
		}
		fmt.Print(".")
	}
	return nil // without Close: a process that ends is one, too
}

// deadly kills its process with SIGKILL at a moment: before a write, in its middle, behind it,
// behind its sync, and so on with the next write.
type deadly struct {
	disk
	left int
}

func (d *deadly) moment() {
	if d.left--; d.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d *deadly) Write(text []byte) (int, error) {
	d.moment()
	half, err := d.disk.Write(text[:len(text)/2])
	if err != nil {
		return half, err
	}
	d.moment()
	n, err := d.disk.Write(text[half:])
	d.moment()
	return half + n, err
}

func (d *deadly) Sync() error {
	err := d.disk.Sync()
	d.moment()
	return err
}

const momentsPerStep = 4

// TestKilledAnywhere kills a writer at every moment of a script. What it was told is there, at most one
// step more, and the same script again comes to the same end as if nothing had happened.
func TestKilledAnywhere(t *testing.T) {
	want := pictures(t)
	for moment := 1; moment <= scriptSteps*momentsPerStep; moment++ {
		file := filepath.Join(t.TempDir(), "journal")
		acknowledged := kill(t, file, moment)
		if begun := (moment - 1) / momentsPerStep; acknowledged != begun {
			t.Fatalf("moment %d: %d steps were acknowledged, not %d", moment, acknowledged, begun)
		}
		s := mustOpen(t, file, still) // also: the dead hold no lock
		landed := acknowledged
		if (moment-1)%momentsPerStep >= 2 { // its line was whole
			landed++
		}
		if got := picture(t, s); got != want[landed] {
			t.Fatalf("moment %d: got  %s\nwant %s", moment, got, want[landed])
		}
		run(t, s)
		if got := picture(t, s); got != want[scriptSteps] {
			t.Fatalf("moment %d, run again: got  %s\nwant %s", moment, got, want[scriptSteps])
		}
	}
}

// kill runs a writer that dies at the moment and returns how many steps it was told of.
func kill(t *testing.T, journal string, moment int) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envJournal+"="+journal, fmt.Sprint(envMoment, "=", moment))
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("moment %d: the writer was not killed: %v\n%s", moment, err, complaint.String())
	}
	return len(out)
}
