package filestore

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/store"
)

// written is the journal of a whole script.
func written(t *testing.T) []byte {
	file := path(t)
	s := mustOpen(t, file, still)
	run(t, s)
	mustClose(t, s)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func openText(t *testing.T, file string, text []byte) (*Store, error) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(file, still)
}

// TestCutAnywhere tears the journal at every byte: what is whole is there, and one can go on.
func TestCutAnywhere(t *testing.T) {
	text, want, file := written(t), pictures(t), path(t)
	for cut := range len(text) + 1 {
		s, err := openText(t, file, text[:cut])
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		lines := bytes.Count(text[:cut], []byte("\n"))
		if got := picture(t, s); got != want[lines] {
			t.Fatalf("cut at %d: got  %s\nwant %s", cut, got, want[lines])
		}
		if cut%97 == 0 { // going on costs syncs, so not at every byte
			run(t, s)
			mustClose(t, s)
			if s, err = Open(file, still); err != nil || picture(t, s) != want[scriptSteps] {
				t.Fatalf("cut at %d, then gone on: %v", cut, err)
			}
		}
		mustClose(t, s)
	}
}

// TestLostPage has the start of the last line read as zeros: its end reached the disk alone.
func TestLostPage(t *testing.T) {
	text, want := written(t), pictures(t)
	last := text[bytes.LastIndexByte(text[:len(text)-1], '\n')+1:]
	clear(last[:len(last)-5])
	s, err := openText(t, path(t), text)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	if got := picture(t, s); got != want[scriptSteps-1] {
		t.Fatalf("got  %s\nwant %s", got, want[scriptSteps-1])
	}
}

// TestFlippedBit flips each bit before the journal's last byte. Whatever is not found out must make no
// difference: the case of a letter in a field's name.
func TestFlippedBit(t *testing.T) {
	text, want, file := written(t), pictures(t)[scriptSteps], path(t)
	found := 0
	for bit := range 8 * (len(text) - 1) {
		text[bit/8] ^= 1 << (bit % 8)
		s, err := openText(t, file, text)
		text[bit/8] ^= 1 << (bit % 8)
		if err != nil {
			wantCode(t, err, api.CodeStoreDamaged)
			found++
			continue
		}
		if got := picture(t, s); got != want {
			t.Fatalf("bit %d of byte %d: got  %s\nwant %s", bit%8, bit/8, got, want)
		}
		mustClose(t, s)
	}
	t.Logf("%d of %d flips were found out", found, 8*(len(text)-1))
}

func TestLinesLostOrTwice(t *testing.T) {
	lines := bytes.SplitAfter(written(t), []byte("\n"))
	for name, text := range map[string][][]byte{
		"lost":  {lines[0], lines[2]},
		"twice": {lines[0], lines[1], lines[1]},
		"moved": {lines[1], lines[0]},
		"empty": {lines[0], []byte("\n"), lines[1]},
	} {
		if _, err := openText(t, path(t), bytes.Join(text, nil)); api.CodeOf(err) != api.CodeStoreDamaged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faulty breaks the calls whose error is set, after doing half of what Write was asked for.
type faulty struct {
	disk
	write, truncate, sync error
}

func (f *faulty) Write(text []byte) (int, error) {
	if f.write == nil {
		return f.disk.Write(text)
	}
	n, err := f.disk.Write(text[:len(text)/2])
	return n, errors.Join(err, f.write)
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.disk.Truncate(size)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.disk.Sync()
}

func broken(t *testing.T, file string, f *faulty) *Store {
	s := mustOpen(t, file, still)
	f.disk, s.journal = s.journal, f
	return s
}

func TestDiskFull(t *testing.T) {
	file, want := path(t), pictures(t)[scriptSteps]
	f := &faulty{write: syscall.ENOSPC}
	s := broken(t, file, f)
	wantCode(t, step(s, 1), api.CodeStoreFull)
	wantCode(t, step(s, 2), api.CodeStoreFull)
	f.write = nil
	run(t, s)
	mustClose(t, s)
	if got := picture(t, mustOpen(t, file, still)); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestDiskGone(t *testing.T) {
	file, want := path(t), pictures(t)
	f := &faulty{}
	s := broken(t, file, f)
	if err := step(s, 1); err != nil {
		t.Fatal(err)
	}
	f.write, f.truncate = syscall.EIO, syscall.EIO
	wantCode(t, step(s, 2), api.CodeStoreUnavailable)
	f.write, f.truncate = nil, nil
	wantCode(t, step(s, 2), api.CodeStoreUnavailable) // half a line is in the way
	mustClose(t, s)
	if got := picture(t, mustOpen(t, file, still)); got != want[1] {
		t.Fatalf("got  %s\nwant %s", got, want[1])
	}
}

func TestSyncFails(t *testing.T) {
	file, want := path(t), pictures(t)
	f := &faulty{sync: syscall.EIO}
	s := broken(t, file, f)
	if err := step(s, 1); !store.IsUncertain(err) {
		t.Fatal(err)
	}
	f.sync = nil
	wantCode(t, step(s, 2), api.CodeStoreUnavailable)
	mustClose(t, s)
	if got := picture(t, mustOpen(t, file, still)); got != want[1] {
		t.Fatalf("got  %s\nwant %s", got, want[1])
	}
}
