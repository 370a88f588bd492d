package main

type kind string

const (
	stat  kind = "stat"
	graph kind = "timeseries"
	table kind = "table"
)

type row struct {
	title  string
	panels []panel
}

// panel is one picture.
type panel struct {
	kind        kind
	title, help string
	unit        string // Grafana's name of it
	queries     []query
	// A stat is red from badFrom on, or below goodFrom; 0 is neither.
	badFrom, goodFrom float64
	stacked           bool
}

// query is an expression and what its lines are called. Figures are written with {} or {,label="…"} behind them: the
// chosen machines are put in.
type query struct{ expr, legend string }

func one(expr, legend string) []query { return []query{{expr, legend}} }

const perMachine = "{{machine}}"

func rows() []row {
	return []row{overview(), gateway(), resolver(), store(), controlPlane(), volumes(), overlay(), programs()}
}

func overview() row {
	return row{"Overview", []panel{
		{kind: stat, title: "Programs that do not answer", badFrom: 1, queries: one(`count(up{job="ployz",machine=~"$machine"} == 0) or vector(0)`, ""), help: "Of those that Prometheus was told of. A machine whose ployzd is stopped counts one, and serves."},
		{kind: stat, title: "Views that may be old", badFrom: 1, queries: one(`sum(ployz_gateway_view_uncertain{}) + sum(ployz_dns_view_uncertain{})`, ""), help: "Gateways and resolvers that serve, but perhaps not the newest commit."},
		{kind: stat, title: "Store: cores without a leader", badFrom: 1, queries: one(`count(ployz_nats_leader_known{} == 0) or vector(0)`, ""), help: "Nothing can be committed where most cores know none."},
		{kind: stat, title: "Operations stranded or interrupted, 24 h", badFrom: 1, queries: one(`sum(increase(ployz_operations_total{,outcome=~"stranded|interrupted|uncertain"}[24h])) or vector(0)`, ""), help: "See: ployzctl operation ls"},
		{kind: stat, title: "Instances that run", queries: one(`sum(ployz_workloads{,state="running"})`, "")},
		{kind: stat, title: "Instances that failed", badFrom: 1, queries: one(`sum(ployz_workloads{,state="failed"})`, "")},
	}}
}

func gateway() row {
	return row{"Gateway", []panel{
		{kind: graph, title: "Requests", unit: "reqps", stacked: true, queries: one(`sum by (class) (rate(ployz_gateway_requests_total{}[$__rate_interval]))`, "{{class}}")},
		{kind: graph, title: "Time to answer", unit: "s", queries: []query{
			{`histogram_quantile(0.5, sum by (le) (rate(ployz_gateway_request_seconds_bucket{}[$__rate_interval])))`, "median"},
			{`histogram_quantile(0.99, sum by (le) (rate(ployz_gateway_request_seconds_bucket{}[$__rate_interval])))`, "99%"},
			{`sum(rate(ployz_gateway_request_seconds_sum{}[$__rate_interval])) / sum(rate(ployz_gateway_request_seconds_count{}[$__rate_interval]))`, "mean"},
		}},
		{kind: graph, title: "Answered by the gateway itself", unit: "reqps", stacked: true, queries: one(`sum by (reason) (rate(ployz_gateway_refusals_total{}[$__rate_interval])) > 0`, "{{reason}}")},
		{kind: graph, title: "Open", queries: []query{
			{`sum(ployz_gateway_in_flight{})`, "requests and TCP connections at instances"},
			{`sum(ployz_gateway_held{})`, "wait for a service on hold"},
			{`sum(ployz_gateway_connections{})`, "connections of clients"},
			{`sum(ployz_gateway_predecessors{})`, "gateways that drain"},
		}},
		{kind: graph, title: "Held for a service on hold", unit: "reqps", queries: []query{
			{`sum(rate(ployz_gateway_held_total{}[$__rate_interval]))`, "waited"},
			{`sum(rate(ployz_gateway_refusals_total{machine=~"$machine",reason=~"(tcp-)?(held-too-long|too-many-held)"}[$__rate_interval]))`, "in vain"},
		}},
		{kind: graph, title: "Bytes", unit: "Bps", queries: []query{
			{`sum(rate(ployz_gateway_received_bytes_total{}[$__rate_interval]))`, "from clients"},
			{`sum(rate(ployz_gateway_sent_bytes_total{}[$__rate_interval]))`, "to clients"},
		}},
		{kind: graph, title: "Trouble with instances and clients", unit: "ops", queries: []query{
			{`sum(rate(ployz_gateway_upstream_connect_failures_total{}[$__rate_interval]))`, "connecting failed"},
			{`sum(rate(ployz_gateway_retries_total{}[$__rate_interval]))`, "tried elsewhere"},
			{`sum(rate(ployz_gateway_tls_handshake_failures_total{}[$__rate_interval]))`, "TLS handshake failed"},
		}},
		{kind: graph, title: "Instances that routes name", queries: one(`sum by (machine, state) (ployz_gateway_upstreams{})`, "{{machine}} {{state}}")},
		{kind: graph, title: "TCP routes: new connections", unit: "cps", queries: one(`sum by (machine) (rate(ployz_gateway_tcp_connections_total{}[$__rate_interval]))`, perMachine)},
		{kind: graph, title: "Routing view", help: "Its revision is the same on all machines within a second of a commit.", queries: []query{
			{`ployz_gateway_view_sequence{}`, "{{machine}} revision"}, {`ployz_gateway_view_age_seconds{}`, "{{machine}} seconds old"},
			{`ployz_gateway_view_rejected{}`, "{{machine}} namespaces rejected"},
		}},
	}}
}

