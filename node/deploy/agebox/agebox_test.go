package agebox_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/ployz/ployz/node/deploy/agebox"
)

func TestSealOpensOnlyHere(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	to, err := agebox.EnsureKeys(here)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := agebox.EnsureKeys(here); err != nil || again != to {
		t.Fatalf("the second EnsureKeys gave %q (%v), the first %q", again, err, to)
	}
	if _, err := agebox.EnsureKeys(there); err != nil {
		t.Fatal(err)
	}
	box, err := agebox.Open(here)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := box.Seal([]byte("hunter2"), []string{to})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("hunter2")) {
		t.Error("the sealed message shows the value")
	}
	if got := open(t, here, sealed); got != "hunter2" {
		t.Errorf("opened as %q", got)
	}
	if got := open(t, there, sealed); got != "" {
		t.Errorf("another machine opened it as %q", got)
	}
}

func open(t *testing.T, dir string, sealed []byte) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "age.key"))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(key))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFingerprint(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	boxes := map[string]*agebox.Box{}
	for _, d := range []string{dir, other} {
		if _, err := agebox.EnsureKeys(d); err != nil {
			t.Fatal(err)
		}
		box, err := agebox.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		boxes[d] = box
	}
	a := boxes[dir].Fingerprint("shop", "password", []byte("x"))
	if a != boxes[dir].Fingerprint("shop", "password", []byte("x")) {
		t.Error("equal values have different fingerprints")
	}
	for name, b := range map[string]string{
		"another value":     boxes[dir].Fingerprint("shop", "password", []byte("y")),
		"another namespace": boxes[dir].Fingerprint("blog", "password", []byte("x")),
		"another cluster":   boxes[other].Fingerprint("shop", "password", []byte("x")),
	} {
		if a == b {
			t.Errorf("%s has the same fingerprint", name)
		}
	}
}

func TestSealRefusesStrangers(t *testing.T) {
	dir := t.TempDir()
	if _, err := agebox.EnsureKeys(dir); err != nil {
		t.Fatal(err)
	}
	box, err := agebox.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Seal([]byte("x"), []string{"nobody"}); err == nil {
		t.Error("a recipient that is none was accepted")
	}
}
