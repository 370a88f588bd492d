package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"money": func(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) },
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
}).Parse(pageText))

// pageView is all that the page shows, read for this one request.
type pageView struct {
	Title, Version, Instance string
	Summary                  summary
	Products                 []product
	Orders                   []order
}

func (s *shop) page(w http.ResponseWriter, r *http.Request) {
	view := pageView{Title: s.cfg.Title, Version: version, Instance: s.instance}
	var err error
	if view.Summary, err = sumUp(r.Context(), s.db); err == nil {
		view.Products, err = allProducts(r.Context(), s.db)
	}
	if err == nil {
		view.Orders, err = latestOrders(r.Context(), s.db, 20)
	}
	if err != nil {
		s.answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pageTemplate.Execute(w, view); err != nil {
		slog.Warn("page not written", "error", err)
	}
}
