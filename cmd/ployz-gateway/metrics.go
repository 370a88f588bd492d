package main

import (
	"fmt"
	"time"

	"github.com/ployz/ployz/metrics"
	"github.com/ployz/ployz/node/machine"
)

// place reads from the machine's identity where it is.
func (o edgeOptions) place() (metrics.Place, error) {
	self, err := machine.LoadIdentity(o.state)
	return metrics.Place{Overlay: self.Overlay, Cluster: self.Prefix}, err
}

// metrics is the page of this process.
func (s *routingSource) metrics() *metrics.Page {
	return &metrics.Page{Program: metrics.Gateway, Version: version, Log: s.log, Fill: s.tell}
}

// tell fills a sheet.
func (s *routingSource) tell(sheet *metrics.Sheet) {
	f := s.server.Figures()
	for class, n := range f.Answered {
		if class > 0 {
			sheet.Put("ployz_gateway_requests_total", float64(n), fmt.Sprintf("%dxx", class))
		}
	}
	for reason, n := range f.Refused {
		sheet.Put("ployz_gateway_refusals_total", float64(n), reason)
	}
	for state, n := range map[string]int{"ready": f.ReadyUpstreams, "failing": f.FailingUpstreams, "draining": f.DrainingUpstreams} {
		sheet.Put("ployz_gateway_upstreams", float64(n), state)
	}
	sheet.Distribution("ployz_gateway_request_seconds", f.Took.Count, f.Took.Sum.Seconds(), f.Took.AtMost)
	for name, value := range map[string]float64{
		"ployz_gateway_in_flight":                       float64(f.InFlight),
		"ployz_gateway_held":                            float64(f.Held),
		"ployz_gateway_held_total":                      float64(f.HeldEver),
		"ployz_gateway_retries_total":                   float64(f.Retries),
		"ployz_gateway_upstream_connect_failures_total": float64(f.ConnectFailures),
		"ployz_gateway_connections":                     float64(f.Connections),
		"ployz_gateway_tcp_connections_total":           float64(f.TCPConnections),
		"ployz_gateway_tls_handshake_failures_total":    float64(f.HandshakeFailures),
		"ployz_gateway_received_bytes_total":            float64(f.ReceivedBytes),
		"ployz_gateway_sent_bytes_total":                float64(f.SentBytes),
		"ployz_gateway_predecessors":                    float64(f.Predecessors),
	} {
		sheet.Put(name, value)
	}
	r := s.report()
	sheet.Put("ployz_gateway_view_sequence", float64(r.Revision))
	sheet.Put("ployz_gateway_view_age_seconds", time.Duration(r.Age).Seconds())
	sheet.Flag("ployz_gateway_view_uncertain", r.Uncertain)
	sheet.Put("ployz_gateway_view_rejected", float64(len(r.Rejected)))
}
