package main

import (
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
	return &metrics.Page{Program: metrics.Resolver, Version: version, Log: s.log, Fill: s.tell}
}

// tell fills a sheet.
func (s *routingSource) tell(sheet *metrics.Sheet) {
	f := s.server.Figures()
	for code, n := range f.Replies {
		sheet.Put("ployz_dns_replies_total", float64(n), code)
	}
	for outcome, n := range map[string]int64{
		"local": f.Local, "forwarded": f.Forwarded, "failed": f.Failed, "refused": f.Refused,
		"limited": f.Limited, "malformed": f.Malformed, "dropped": f.Dropped, "unsent": f.Unsent,
	} {
		sheet.Put("ployz_dns_queries_total", float64(n), outcome)
	}
	sheet.Distribution("ployz_dns_forward_seconds", f.Forward.Count, f.Forward.Sum.Seconds(), f.Forward.AtMost)
	for result, n := range map[string]int64{"hit": f.Cache.Hits, "miss": f.Cache.Misses, "stale": f.Cache.Stale} {
		sheet.Put("ployz_dns_cache_lookups_total", float64(n), result)
	}
	sheet.Put("ployz_dns_cache_entries", float64(f.Cache.Entries))
	sheet.Put("ployz_dns_cache_bytes", float64(f.Cache.Bytes))
	r := s.report()
	sheet.Put("ployz_dns_view_sequence", float64(r.Revision))
	sheet.Put("ployz_dns_view_age_seconds", time.Duration(r.Age).Seconds())
	sheet.Flag("ployz_dns_view_uncertain", r.Uncertain)
	sheet.Put("ployz_dns_view_rejected", float64(len(r.Rejected)))
}
