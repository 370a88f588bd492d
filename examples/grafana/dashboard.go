package main

import (
	"encoding/json"
	"strings"
)

// file is the dashboard, in this folder.
const file = "ployz.json"

// object is a JSON object; its members are written in the order of their names.
type object map[string]any

// width is a panel's in the grid's 24 columns; height in its rows.
const (
	width     = 8
	height    = 7
	statWidth = 4
	columns   = 24
)

// dashboard is the file's text.
func dashboard() ([]byte, error) {
	d := object{
		"uid": "ployz", "title": "Ployz", "tags": []string{"ployz"}, "schemaVersion": 39, "version": 1,
		"editable": true, "refresh": "30s", "time": object{"from": "now-3h", "to": "now"}, "timezone": "browser",
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
			{
				"name": "machine", "label": "Machine", "type": "query", "datasource": source(),
				"query":      object{"query": "label_values(ployz_build_info, machine)", "refId": "machine"},
				"definition": "label_values(ployz_build_info, machine)",
				"includeAll": true, "multi": true, "allValue": ".*", "refresh": 2, "sort": 1,
				"current": object{"text": "All", "value": "$__all"},
			},
		}},
		"annotations": object{"list": []object{}},
		"panels":      lay(rows()),
	}
	text, err := json.MarshalIndent(d, "", "  ")
	return append(text, '\n'), err
}

func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// lay gives panels their places: a row's panels from left to right, then on the next line.
func lay(rows []row) []object {
	var out []object
	id, y := 0, 0
	next := func(o object, x, w, h int) {
		id++
		o["id"], o["gridPos"] = id, object{"x": x, "y": y, "w": w, "h": h}
		out = append(out, o)
	}
	for _, r := range rows {
		next(object{"type": "row", "title": r.title, "collapsed": false, "panels": []object{}}, 0, columns, 1)
		y++
		x, tall := 0, 0
		for _, p := range r.panels {
			w, h := p.size()
			if x+w > columns {
				x, y = 0, y+tall
			}
			next(p.object(), x, w, h)
			x, tall = x+w, h
		}
		y += tall
	}
	return out
}

func (p panel) size() (w, h int) {
	switch p.kind {
	case stat:
		return statWidth, 4
	case table:
		return 2 * width, height
	}
	return width, height
}

// object is the panel in Grafana's words.
func (p panel) object() object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source(), "expr": onMachines(q.expr), "legendFormat": q.legend,
			"instant": p.kind != graph, "range": p.kind == graph, "format": p.format(),
		})
	}
	o := object{
		"type": string(p.kind), "title": p.title, "description": p.help, "datasource": source(), "targets": targets,
		"fieldConfig": object{"defaults": p.defaults(), "overrides": []object{}},
	}
	switch p.kind {
	case stat:
		o["options"] = object{"colorMode": "background", "reduceOptions": object{"calcs": []string{"lastNotNull"}}}
	case graph:
		o["options"] = object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	case table:
		o["transformations"] = []object{{"id": "organize", "options": object{"excludeByName": object{"Time": true, "Value": true, "__name__": true}}}}
	}
	return o
}

func (p panel) format() string {
	if p.kind == table {
		return "table"
	}
	return "time_series"
}

// defaults are a panel's unit and colours. A stat is green, or red from its threshold on, or up to it.
func (p panel) defaults() object {
	d := object{"unit": p.unit, "min": 0}
	first, second := "green", "green"
	switch {
	case p.badFrom > 0:
		second = "red"
	case p.goodFrom > 0:
		first = "red"
	}
	steps := []object{{"color": first, "value": nil}}
	if at := max(p.badFrom, p.goodFrom); at > 0 {
		steps = append(steps, object{"color": second, "value": at})
	}
	d["thresholds"] = object{"mode": "absolute", "steps": steps}
	if p.kind != graph {
		return d
	}
	d["color"] = object{"mode": "palette-classic"}
	custom := object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never"}
	if p.stacked {
		custom["stacking"], custom["fillOpacity"] = object{"mode": "normal"}, 40
	}
	d["custom"] = custom
	return d
}

// onMachines bounds every figure of an expression to the machines that were chosen.
func onMachines(expr string) string {
	return strings.NewReplacer("{}", `{machine=~"$machine"}`, "{,", `{machine=~"$machine",`).Replace(expr)
}
