package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ployz/ployz/node/store/natsstore/natsconf"
)

const (
	// A healthy mirror hears from the core every second.
	mirrorSilence = 2500 * time.Millisecond
	// nudgeAgain leaves a nudged mirror time to ask for its consumer; nats-server lets it do so every two seconds.
	nudgeAgain = 3 * time.Second
)

// lostBeat is a heartbeat that counts messages which were never delivered: a mirror that gets it asks
// for a new consumer at once.
const lostBeat = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 9223372036854775807\r\n\r\n"

// watch nudges mirrors that hear nothing from a core which is there.
//
// A mirror's consumer lives with the stream's leader and goes when another voter leads: at every death or
// departure of a leader. nats-server looks for that every ten seconds only, and calls a consumer lost after ten
// more, so after each change every machine's view was stale for up to twenty.
func (r *relay) watch(stop <-chan struct{}) {
	nudged := map[string]time.Time{}
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
		mirrors := r.mirrors()
		for stream, deliver := range r.delivering() {
			if time.Since(nudged[stream]) < nudgeAgain || !r.silent(stream, mirrors[stream]) {
				continue
			}
			nudged[stream] = time.Now()
			if err := r.nudge(deliver); err != nil {
				r.s.Warnf("Relay: nudging the mirror of %s: %v", stream, err)
			}
		}
	}
}

// delivering is where each mirror last asked to get its messages.
func (r *relay) delivering() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]string{}
	for stream, subject := range r.deliver {
		out[stream] = subject
	}
	return out
}

// silent says that the mirror hears nothing although the core would answer.
func (r *relay) silent(stream string, m natsconf.MirrorState) bool {
	return m.Mirror && m.Active >= mirrorSilence && r.answers(context.Background(), stream)
}

// nudge publishes the lost beat. The client library cannot write a status line, so this speaks the
// protocol itself, over a connection inside the process that lives as long as the call.
func (r *relay) nudge(deliver string) error {
	conn, err := r.s.InProcessConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stepWithin)); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	hello, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	login, err := r.key.login(hello)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nHPUB %s %d %d\r\n%s\r\nPING\r\n", login, deliver, len(lostBeat), len(lostBeat), lostBeat); err != nil {
		return err
	}
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "PONG"):
			return nil
		case strings.HasPrefix(line, "-ERR"):
			return fmt.Errorf("%s", strings.TrimSpace(line))
		}
	}
}

// login answers a server's INFO line with what CONNECT needs.
func (k *inner) login(hello string) ([]byte, error) {
	var about server.Info
	if err := json.Unmarshal([]byte(strings.TrimPrefix(hello, "INFO ")), &about); err != nil {
		return nil, fmt.Errorf("not a server's greeting: %q", hello)
	}
	signature, err := k.pair.Sign([]byte(about.Nonce))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"nkey": k.public, "sig": base64.RawURLEncoding.EncodeToString(signature), "headers": true, "protocol": 1, "name": "ployz-nats nudge",
	})
}
