package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ployz/ployz/node/nodetest/load"
)

// serve is an application. It listens on port 8080 for requests and on 9000 for lines, which it
// sends back, and is told by its environment what else to do:
//
//	VERSION          is what / answers
//	READY=never      makes /healthz answer 503; a duration makes it do so for that long
//	TURNS=PATH:PATH  writes lines without end, one to each of two files in turn
//	PEER=HOST:PORT   keeps a connection to another instance's echo; /peer answers its counts
//	BEHIND=HOST:PORT makes /behind answer what another says, found by its name anew for each request
func serve() error {
	fmt.Println("serving version", os.Getenv("VERSION"))
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	lines, err := net.Listen("tcp", ":9000")
	if err != nil {
		return err
	}
	go echo(lines)
	if one, other, given := strings.Cut(os.Getenv("TURNS"), ":"); given {
		go func() { fmt.Println("turns:", takeTurns(one, other)) }()
	}
	server := &http.Server{Addr: ":8080", Handler: pages(stop)}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-stop.Done():
	}
	patience, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	return server.Shutdown(patience)
}

func pages(ctx context.Context) http.Handler {
	begin := time.Now()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		name, err := os.Hostname()
		fmt.Fprintf(w, "version %s on %s %v for %s%s\n", os.Getenv("VERSION"), name, err, r.Host, r.URL.Path)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready(os.Getenv("READY"), time.Since(begin)) {
			fmt.Println("healthz: not ready, and that is what READY asked for")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.URL.Query().Get("text")) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(r.URL.Query().Get("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Write(text)
	})
	mux.HandleFunc("/append", func(w http.ResponseWriter, r *http.Request) {
		if err := appendRow(r.URL.Query().Get("path"), r.URL.Query().Get("row")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	if peer := os.Getenv("PEER"); peer != "" {
		mux.Handle("/peer", talk(ctx, peer))
	}
	if behind := os.Getenv("BEHIND"); behind != "" {
		mux.Handle("/behind", inFrontOf(behind))
	}
	return mux
}

// appendRow adds a line to a file. Once it returns the line is on the disk, as a database's acknowledged row is.
func appendRow(path, row string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, row)
	return errors.Join(err, f.Sync(), f.Close())
}

// takeTurns writes the same lines to two files, each to the one before the other. It leaves the disk some time for others.
func takeTurns(paths ...string) error {
	var files []*os.File
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
	}
	for {
		for _, f := range files {
			if _, err := f.WriteString("x\n"); err != nil {
				return err
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func ready(when string, age time.Duration) bool {
	wait, err := time.ParseDuration(when)
	return when == "" || err == nil && age > wait
}

// talk keeps a connection to a peer until ctx ends and tells its counts.
func talk(ctx context.Context, peer string) http.Handler {
	watch := load.NewWatch(load.TCP{Name: "workload to workload", Address: peer, Every: 20 * time.Millisecond})
	go watch.Run(ctx)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(watch.Report()); err != nil {
			fmt.Println("peer:", err)
		}
	})
}

// inFrontOf asks another once for each request, over a connection of its own. It does not try again.
func inFrontOf(another string) http.Handler {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		resp, err := client.Get("http://" + another + "/")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body) // what is missing, the asker misses
	})
}

// echo sends every byte back.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Println("echo:", err)
			return
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn) // the peer's end is the end
		}()
	}
}
