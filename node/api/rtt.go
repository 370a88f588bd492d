package api

import "time"

// RoundTrips is the answer of GET /v1/machines/rtt: what machines measured a moment ago. An observation, never
// stored.
type RoundTrips struct {
	// Trips are ordered by From and then To. Each way is measured by itself: endpoints and handshakes are one
	// machine's own.
	Trips []RoundTrip `json:"trips"`
	// Unasked are the machines whose own measurements are missing.
	Unasked []Unasked `json:"unasked,omitempty"`
}

// RoundTrip is what one machine measured of another, over the overlay.
type RoundTrip struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Via is the machine that relays between the two; "" where they talk directly.
	Via string `json:"via,omitempty"`
	// Sent counts echo requests, Received their answers. Min, Median and Max are of those; 0 where there were none.
	Sent     int      `json:"sent"`
	Received int      `json:"received"`
	Min      Duration `json:"min,omitempty"`
	Median   Duration `json:"median,omitempty"`
	Max      Duration `json:"max,omitempty"`
	// Endpoint is where From sends what is for To, or for Via; Handshake is the last one there.
	Endpoint  string    `json:"endpoint,omitempty"`
	Handshake time.Time `json:"handshake,omitzero"`
	// Error is why there was no answer at all, as far as From can tell: mesh.no-answer.
	Error *Error `json:"error,omitempty"`
}

// Unasked is a machine that could not be asked, with the reason.
type Unasked struct {
	Machine string `json:"machine"`
	Error   *Error `json:"error"`
}
