// Package metricstest reads metrics pages as Prometheus does, for the tests of the programs that serve them.
package metricstest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ployz/ployz/metrics"
)

// Scrape asks a page once and returns its families by name. It fails the test where the page tells something that
// the catalogue does not know of the program, or lacks a family, but for those in empty, which have no sample.
func Scrape(t testing.TB, p *metrics.Page, empty ...string) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: the page answers %d: %s", p.Program, w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatalf("%s: %v", p.Program, err)
	}
	known := metrics.Of(p.Program)
	for name := range families {
		if strings.HasPrefix(name, "ployz_") && !slices.ContainsFunc(known, func(f metrics.Family) bool { return f.Name == name }) {
			t.Errorf("%s tells %s, which the catalogue does not know of it", p.Program, name)
		}
	}
	for _, f := range known {
		if (families[f.Name] == nil) != slices.Contains(empty, f.Name) {
			t.Errorf("%s: %s is told: %v", p.Program, f.Name, families[f.Name] != nil)
		}
	}
	return families
}

// Value is that of the sample with the labels' values, in the catalogue's order. It fails the test where there is none.
func Value(t testing.TB, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range families[name].GetMetric() {
		var got []string
		for _, l := range m.GetLabel() {
			got = append(got, l.GetValue())
		}
		slices.Sort(got)
		if slices.Equal(got, slices.Sorted(slices.Values(labels))) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Errorf("there is no %s%q", name, labels)
	return -1
}