func resolver() row {
	return row{"Resolver", []panel{
		{kind: graph, title: "Replies", unit: "reqps", stacked: true, queries: one(`sum by (rcode) (rate(ployz_dns_replies_total{}[$__rate_interval])) > 0`, "{{rcode}}")},
		{kind: graph, title: "What became of queries", unit: "reqps", queries: one(`sum by (outcome) (rate(ployz_dns_queries_total{}[$__rate_interval]))`, "{{outcome}}")},
		{kind: graph, title: "Time that forwarding took", unit: "s", queries: []query{
			{`histogram_quantile(0.5, sum by (le) (rate(ployz_dns_forward_seconds_bucket{}[$__rate_interval])))`, "median"},
			{`histogram_quantile(0.99, sum by (le) (rate(ployz_dns_forward_seconds_bucket{}[$__rate_interval])))`, "99%"},
		}},
		{kind: graph, title: "Memory of upstreams' answers", queries: []query{
			{`sum by (result) (rate(ployz_dns_cache_lookups_total{}[$__rate_interval]))`, "{{result}} per second"},
			{`sum(ployz_dns_cache_entries{})`, "entries"},
		}},
		{kind: graph, title: "Its size", unit: "bytes", queries: one(`ployz_dns_cache_bytes{}`, perMachine)},
		{kind: graph, title: "Routing view", queries: []query{
			{`ployz_dns_view_sequence{}`, "{{machine}} revision"}, {`ployz_dns_view_age_seconds{}`, "{{machine}} seconds old"},
			{`ployz_dns_view_rejected{}`, "{{machine}} namespaces rejected"},
		}},
	}}
}

func store() row {
	return row{"Store", []panel{
		{kind: graph, title: "Leader", help: "One line at 1: the machine whose core leads.", queries: one(`ployz_nats_leader{}`, perMachine)},
		{kind: graph, title: "Voters", queries: []query{{`max(ployz_nats_voters{})`, "of the store"}, {`max(ployz_nats_voters_seen{})`, "heard by the leader"}}},
		{kind: graph, title: "Mirrors: behind their origin", queries: one(`ployz_nats_mirror_lag{}`, "{{machine}} {{stream}}")},
		{kind: graph, title: "Mirrors: silence of their origin", unit: "s", queries: one(`ployz_nats_mirror_active_seconds{}`, "{{machine}} {{stream}}")},
		{kind: graph, title: "Messages", queries: one(`ployz_nats_stream_messages{}`, "{{machine}} {{role}} {{stream}}"), help: "A cluster in which nothing is deployed does not grow."},
		{kind: graph, title: "Last sequences", queries: []query{{`ployz_nats_stream_last_sequence{}`, "{{machine}} {{role}} {{stream}}"}, {`ployz_nats_stream_leader{} == 1`, "{{machine}} leads {{stream}}"}}},
		{kind: graph, title: "Disk", unit: "bytes", queries: []query{{`ployz_nats_storage_bytes{}`, "{{machine}} {{role}}"}, {`ployz_nats_stream_bytes{}`, "{{machine}} {{role}} {{stream}}"}}},
		{kind: graph, title: "Memory", unit: "bytes", queries: one(`ployz_nats_memory_bytes{}`, "{{machine}} {{role}}")},
		{kind: graph, title: "Connections", queries: []query{
			{`ployz_nats_connections{}`, "{{machine}} {{role}} clients"}, {`ployz_nats_leafs{}`, "{{machine}} {{role}} leafs"},
			{`increase(ployz_nats_slow_consumers_total{}[1h])`, "{{machine}} {{role}} too slow, 1 h"},
		}},
		{kind: graph, title: "Configuration", queries: []query{
			{`increase(ployz_nats_reloads_total{}[1h])`, "{{machine}} {{role}} {{result}}, 1 h"}, {`count by (role) (count by (role, digest) (ployz_nats_config_info{}))`, "{{role}}: different ones"},
		}},
		{kind: graph, title: "As the daemons see it", queries: []query{
			{`ployz_store_revision{}`, "{{machine}} revision"}, {`ployz_store_age_seconds{}`, "{{machine}} seconds old"},
			{`ployz_store_answers{} == 0`, "{{machine}} does not answer"}, {`ployz_store_fresh{} == 0`, "{{machine}} may be old"},
		}},
	}}
}

