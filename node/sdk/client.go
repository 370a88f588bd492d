package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
)

// DefaultHost is the socket of the machine that the client runs on.
const DefaultHost = "unix:///run/ployz/ployzd.sock"

// Client talks to one daemon. It is safe for concurrent use.
type Client struct {
	host string
	http *http.Client
	dial func(ctx context.Context) (net.Conn, error)
}

// Open returns a client for "unix:///path", "ssh://[user@]host[:port]" or "dev://LAB/MACHINE"; "" is
// DefaultHost. "tcp://[address]:port" is for machines among themselves, over the overlay. It connects at the first request. Errors: context.invalid.
func Open(host string) (*Client, error) {
	if host == "" {
		host = DefaultHost
	}
	c := &Client{host: host}
	u, err := url.Parse(host)
	switch {
	case err == nil && u.Scheme == "unix" && u.Path != "":
		c.dial = func(ctx context.Context) (net.Conn, error) { return dialSocket(ctx, u.Path) }
	case err == nil && u.Scheme == "ssh" && u.Hostname() != "" && !strings.HasPrefix(u.Hostname(), "-"):
		c.dial = func(ctx context.Context) (net.Conn, error) { return dialSSH(u) }
	case err == nil && u.Scheme == "dev" && u.Hostname() != "" && len(u.Path) > 1:
		c.dial = func(ctx context.Context) (net.Conn, error) { return dialDev(u) }
	case err == nil && u.Scheme == "tcp" && u.Port() != "":
		c.dial = func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host) }
	default:
		return nil, api.Errorf(api.CodeContextInvalid, "%q is none of unix:///path, ssh://user@host, dev://LAB/MACHINE", host).
			WithHint("for example: --host ssh://root@m1")
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConns:    2,
		IdleConnTimeout: 30 * time.Second,
	}}
	return c, nil
}

// Host is what the client was opened with.
func (c *Client) Host() string { return c.host }

// Close gives up idle connections, which ends an ssh that runs for them.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call makes a request and reads its JSON answer into out.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return api.Errorf(api.CodeInternal, "encoding the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.broken(err)
	}
	return nil
}

// send makes a request and turns an answer that is an error into one.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "ployzd", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, api.Errorf(api.CodeInternal, "making the request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

// readError is the daemon's own error, or what an answer without one looks like.
func readError(resp *http.Response) error {
	var answer struct {
		Error *api.Error `json:"error"`
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err == nil && json.Unmarshal(text, &answer) == nil && answer.Error != nil {
		return answer.Error
	}
	return api.Errorf(api.CodeInternal, "the daemon answered %s without saying why", resp.Status)
}

// broken gives a connection's failure its type; one that has it is passed on.
func (c *Client) broken(err error) error {
	var typed *api.Error
	switch {
	case errors.As(err, &typed):
		return typed
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return api.Errorf(api.CodeCancelled, "the request was given up: %w", err)
	}
	return api.Errorf(api.CodeDaemonUnreachable, "the connection to the daemon broke: %w", err).About(c.host).Again().
		WithHint("see whether it runs: systemctl status ployzd")
}

// follow reads newline-delimited JSON, one T a line, until the stream ends or each fails.
func follow[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any, each func(T) error) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return api.Errorf(api.CodeInternal, "encoding the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readLines(c, resp.Body, each)
}

func readLines[T any](c *Client, r io.Reader, each func(T) error) error {
	dec := json.NewDecoder(r)
	for {
		var line T
		err := dec.Decode(&line)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.broken(err)
		}
		if err := each(line); err != nil {
			return err
		}
	}
}
