package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/routing"
)

// errEnded is the answer of a process that is gone, with everything that it had in flight.
var errEnded = errors.New("the process has ended")

// askSibling gets another process's own statement about a namespace. Errors: errEnded.
func askSibling(ctx context.Context, socket, namespace string) (routing.Statement, error) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	query := url.Values{"namespace": {namespace}, "own": {"1"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/applied?"+query.Encode(), nil)
	if err != nil {
		return routing.Statement{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return routing.Statement{}, endedOr(socket, err)
	}
	defer resp.Body.Close()
	var s routing.Statement
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s answers %s", socket, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, endedOr(socket, err)
	}
	return s, nil
}

// endedOr tells a process that ended while it was asked from one that is there and silent.
func endedOr(socket string, err error) error {
	for _, gone := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, gone) {
			return errEnded
		}
	}
	return fmt.Errorf("%s: %w", socket, err)
}
