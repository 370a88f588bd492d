package operation

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns a new operation id: 13 characters that sort by the time they were made, in
// milliseconds, and end in 22 random bits.
func NewID() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixMilli())<<22)
	var r [3]byte
	rand.Read(r[:]) // never fails
	b[5] |= r[0] & 0x3f
	b[6], b[7] = r[1], r[2]
	return idEncoding.EncodeToString(b[:])
}
