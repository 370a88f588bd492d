package coordination

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/ployz/ployz/node/api"
)

// envelopeVersion changes when an older receiver would misread a newer envelope.
const envelopeVersion = 1

const (
	// lifetime is how long after its sealing a command may begin.
	lifetime = 30 * time.Second
	// skew is by how much the clocks of two machines may differ.
	skew = 2 * time.Minute
)

// Sign signs a text with this machine's key.
type Sign func(text []byte) ([]byte, error)

// Verify returns nil when the signature is by a machine that is a member now and may command.
type Verify func(ctx context.Context, sender string, text, signature []byte) error

// envelope is what travels: a command, and for whom, from whom and until when it holds.
type envelope struct {
	Version  int    `json:"version"`
	Call     string `json:"call"`
	Audience string `json:"audience"`
	Sender   string `json:"sender"`
	// Issued and Expires are by the sender's clock.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Allowed is how long the command may run, from its arrival on.
	Allowed time.Duration `json:"allowedNanos"`
	Command Command       `json:"command"`
}

// signed is the text that is signed for an envelope. The same key signs what a NATS server asks of a client that
// connects, and a server may ask for any string: but a string is UTF-8, and this text begins with a byte
// that never is. So no server can get a command signed.
func signed(envelope []byte) []byte {
	return append([]byte("\xffployz command\n"), envelope...)
}

// seal makes the signature's line and the envelope after it.
func seal(e envelope, sign Sign) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, api.Errorf(api.CodeBadRequest, "encoding the command: %w", err)
	}
	signature, err := sign(signed(text))
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "signing the command: %w", err)
	}
	line := base64.StdEncoding.AppendEncode(nil, signature)
	return append(append(line, '\n'), text...), nil
}

// unseal returns an envelope that is for machine, from a member, and neither changed nor too old.
// Errors: participant.refused.
func unseal(ctx context.Context, sealed []byte, machine string, verify Verify, now time.Time) (envelope, error) {
	var e envelope
	line, text, cut := bytes.Cut(sealed, []byte("\n"))
	signature, err := base64.StdEncoding.AppendDecode(nil, line)
	if !cut || err != nil {
		return e, refused("it is not signed")
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, refused("its envelope cannot be read: %w", err)
	}
	if err := verify(ctx, e.Sender, signed(text), signature); err != nil {
		return e, refused("%q did not sign it, or may not command: %w", e.Sender, err)
	}
	return e, e.check(machine, now)
}

func (e envelope) check(machine string, now time.Time) error {
	switch {
	case e.Version != envelopeVersion:
		return refused("its version is %d, this machine knows %d", e.Version, envelopeVersion).WithHint("update the older machine")
	case e.Audience != machine:
		return refused("it is for %s, and this is %s", e.Audience, machine)
	case now.After(e.Expires.Add(skew)) || now.Before(e.Issued.Add(-skew)):
		return refused("it was sealed at %s, and the clock of this machine says %s",
			e.Issued.Format(time.RFC3339), now.UTC().Format(time.RFC3339)).WithHint("compare the machines' clocks: timedatectl")
	case e.Allowed <= 0:
		return refused("its deadline had passed before it was sent")
	}
	return nil
}
