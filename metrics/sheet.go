package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Sheet takes the figures of one scrape.
type Sheet struct {
	described map[string]described
	out       chan<- prometheus.Metric
}

type described struct {
	Family
	desc *prometheus.Desc
}

// Put tells a counter's or gauge's value. labels are the values of the family's labels, in its order. A name
// that is not in the catalogue, or too few labels, fails the scrape.
func (s *Sheet) Put(name string, value float64, labels ...string) {
	d, ok := s.described[name]
	if !ok || d.Kind == Histogram {
		s.refuse(name)
		return
	}
	kind := prometheus.GaugeValue
	if d.Kind == Counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(d.desc, kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc, err)
	}
	s.out <- m
}

// Flag tells a gauge that is 1 for true and 0 for false.
func (s *Sheet) Flag(name string, value bool, labels ...string) {
	if value {
		s.Put(name, 1, labels...)
		return
	}
	s.Put(name, 0, labels...)
}

// Distribution tells a histogram: how many were at most as long as each bound, in seconds, how many
// there were, and their sum in seconds.
func (s *Sheet) Distribution(name string, count uint64, sum float64, atMost map[float64]uint64) {
	d, ok := s.described[name]
	if !ok || d.Kind != Histogram {
		s.refuse(name)
		return
	}
	m, err := prometheus.NewConstHistogram(d.desc, count, sum, atMost)
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc, err)
	}
	s.out <- m
}

func (s *Sheet) refuse(name string) {
	err := fmt.Errorf("metrics: %s is not in the catalogue in that shape", name)
	s.out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
}

// collector fills a sheet for each scrape.
type collector struct {
	described map[string]described
	fill      func(*Sheet)
}

func newCollector(p Program, fill func(*Sheet)) *collector {
	c := &collector{described: map[string]described{}, fill: fill}
	for _, f := range Of(p) {
		c.described[f.Name] = described{f, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.described {
		out <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	c.fill(&Sheet{described: c.described, out: out})
}
