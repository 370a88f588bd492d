package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/runtime"
)

// fetchAttempts is how often a blob's request may fail in a row without one byte of progress.
const fetchAttempts = 4

// fetch makes sure that the blob is in the store. Whoever comes second, in this program or another,
// waits and finds it there.
func (c connection) fetch(ctx context.Context, d v1.Descriptor, progress runtime.Progress) error {
	unlock, err := c.store.lock(ctx, stripe(d.Digest), true)
	if err != nil {
		return err
	}
	defer unlock()
	if c.store.hasBlob(d.Digest, d.Size) {
		progress(string(d.Digest), d.Size, d.Size)
		return nil
	}
	p, err := c.store.newPartial(d)
	if err != nil {
		return err
	}
	if err := c.download(ctx, p, progress); err != nil {
		p.discard()
		return err
	}
	return p.commit()
}

// download tries until the blob is whole, continuing where the last try broke off.
func (c connection) download(ctx context.Context, p *partial, progress runtime.Progress) error {
	delay := c.store.opts.RetryDelay
	for failures := 0; ; {
		if p.size > 0 && p.size == p.want.Size {
			return nil
		}
		before := p.size
		err := c.downloadOnce(ctx, p, progress)
		if err == nil || ctx.Err() != nil || !worthRetrying(err) {
			return c.downloadError(ctx, err)
		}
		if failures++; p.size > before {
			failures, delay = 0, c.store.opts.RetryDelay
		}
		if failures >= fetchAttempts {
			return c.downloadError(ctx, err)
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, 10*time.Second)
	}
}

func (c connection) downloadError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.failed(err)
}

// worthRetrying leaves alone what another try cannot mend: our own refusals, and clear answers.
func worthRetrying(err error) bool {
	var typed *api.Error
	if errors.As(err, &typed) || errors.Is(err, errPlainHTTP) {
		return false
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return true
	}
	return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
}

// downloadOnce asks for what is missing and appends what comes.
func (c connection) downloadOnce(ctx context.Context, p *partial, progress runtime.Progress) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(c.store.opts.StallTimeout, func() { cancel(errStalled) })
	defer watch.Stop()
	err := c.request(ctx, p, progress, watch)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w for %s", errStalled, c.store.opts.StallTimeout)
	}
	return err
}

var errStalled = errors.New("nothing arrived")

func (c connection) request(ctx context.Context, p *partial, progress runtime.Progress, watch *time.Timer) error {
	opened, err := c.blob(ctx, p)
	if err != nil {
		return err
	}
	defer opened.Close()
	body := &meter{r: opened, p: p, progress: progress, alive: func() { watch.Reset(c.store.opts.StallTimeout) }}
	if _, err := io.Copy(p, body); err != nil {
		return err
	}
	return whole(p)
}

// whole tells an answer that ended early without saying so, which the next try continues.
func whole(p *partial) error {
	if p.size < p.want.Size {
		return fmt.Errorf("the answer ended after %d of %d bytes: %w", p.size, p.want.Size, io.ErrUnexpectedEOF)
	}
	return nil
}

// accept decides whether the answer continues the blob or starts it over.
func accept(resp *http.Response, p *partial) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", p.size)) {
			return nil
		}
		if err := p.reset(); err != nil {
			return err
		}
		return fmt.Errorf("asked for bytes from %d on, got %q", p.size, resp.Header.Get("Content-Range"))
	case http.StatusOK:
		return p.reset()
	case http.StatusRequestedRangeNotSatisfiable:
		if err := p.reset(); err != nil {
			return err
		}
		return errors.New("the registry cannot continue the blob")
	default:
		return transport.CheckError(resp, http.StatusOK)
	}
}

// meter reports progress and life while a body is read.
type meter struct {
	r        io.Reader
	p        *partial
	progress runtime.Progress
	alive    func()
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.alive()
	m.progress(string(m.p.want.Digest), m.p.size+int64(n), m.p.want.Size)
	return n, err
}
