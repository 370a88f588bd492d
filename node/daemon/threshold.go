package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/ployz/ployz/node/api"
)

// Threshold is the surface for machines that hold a token: version, and the two operations of their admission.
// invited says whose token has the address that a request comes from; only the holder of its WireGuard key can
// send from there.
func (a *API) Threshold(invited func(netip.Addr) (token string, ok bool)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/version", a.always(func(*http.Request) (any, error) { return a.Version, nil }))
	mux.HandleFunc("POST /v1/plans", a.postPlan)
	mux.HandleFunc("POST /v1/operations", a.postOperation)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		token, ok := "", false
		if err == nil {
			token, ok = invited(from.Addr().Unmap())
		}
		if !ok {
			writeError(w, api.Errorf(api.CodePermission, "%s holds no open token", r.RemoteAddr).
				WithHint("make one on a member: ployzctl machine token"))
			return
		}
		if r.Method == http.MethodPost {
			if err := claimAddress(r, from.Addr()); err != nil {
				writeError(w, err)
				return
			}
		}
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, Peer{Name: "token " + token})))
	})
}

// maxAdmissionBytes is far above what a machine says of itself.
const maxAdmissionBytes = 64 << 10

// claimAddress lets only admissions through, and puts the address that proves the token into them.
func claimAddress(r *http.Request, from netip.Addr) error {
	var req api.OperationRequest
	if err := readJSON(io.LimitReader(r.Body, maxAdmissionBytes), &req); err != nil {
		return err
	}
	if req.Kind != api.KindMachineAdmit && req.Kind != api.KindMachineWithdraw {
		return api.Errorf(api.CodePermission, "a token is for joining, not for %q", req.Kind)
	}
	var admission api.AdmitRequest
	if err := readJSON(bytes.NewReader(req.Request), &admission); err != nil {
		return err
	}
	admission.Address = from
	var err error
	if req.Request, err = json.Marshal(admission); err != nil {
		return api.Errorf(api.CodeInternal, "encoding the admission: %w", err)
	}
	text, err := json.Marshal(req)
	if err != nil {
		return api.Errorf(api.CodeInternal, "encoding the admission: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// serveOn answers on a listener until ctx ends; it is for surfaces of the overlay.
func serveOn(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { server.Close() })
	err := server.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
