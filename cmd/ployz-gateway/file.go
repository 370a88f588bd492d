package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/google/renameio/v2"

	"github.com/ployz/ployz/datapath/gateway"
)

// fileSource serves a table from a file. It is for tests and for machines without a cluster.
type fileSource struct {
	path   string
	server *gateway.Server
}

// Begin applies the file.
func (f *fileSource) Begin(context.Context) error {
	t, err := gateway.ReadTable(f.path)
	if err != nil {
		return err
	}
	return f.apply(t)
}

func (f *fileSource) apply(t gateway.Table) error {
	certs, err := gateway.LoadCertificates(t.Certificates)
	if err != nil {
		return err
	}
	if err := f.server.Apply(t); err != nil {
		return err
	}
	f.server.SetCertificates(certs)
	return nil
}

// Routes adds POST /table, which applies a table and then writes it to the file.
func (f *fileSource) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /table", func(w http.ResponseWriter, r *http.Request) {
		if err := f.replace(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func (f *fileSource) replace(body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var t gateway.Table
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	if err := f.apply(t); err != nil {
		return err
	}
	return renameio.WriteFile(f.path, text, 0o640)
}
