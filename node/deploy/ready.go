package deploy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// How readiness is asked where a probe does not say.
const (
	firstProbes   = 20 * time.Millisecond // who starts quickly is not kept for a whole interval
	probeInterval = 100 * time.Millisecond
	probeTimeout  = 2 * time.Second
	// tailLines is how many last log lines a refusal shows.
	tailLines = 20
)

// Await implements Participant.
func (l *Local) Await(ctx context.Context, spec runtime.Spec, probe *api.Probe) error {
	if spec.Job {
		return l.awaitJob(ctx, spec)
	}
	interval := probeInterval
	if probe != nil {
		interval = probe.Interval.D(probeInterval)
	}
	wait := min(interval, firstProbes)
	last := "it was not asked yet"
	for {
		seen, err := l.Runtime.Inspect(ctx, spec.ID)
		if api.CodeOf(err) == api.CodeRuntimeNotFound {
			return l.notReady(spec, "it is not on the machine")
		}
		if err == nil && seen.State == runtime.StateFailed {
			return l.notReady(spec, fmt.Sprintf("its process ended with status %d", seen.ExitCode))
		}
		if err == nil {
			err = l.probe(ctx, seen, probe)
		}
		if err == nil {
			return nil
		}
		if !over(ctx) {
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return l.notReady(spec, "the last answer to its probe: "+last)
		case <-time.After(wait):
			wait = min(interval, wait*3/2)
		}
	}
}

// over reports whether the time is up. A call that had its deadline from ctx can return just before ctx
// itself says so; its time-out is not the instance's answer.
func over(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(deadline)
}

// awaitJob waits for a one-shot run to end well.
func (l *Local) awaitJob(ctx context.Context, spec runtime.Spec) error {
	for {
		seen, err := l.Runtime.Inspect(ctx, spec.ID)
		if err == nil && (seen.State == runtime.StateStopped || seen.State == runtime.StateFailed) {
			if seen.State == runtime.StateStopped && seen.ExitCode == 0 {
				return nil
			}
			return l.withTail(api.Errorf(api.CodeJobFailed, "it ended with status %d", seen.ExitCode), spec)
		}
		if api.CodeOf(err) == api.CodeRuntimeNotFound {
			return l.withTail(api.Errorf(api.CodeJobFailed, "it is not on the machine"), spec)
		}
		if pause(ctx) != nil {
			return l.withTail(api.Errorf(api.CodeJobFailed, "it had not ended at its deadline"), spec)
		}
	}
}

func (l *Local) notReady(spec runtime.Spec, why string) error {
	return l.withTail(api.Errorf(api.CodeNotReady, "it did not become ready: %s", why), spec)
}

// withTail adds the instance's last log lines, which are usually the answer.
func (l *Local) withTail(e *api.Error, spec runtime.Spec) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var lines []string
	query := runtime.LogQuery{Instance: spec.ID, Lines: tailLines}
	err := l.Console.Logs(ctx, query, func(line runtime.LogLine) error {
		lines = append(lines, line.Message)
		return nil
	})
	if err != nil {
		lines = append(lines, "(its log could not be read: "+err.Error()+")")
	}
	e.Log = lines
	return e.About(spec.Namespace+"/"+spec.Slot).WithHint("its whole log: ployzctl logs %s/%s", spec.Namespace, spec.Service)
}

func (l *Local) steady() time.Duration {
	if l.Steady == 0 {
		return 300 * time.Millisecond
	}
	return l.Steady
}

// probe asks once.
func (l *Local) probe(ctx context.Context, seen runtime.Observation, probe *api.Probe) error {
	if seen.State != runtime.StateRunning {
		return fmt.Errorf("it is %s", seen.State)
	}
	if probe == nil {
		if running := time.Since(seen.Started); running < l.steady() {
			return fmt.Errorf("it has been running for %s", running.Round(time.Millisecond))
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probe.Timeout.D(probeTimeout))
	defer cancel()
	switch {
	case probe.HTTP != nil:
		return probeHTTP(ctx, seen.Addresses.V4, *probe.HTTP)
	case probe.TCP != nil:
		return probeTCP(ctx, seen.Addresses.V4, probe.TCP.Port)
	}
	return l.probeExec(ctx, seen.ID, probe.Exec)
}

func probeHTTP(ctx context.Context, addr netip.Addr, p api.HTTPProbe) error {
	url := "http://" + netip.AddrPortFrom(addr, p.Port).String() + p.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Host = p.Host
	// A client of its own: no connection to an instance is kept, and a redirect is an answer.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only for the message
	return fmt.Errorf("GET %s: %s %s", p.Path, resp.Status, strings.TrimSpace(string(text)))
}

func probeTCP(ctx context.Context, addr netip.Addr, port uint16) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (l *Local) probeExec(ctx context.Context, id string, command []string) error {
	var out strings.Builder
	code, err := l.Console.Exec(ctx, id, runtime.Command{Args: command, Stdout: &out, Stderr: &out})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s: status %d: %.200s", strings.Join(command, " "), code, strings.TrimSpace(out.String()))
	}
	return nil
}
