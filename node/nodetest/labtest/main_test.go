package labtest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/ployz/ployz/cmd/ployzctl/dev"
)

// The test binary is also the programs that tests need elsewhere: a web server to run in a
// machine, and an `up` to kill.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("LABTEST_SERVE") != "":
		serve(os.Getenv("LABTEST_SERVE"))
	case os.Getenv("LABTEST_UP") != "":
		up(os.Getenv("LABTEST_UP"))
	}
	os.Exit(m.Run())
}

func serve(address string) {
	name, err := os.Hostname()
	if err == nil {
		err = http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s to %s", name, r.RemoteAddr)
		}))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func up(name string) {
	if _, err := dev.Up(context.Background(), dev.Options{Name: name, Machines: 2}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
