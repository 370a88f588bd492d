package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/mesh"
)

func TestKeyAsText(t *testing.T) {
	key := mesh.GenerateKey().Public()
	again, err := mesh.ParseKey(key.String())
	if err != nil || again != key {
		t.Errorf("%s was read as %s, %v", key, again, err)
	}
	text, err := json.Marshal(map[string]mesh.Key{"k": key})
	if err != nil || !strings.Contains(string(text), `"`+key.String()+`"`) {
		t.Errorf("%s, %v", text, err)
	}
	for _, bad := range []string{"", "x", key.String()[:40], key.String() + "AA", "é" + key.String()[2:]} {
		if _, err := mesh.ParseKey(bad); api.CodeOf(err) != api.CodeMeshInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestKnownPublicKey is a pair from RFC 7748, section 6.1.
func TestKnownPublicKey(t *testing.T) {
	private := [32]byte{0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a}
	public := mesh.NewPrivateKey(private).Public()
	if got := fmt.Sprintf("%x", public[:]); got != "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a" {
		t.Error(got)
	}
}

func TestPrivateKeyIsNotPrinted(t *testing.T) {
	key := mesh.GenerateKey()
	raw := key.Bytes()
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%v %+v %#v %s", key, key, key, key), fmt.Sprintf("%+v", mesh.Wanted{Private: key})} {
		if strings.Contains(text, fmt.Sprint(raw[0])+" "+fmt.Sprint(raw[1])) || !strings.Contains(text, "(private key)") {
			t.Errorf("printed as %s", text)
		}
	}
}

func TestKeyFileIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "wireguard.key")
	if _, err := mesh.LoadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	made := make([]mesh.PrivateKey, 8)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = mesh.EnsureKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, key := range made {
		if key != made[0] {
			t.Error("two callers got two keys")
		}
	}
	if status, err := os.Stat(path); err != nil || status.Mode() != 0o600 {
		t.Errorf("%v, %v", status, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDamagedKeyFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.key")
	for _, text := range []string{"", "half", mesh.GenerateKey().Public().String()[:20]} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := mesh.EnsureKey(path); api.CodeOf(err) != api.CodeMeshKey {
			t.Errorf("%q: %v", text, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%q became %q, %v", text, after, err)
		}
	}
}