func controlPlane() row {
	return row{"Control plane", []panel{
		{kind: graph, title: "Operations, per hour", stacked: true, queries: one(`sum by (kind, outcome) (increase(ployz_operations_total{}[1h])) > 0`, "{{kind}} {{outcome}}")},
		{kind: graph, title: "Operations under way", queries: one(`ployz_operations_running{}`, perMachine)},
		{kind: graph, title: "Members and voters", queries: []query{{`max(ployz_cluster_members{})`, "members"}, {`max(ployz_cluster_voters{})`, "voters"}}},
		{kind: graph, title: "Instances", stacked: true, queries: one(`sum by (machine, state) (ployz_workloads{}) > 0`, "{{machine}} {{state}}")},
		{kind: graph, title: "Instances that are not as recorded", queries: one(`ployz_workloads_drifted{}`, perMachine)},
		{kind: graph, title: "Adoption at the daemon's start", queries: []query{{`ployz_adoption_seconds{}`, "{{machine}} seconds"}, {`ployz_adopted{,verdict!="adopt"}`, "{{machine}} {{verdict}}"}}},
	}}
}

func volumes() row {
	return row{"Volumes", []panel{
		{kind: graph, title: "Pools that do not answer", help: "One line for each machine; also one without a pool counts.", queries: one(`ployz_pool_up{} == 0`, perMachine)},
		{kind: graph, title: "Free in the pools", unit: "bytes", queries: []query{{`ployz_pool_free_bytes{}`, "{{machine}} {{backend}} free"}, {`ployz_pool_size_bytes{}`, "{{machine}} {{backend}} in all"}}},
		{kind: graph, title: "Promised, as a part of the pool", unit: "percentunit", help: "Sizes are limits, not reservations: above 1 not all volumes can be filled.", queries: one(`ployz_pool_promised_bytes{} / ployz_pool_size_bytes{}`, perMachine)},
		{kind: graph, title: "Volumes", stacked: true, queries: one(`sum by (machine, state) (ployz_volumes{}) > 0`, "{{machine}} {{state}}")},
	}}
}

func overlay() row {
	return row{"Overlay", []panel{
		{kind: graph, title: "Last handshake", unit: "s", help: "Over 180 s a peer that is being sent to does not answer.", queries: one(`ployz_mesh_handshake_age_seconds{}`, "{{machine}} with {{peer}}")},
		{kind: graph, title: "Received", unit: "Bps", queries: one(`rate(ployz_mesh_received_bytes_total{}[$__rate_interval])`, "{{machine}} from {{peer}}")},
		{kind: graph, title: "Sent", unit: "Bps", queries: one(`rate(ployz_mesh_sent_bytes_total{}[$__rate_interval])`, "{{machine}} to {{peer}}")},
	}}
}

func programs() row {
	return row{"Programs", []panel{
		{kind: graph, title: "Memory", unit: "bytes", queries: one(`process_resident_memory_bytes{,job="ployz"} * on (instance) group_left(program) ployz_build_info{}`, "{{machine}} {{program}}")},
		{kind: table, title: "Versions", queries: one(`ployz_build_info{}`, "")},
	}}
}
