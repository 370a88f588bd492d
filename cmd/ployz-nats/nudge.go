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
)

const (
	// mirrorBeat is how often a mirror hears from a core that has nothing to say. The library asks for twice as many signs,
	// and each wakes the core and every edge.
	mirrorBeat = 2 * time.Second
	// mirrorSilence is two beats missed.
	mirrorSilence = 2*mirrorBeat + mirrorBeat/4
	// nudgeAgain leaves a nudged mirror time to ask for its consumer; nats-server lets it do so every two seconds.
	nudgeAgain = 3 * time.Second
	// lookAgain is the least time between two looks at the mirrors.
	lookAgain = 500 * time.Millisecond
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
	for pause := mirrorSilence; ; {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		pause = r.nudgeSilent(nudged)
	}
}

// nudgeSilent nudges the mirrors that are silent, and returns the time after which the next may have been so for too long.
func (r *relay) nudgeSilent(nudged map[string]time.Time) time.Duration {
	mirrors, next := r.mirrors(), mirrorSilence
	for stream, deliver := range r.delivering() {
		m := mirrors[stream]
		if left := mirrorSilence - m.Active; left > 0 {
			next = min(next, left)
			continue
		}
		next = lookAgain
		if time.Since(nudged[stream]) < nudgeAgain || !m.Mirror || !r.answers(context.Background(), stream) {
			continue
		}
		nudged[stream] = time.Now()
		if err := r.nudge(deliver); err != nil {
			r.s.Warnf("Relay: nudging the mirror of %s: %v", stream, err)
		}
	}
	return max(next, lookAgain)
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
