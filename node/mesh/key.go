package mesh

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"

	"github.com/ployz/ployz/node/api"
)

// keyBytes is the length of a Curve25519 key.
const keyBytes = 32

// Key is a machine's public WireGuard key. As text it is base64, as wg prints it.
type Key [keyBytes]byte

// ParseKey reads a public key. Errors: mesh.invalid.
func ParseKey(text string) (Key, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != keyBytes {
		return Key{}, api.Errorf(api.CodeMeshInvalid, "%q is not a WireGuard key: 32 bytes in base64", text)
	}
	return Key(raw), nil
}

func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero tells whether there is no key.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Errors: mesh.invalid.
func (k *Key) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKey(string(text))
	return err
}

// PrivateKey is the half that never leaves the machine. It prints as nothing but its kind, so that no
// message or log can give it away.
type PrivateKey struct{ raw [keyBytes]byte }

// GenerateKey makes a new private key.
func GenerateKey() PrivateKey {
	var k PrivateKey
	rand.Read(k.raw[:]) // never fails
	// As WireGuard keeps it, so that one read back from a device is the same.
	k.raw[0] &= 248
	k.raw[31] = k.raw[31]&127 | 64
	return k
}

// NewPrivateKey takes a private key's bytes over.
func NewPrivateKey(raw [keyBytes]byte) PrivateKey { return PrivateKey{raw} }

// Bytes returns the key itself, for the device.
func (k PrivateKey) Bytes() [keyBytes]byte { return k.raw }

// Public returns the key that others know the machine by.
func (k PrivateKey) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(k.raw[:])
	if err != nil {
		return Key{} // only of a wrong length, which it cannot have
	}
	return Key(private.PublicKey().Bytes())
}

func (k PrivateKey) String() string { return "(private key)" }

// GoString keeps the key out of %#v.
func (k PrivateKey) GoString() string { return k.String() }
