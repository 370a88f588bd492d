// Package agebox seals secrets with age, to the machines that run them.
//
// A machine's identity is made on it and never leaves it. Fingerprints are keyed by a secret of
// the cluster, so that nobody who reads the store can guess at values.
package agebox

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/ployz/ployz/datapath/durable"
	"github.com/ployz/ployz/node/api"
)

const (
	identityFile    = "age.key"
	fingerprintFile = "fingerprint.key"
)

// EnsureKeys makes the machine's identity and the fingerprint key in a folder, each of mode
// 0600, and returns the recipient that seals to this machine.
func EnsureKeys(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", failed("making the folder of keys", err)
	}
	if err := ensure(filepath.Join(dir, fingerprintFile), randomKey); err != nil {
		return "", err
	}
	path := filepath.Join(dir, identityFile)
	if err := ensure(path, newIdentity); err != nil {
		return "", err
	}
	return recipient(path)
}

// Recipient returns the recipient of the identity in a folder.
func Recipient(dir string) (string, error) { return recipient(filepath.Join(dir, identityFile)) }

func recipient(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", failed("reading the machine's age identity", err)
	}
	identity, err := age.ParseX25519Identity(string(bytes.TrimSpace(text)))
	if err != nil {
		return "", failed("the machine's age identity", err)
	}
	return identity.Recipient().String(), nil
}

func ensure(path string, content func() ([]byte, error)) error {
	_, err := os.Stat(path)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return failed("looking for a key", err)
	}
	text, err := content()
	if err != nil {
		return failed("making a key", err)
	}
	if err := durable.WriteFile(path, text, 0o600); err != nil {
		return failed("writing a key", err)
	}
	return nil
}

func newIdentity() ([]byte, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return []byte(identity.String() + "\n"), nil
}

func randomKey() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return []byte(hex.EncodeToString(key) + "\n"), err
}

// Box seals and fingerprints.
type Box struct{ dir string }

// Open returns the box of a folder of keys. The fingerprint key is read at each use: it becomes the cluster's
// once the machine is a member.
func Open(dir string) (*Box, error) {
	_, err := SharedKey(dir)
	return &Box{dir}, err
}

// SharedKey returns the fingerprint key, which all machines of a cluster share.
func SharedKey(dir string) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(dir, fingerprintFile))
	if err != nil {
		return nil, failed("reading the fingerprint key", err)
	}
	return key, nil
}

// InstallSharedKey puts the cluster's fingerprint key in the place of the machine's own.
func InstallSharedKey(dir string, key []byte) error {
	have, err := SharedKey(dir)
	if err == nil && bytes.Equal(have, key) {
		return nil
	}
	if err := durable.WriteFile(filepath.Join(dir, fingerprintFile), key, 0o600); err != nil {
		return failed("writing the fingerprint key", err)
	}
	return nil
}

// Unseal opens what was sealed to the machine whose keys are in a folder. Errors: internal.error, also for
// what was sealed to others.
func Unseal(dir string, sealed []byte) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		return nil, failed("reading the machine's age identity", err)
	}
	identity, err := age.ParseX25519Identity(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, failed("the machine's age identity", err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, failed("opening what was sealed", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, failed("opening what was sealed", err)
	}
	return plain, nil
}

// Seal encrypts a value to recipients. Errors: request.malformed for a recipient that is none.
func (b *Box) Seal(value []byte, recipients []string) ([]byte, error) {
	var to []age.Recipient
	for _, r := range recipients {
		parsed, err := age.ParseX25519Recipient(r)
		if err != nil {
			return nil, api.Errorf(api.CodeBadRequest, "%q is not an age recipient: %w", r, err)
		}
		to = append(to, parsed)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, failed("sealing", err)
	}
	if _, err := io.Copy(w, bytes.NewReader(value)); err != nil {
		return nil, failed("sealing", err)
	}
	if err := w.Close(); err != nil {
		return nil, failed("sealing", err)
	}
	return out.Bytes(), nil
}

// Fingerprint tells two values of one name apart without revealing either.
func (b *Box) Fingerprint(namespace, name string, value []byte) string {
	key, err := SharedKey(b.dir)
	if err != nil {
		return "" // differs from every fingerprint, so what uses the secret is made anew
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(namespace + "\x00" + name + "\x00"))
	mac.Write(value)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

func failed(what string, err error) error {
	return api.Errorf(api.CodeInternal, "%s: %w", what, err)
}
