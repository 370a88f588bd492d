package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// asker sends one request and says why its answer was wrong.
type asker func(ctx context.Context) error

func (h HTTP) asker() asker {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: h.Fresh, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
	}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
		if err != nil {
			return err
		}
		req.Host = h.Host
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("reading the answer's body: %w", err)
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), h.Want) {
			return fmt.Errorf("answered %s %q", resp.Status, first(body, 120))
		}
		return nil
	}
}

func first(text []byte, n int) string { return string(text[:min(n, len(text))]) }

func (d DNS) asker() asker {
	client := &dns.Client{Net: d.Network, Timeout: Patience}
	return func(ctx context.Context) error {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(d.Question), dns.TypeA)
		answer, _, err := client.ExchangeContext(ctx, m, d.Server)
		if err != nil {
			return err
		}
		for _, rr := range answer.Answer {
			if a, ok := rr.(*dns.A); ok && (d.Want == "" || a.A.String() == d.Want) {
				return nil
			}
		}
		return fmt.Errorf("answered %s %v", dns.RcodeToString[answer.Rcode], answer.Answer)
	}
}

// line is one kept connection.
type line struct {
	TCP
	conn net.Conn
	in   *bufio.Reader
	sent int
}

// ask sends a line and awaits it. A connection of the past that broke is made again for the next.
func (l *line) ask(ctx context.Context) error {
	if l.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Address)
		if err != nil {
			return err
		}
		l.conn, l.in = conn, bufio.NewReader(conn)
	}
	if err := l.exchange(); err != nil {
		l.conn.Close() // what broke has been said; nothing is left to lose
		l.conn = nil
		return fmt.Errorf("the connection broke at its line %d: %w", l.sent, err)
	}
	return nil
}

func (l *line) exchange() error {
	if err := l.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	l.sent++
	want := fmt.Sprintf("line %d\n", l.sent)
	if _, err := io.WriteString(l.conn, want); err != nil {
		return err
	}
	got, err := l.in.ReadString('\n')
	if err == nil && got != want {
		err = fmt.Errorf("%q came back as %q", want, got)
	}
	return err
}
