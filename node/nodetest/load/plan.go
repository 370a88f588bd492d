package load

import "time"

// Patience is how long an answer may take. It is longer than any retry of a server's or of a
// kernel's, so that it ends only what would never have been answered.
const Patience = 10 * time.Second

// Plan is what to ask for. Every load of it runs at the same time.
type Plan struct {
	HTTP []HTTP
	DNS  []DNS
	TCP  []TCP
}

// HTTP asks for a page again and again. An answer is right with status 200 and Want in its body.
type HTTP struct {
	Name string
	URL  string
	// Host is the name that the gateway routes by; "" is the URL's own.
	Host string
	Want string
	// Rate is in requests a second.
	Rate float64
	// Fresh makes a connection for every request; else connections are kept and used again.
	Fresh bool
	// Patience is how long an answer may take where that is longer than usual, such as of a gateway that holds requests;
	// 0 means Patience.
	Patience time.Duration
}

// DNS asks a resolver for an address record. An answer is right with Want among the addresses, or
// any address where Want is "".
type DNS struct {
	Name string
	// Server is address and port; Network is "udp" (also for "") or "tcp".
	Server, Network string
	Question, Want  string
	Rate            float64
}

// TCP keeps one connection to an echo server, sends it a line at every tick and waits for it to
// come back. A connection that breaks is a failure, and is made again.
type TCP struct {
	Name    string
	Address string
	Every   time.Duration
}
