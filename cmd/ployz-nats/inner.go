package main

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// inner is a key for this process's own client of its own server. It is made at start, is in
// memory only, and comes in over an in-process connection.
type inner struct {
	pair    nkeys.KeyPair
	public  string
	account string
}

func newInner(account string) (*inner, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	public, err := pair.PublicKey()
	return &inner{pair, public, account}, err
}

// admit adds the key's user to the options; a reload must do so again, or the client is dropped.
func (k *inner) admit(o *server.Options) error {
	for _, a := range o.Accounts {
		if a.GetName() == k.account {
			o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: k.public, Account: a})
			return nil
		}
	}
	return refuse("there is no account %s", k.account)
}

// connect takes the inbox prefix under which answers may come: a leaf's are bounded by the core.
func (k *inner) connect(s *server.Server, inbox string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Nkey(k.public, k.pair.Sign), nats.CustomInboxPrefix(inbox),
		nats.Name("ployz-nats"), nats.Timeout(stepWithin), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("the server's own client: %w", err)
	}
	return nc, nil
}
