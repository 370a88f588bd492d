package boot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// KeyFile is the machine's age identity, relative to the state folder.
const KeyFile = "keys/age.key"

// Secrets is the content of secrets.json: everything in it is sealed.
type Secrets struct {
	Env   map[string][]byte `json:"env,omitempty"`
	Files []SecretFile      `json:"files,omitempty"`
}

// SecretFile is opened to a file of that name in the instance's folder on the ramfs.
type SecretFile struct {
	Name   string `json:"name"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Mode   uint32 `json:"mode"`
	Sealed []byte `json:"sealed"`
}

// SecretError says which secret could not be opened.
type SecretError struct {
	// Name is the variable's or the file's, "" when it is the key that failed.
	Name string
	Err  error
}

func (e *SecretError) Error() string {
	if e.Name == "" {
		return "the machine's age key: " + e.Err.Error()
	}
	return fmt.Sprintf("secret %s cannot be opened with this machine's key: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *SecretError) Unwrap() error { return e.Err }

// SecretsDir is where an instance's opened secrets are.
func SecretsDir(run, id string) string { return filepath.Join(run, "secrets", id) }

// BundleDir is the bundle of an instance with secret variables: its own config.json with the
// variables added.
func BundleDir(run, id string) string { return filepath.Join(SecretsDir(run, id), "bundle") }

func (m Machine) ensureSecrets(id, dir string) error {
	var s Secrets
	err := readJSON(filepath.Join(dir, SecretsFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keys, err := m.identities()
	if err != nil {
		return &SecretError{"", err}
	}
	if err := ensureRamfs(filepath.Join(m.Run, "secrets")); err != nil {
		return err
	}
	return s.open(keys, dir, SecretsDir(m.Run, id), BundleDir(m.Run, id))
}

func (m Machine) identities() ([]age.Identity, error) {
	f, err := os.Open(filepath.Join(m.State, KeyFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return age.ParseIdentities(f)
}

// ensureRamfs mounts a ramfs: unlike a tmpfs it is never written to swap.
func ensureRamfs(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Type == unix.RAMFS_MAGIC {
		return nil
	}
	if err := unix.Mount("ployz-secrets", dir, "ramfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return &os.PathError{Op: "mount ramfs on", Path: dir, Err: err}
	}
	return nil
}

// open writes everything anew: a half-opened set from an interrupted start must not stay.
func (s Secrets) open(keys []age.Identity, dir, to, bundle string) error {
	if err := os.MkdirAll(to, 0o711); err != nil {
		return err
	}
	for _, f := range s.Files {
		plain, err := unseal(f.Sealed, keys)
		if err != nil {
			return &SecretError{f.Name, err}
		}
		if err := f.write(filepath.Join(to, f.Name), plain); err != nil {
			return err
		}
	}
	if len(s.Env) == 0 {
		return nil
	}
	env, err := s.environment(keys)
	if err != nil {
		return err
	}
	return writeBundle(filepath.Join(dir, ConfigFile), bundle, env)
}

func unseal(sealed []byte, keys []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), keys...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// write replaces the file: a running instance that restarts keeps what its mount holds.
func (f SecretFile) write(path string, plain []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, plain, 0o600); err != nil {
		return err
	}
	if err := os.Chown(temporary, f.UID, f.GID); err != nil {
		return err
	}
	if err := os.Chmod(temporary, fs.FileMode(f.Mode&0o777)); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (s Secrets) environment(keys []age.Identity) (env []string, err error) {
	for name, sealed := range s.Env {
		plain, err := unseal(sealed, keys)
		if err != nil {
			return nil, &SecretError{name, err}
		}
		env = append(env, name+"="+string(plain))
	}
	slices.Sort(env)
	return env, nil
}

// writeBundle copies the OCI configuration with variables added. It knows no more of its shape
// than that, so that it needs none of its types.
func writeBundle(config, bundle string, env []string) error {
	var whole map[string]json.RawMessage
	var process map[string]json.RawMessage
	var have []string
	err := readJSON(config, &whole)
	if err == nil {
		err = json.Unmarshal(whole["process"], &process)
	}
	if err == nil && process["env"] != nil {
		err = json.Unmarshal(process["env"], &have)
	}
	if err == nil {
		process["env"], err = json.Marshal(append(have, env...))
	}
	if err == nil {
		whole["process"], err = json.Marshal(process)
	}
	text, marshalErr := json.Marshal(whole)
	if err := errors.Join(err, marshalErr, os.MkdirAll(bundle, 0o700)); err != nil {
		return fmt.Errorf("boot: bundle of %s: %w", config, err)
	}
	return os.WriteFile(filepath.Join(bundle, ConfigFile), text, 0o600)
}
