package routing_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/routing"
)

// TestBadEvents: what cannot be served is refused as a whole, with the first thing that is wrong.
func TestBadEvents(t *testing.T) {
	const instance = `{"id":"i1","v4":"10.101.1.7","v6":"fd00::7"}`
	good := `{"schema":1,"namespace":"shop","services":{"web":{"instances":[` + instance + `],"routes":[{"host":"shop.test","port":80}]}}}`
	if _, err := routing.Decode("shop", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for says, edit := range map[string][2]string{
		"is not JSON":                            {good, good[:40]},
		"has schema 9":                           {`"schema":1`, `"schema":9`},
		`names namespace "blog"`:                 {`"namespace":"shop"`, `"namespace":"blog"`},
		"instance i1 of web has addresses":       {`"v4":"10.101.1.7"`, `"v4":"fd00::8"`},
		"either a host or a TCP port":            {`"host":"shop.test"`, `"host":"shop.test","tcp":5432`},
		"needs a port":                           {`"port":80`, `"port":0`},
		`path "shop" of web does not begin with`: {`"port":80`, `"port":80,"path":"shop"`},
	} {
		text := strings.Replace(good, edit[0], edit[1], 1)
		if text == good {
			t.Fatalf("%s: nothing was replaced", says)
		}
		_, err := routing.Decode("shop", []byte(text))
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.CodeRoutingBadEvent || e.Subject != "shop" || !strings.Contains(e.Message, says) {
			t.Errorf("got %v, wanted it to say %s", err, says)
		}
	}
}
