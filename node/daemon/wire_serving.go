package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy"
	"github.com/ployz/ployz/node/store"
)

// askTimeout bounds one question to a serving process on this machine.
const askTimeout = 2 * time.Second

// serving asks this machine's gateway and resolver what they serve of a namespace.
func (d *Daemon) serving(ctx context.Context, namespace string) ([]deploy.Consumer, error) {
	var consumers []deploy.Consumer
	for _, name := range []string{"gateway", "dns"} {
		var applied struct {
			Revision store.Revision `json:"revision"`
			InFlight map[string]int `json:"inFlight"`
		}
		err := d.ask(ctx, name, "/applied?namespace="+url.QueryEscape(namespace), &applied)
		consumers = append(consumers, deploy.Consumer{Name: name, Revision: applied.Revision, InFlight: applied.InFlight, Err: err})
	}
	return consumers, nil
}

// ask puts one question to a serving process over its status socket.
func (d *Daemon) ask(ctx context.Context, name, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	socket := filepath.Join(d.Run, name+".sock")
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+path, nil)
	if err != nil {
		return silent(name, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return silent(name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		return api.Errorf(api.CodeServingSilent, "it answers %s: %.200s", resp.Status, text).About(name)
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return silent(name, err)
	}
	return nil
}

func silent(name string, err error) error {
	return api.Errorf(api.CodeServingSilent, "it does not answer on its status socket: %w", err).About(name).Again().
		WithHint("systemctl status ployz-%s; journalctl -u ployz-%s", name, name)
}
