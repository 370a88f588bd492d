package coordination

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"
)

// passVerb marks an envelope that is no command but lets one request in.
const passVerb = "pass"

// Pass is a sealed permission for one request to another machine beside the bus: the same envelope, for bytes that
// never go over it.
type Pass struct {
	// Sender is the machine that asks, Caller who asks there, Request what is asked for.
	Sender  string `json:"-"`
	Caller  string `json:"caller"`
	Request string `json:"request"`
}

// IssuePass seals a pass for the machine with that id, as text that fits into a header.
func IssuePass(p Pass, audience string, sign Sign) (string, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	now := time.Now()
	sealed, err := seal(envelope{
		Version: envelopeVersion, Audience: audience, Sender: p.Sender, Allowed: lifetime,
		Issued: now.UTC(), Expires: now.Add(lifetime).UTC(), Command: Command{Verb: passVerb, Body: body},
	}, sign)
	return base64.StdEncoding.EncodeToString(sealed), err
}

// ReadPass returns a pass that is for machine, from a member, and neither changed nor too old. Errors:
// participant.refused.
func ReadPass(ctx context.Context, text, machine string, verify Verify) (Pass, error) {
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Pass{}, refused("the pass cannot be read")
	}
	e, err := unseal(ctx, sealed, machine, verify, time.Now())
	if err != nil {
		return Pass{}, err
	}
	p := Pass{Sender: e.Sender}
	if err := json.Unmarshal(e.Command.Body, &p); err != nil || e.Command.Verb != passVerb {
		return Pass{}, refused("that is no pass")
	}
	return p, nil
}
