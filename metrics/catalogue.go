package metrics

import "slices"

// Kind is a family's type, in Prometheus' words.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Family is one figure, or one for each combination of its labels' values.
type Family struct {
	// Programs tell it.
	Programs []Program
	Name     string
	Kind     Kind
	// Help is a sentence for whoever sees the figure for the first time.
	Help   string
	Labels []string
}

// Of returns the families that a program tells, in the catalogue's order.
func Of(p Program) []Family {
	return slices.DeleteFunc(slices.Clone(catalogue), func(f Family) bool { return !slices.Contains(f.Programs, p) })
}

// Catalogue returns all families.
func Catalogue() []Family { return slices.Clone(catalogue) }

var (
	everybody = Programs()
	daemon    = []Program{Daemon}
	gateway   = []Program{Gateway}
	resolver  = []Program{Resolver}
	store     = []Program{Edge, Core}
	edge      = []Program{Edge}
	core      = []Program{Core}
)

// catalogue has no label whose values a client could make up, and none that grows with requests.
var catalogue = []Family{
	{everybody, "ployz_build_info", Gauge, "Always 1; says which program of which version answers.", []string{"program", "version"}},

	{daemon, "ployz_operations_total", Counter, "Operations coordinated by this machine, by how they ended.", []string{"kind", "outcome"}},
	{daemon, "ployz_operations_running", Gauge, "Operations that this machine coordinates now.", nil},
	{daemon, "ployz_adoption_seconds", Gauge, "Time from the daemon's start until everything on the machine was looked at.", nil},
	{daemon, "ployz_adopted", Gauge, "What the daemon found at its start, by what it did about it.", []string{"verdict"}},
	{daemon, "ployz_cluster_members", Gauge, "Machines of the cluster, as this one last read.", nil},
	{daemon, "ployz_cluster_voters", Gauge, "Machines that vote in the store, as this one last read.", nil},
	{daemon, "ployz_mesh_handshake_age_seconds", Gauge, "Time since the last WireGuard handshake with a machine; none where there was none. It grows while nothing is sent.", []string{"peer"}},
	{daemon, "ployz_mesh_received_bytes_total", Counter, "Bytes received from a machine over the overlay.", []string{"peer"}},
	{daemon, "ployz_mesh_sent_bytes_total", Counter, "Bytes sent to a machine over the overlay.", []string{"peer"}},
	{daemon, "ployz_workloads", Gauge, "Instances on this machine, by state.", []string{"state"}},
	{daemon, "ployz_workloads_drifted", Gauge, "Instances on this machine that are not as recorded.", nil},
	{daemon, "ployz_pool_up", Gauge, "1 when the machine's pool of volumes answered, else 0, also where it has none; the next four need it.", nil},
	{daemon, "ployz_pool_size_bytes", Gauge, "What the pool can hold in all.", []string{"backend"}},
	{daemon, "ployz_pool_free_bytes", Gauge, "What volumes could still write.", []string{"backend"}},
	{daemon, "ployz_pool_promised_bytes", Gauge, "The sum of the sizes of all volumes, which may be more than the pool has.", []string{"backend"}},
	{daemon, "ployz_volumes", Gauge, "Volumes on this machine, by state: live, kept (removed, swapped out or received), incoming (half made), damaged (of any state; it cannot be looked at).", []string{"state"}},
	{daemon, "ployz_store_answers", Gauge, "1 when the machine's own mirror of the store answered, else 0; the next three need it.", nil},
	{daemon, "ployz_store_fresh", Gauge, "1 when the mirror is known to be current, else 0.", nil},
	{daemon, "ployz_store_age_seconds", Gauge, "Time since the mirror last heard from its origin.", nil},
	{daemon, "ployz_store_revision", Gauge, "The last revision that the mirror holds.", nil},

	{gateway, "ployz_gateway_requests_total", Counter, "Requests answered, by class of status; 101 is 1xx, a client that left is 4xx.", []string{"class"}},
	{gateway, "ployz_gateway_request_seconds", Histogram, "Time from a request's header to the end of its answer. Upgraded connections are left out.", nil},
	{gateway, "ployz_gateway_in_flight", Gauge, "Requests and TCP connections that are open to instances now.", nil},
	{gateway, "ployz_gateway_refusals_total", Counter, "Requests and TCP connections that the gateway answered itself, by the reason in Ployz-Reason.", []string{"reason"}},
	{gateway, "ployz_gateway_held", Gauge, "Requests and TCP connections that wait now for a service on hold.", nil},
	{gateway, "ployz_gateway_held_total", Counter, "Requests and TCP connections that waited for a service on hold; those in vain are refusals, by the reasons held-too-long and too-many-held.", nil},
	{gateway, "ployz_gateway_retries_total", Counter, "Attempts that were repeated at another instance.", nil},
	{gateway, "ployz_gateway_upstream_connect_failures_total", Counter, "Failed attempts to connect to an instance.", nil},
	{gateway, "ployz_gateway_upstreams", Gauge, "Instances that routes name, by what the gateway does with them: ready, failing (a pause after a failure) or draining.", []string{"state"}},
	{gateway, "ployz_gateway_connections", Gauge, "Open connections of clients.", nil},
	{gateway, "ployz_gateway_tcp_connections_total", Counter, "Connections accepted for TCP routes.", nil},
	{gateway, "ployz_gateway_tls_handshake_failures_total", Counter, "TLS handshakes with clients that failed.", nil},
	{gateway, "ployz_gateway_received_bytes_total", Counter, "Bytes received from clients; those of TCP routes count when the connection has ended.", nil},
	{gateway, "ployz_gateway_sent_bytes_total", Counter, "Bytes sent to clients; likewise.", nil},
	{gateway, "ployz_gateway_predecessors", Gauge, "Gateways of before an upgrade that still drain. Their figures are not told.", nil},
	{gateway, "ployz_gateway_view_sequence", Gauge, "Revision of the routing view that is served.", nil},
	{gateway, "ployz_gateway_view_age_seconds", Gauge, "Time since that view was last known to be current.", nil},
	{gateway, "ployz_gateway_view_uncertain", Gauge, "1 when a newer view may exist, else 0.", nil},
	{gateway, "ployz_gateway_view_rejected", Gauge, "Namespaces whose newest view could not be served; the one before is.", nil},

	{resolver, "ployz_dns_replies_total", Counter, "Replies sent, by response code.", []string{"rcode"}},
	{resolver, "ployz_dns_queries_total", Counter, "Queries, by what became of them: local (from the zone), forwarded, failed (of the forwarded), refused (strangers), limited, malformed, dropped, unsent.", []string{"outcome"}},
	{resolver, "ployz_dns_forward_seconds", Histogram, "Time that forwarded queries took, those answered from memory included. Local ones take microseconds.", nil},
	{resolver, "ployz_dns_cache_lookups_total", Counter, "Looks into the memory of upstreams' answers: hit, miss, or stale (an expired answer was served).", []string{"result"}},
	{resolver, "ployz_dns_cache_entries", Gauge, "Remembered answers of upstreams.", nil},
	{resolver, "ployz_dns_cache_bytes", Gauge, "Memory that they take.", nil},
	{resolver, "ployz_dns_view_sequence", Gauge, "Revision of the routing view that is answered from.", nil},
	{resolver, "ployz_dns_view_age_seconds", Gauge, "Time since that view was last known to be current.", nil},
	{resolver, "ployz_dns_view_uncertain", Gauge, "1 when a newer view may exist, else 0.", nil},
	{resolver, "ployz_dns_view_rejected", Gauge, "Namespaces whose newest view could not be served; the one before is.", nil},

	{store, "ployz_nats_config_info", Gauge, "Always 1; says which configuration the server runs with.", []string{"role", "digest"}},
	{store, "ployz_nats_reloads_total", Counter, "Reloads of the configuration, by whether the server took it.", []string{"role", "result"}},
	{store, "ployz_nats_connections", Gauge, "Open connections of clients.", []string{"role"}},
	{store, "ployz_nats_leafs", Gauge, "Leaf connections: an edge's to the cores, a core's from the edges.", []string{"role"}},
	{store, "ployz_nats_slow_consumers_total", Counter, "Connections that were cut because they did not keep up.", []string{"role"}},
	{store, "ployz_nats_memory_bytes", Gauge, "Resident memory of the server.", []string{"role"}},
	{store, "ployz_nats_storage_bytes", Gauge, "Disk that the server's streams take.", []string{"role"}},
	{store, "ployz_nats_stream_messages", Gauge, "Messages in a stream.", []string{"role", "stream"}},
	{store, "ployz_nats_stream_bytes", Gauge, "Bytes in a stream.", []string{"role", "stream"}},
	{store, "ployz_nats_stream_last_sequence", Gauge, "Sequence of a stream's last message.", []string{"role", "stream"}},
	{edge, "ployz_nats_mirror_lag", Gauge, "Messages of the origin that the mirror does not have yet.", []string{"role", "stream"}},
	{edge, "ployz_nats_mirror_active_seconds", Gauge, "Time since the mirror last heard from its origin; none where it never has.", []string{"role", "stream"}},
	{core, "ployz_nats_leader", Gauge, "1 when this server leads the voters, else 0.", []string{"role"}},
	{core, "ployz_nats_leader_known", Gauge, "1 when this server knows of a leader, else 0: then nothing can be committed.", []string{"role"}},
	{core, "ployz_nats_voters", Gauge, "Voters of the store, this one included.", []string{"role"}},
	{core, "ployz_nats_voters_seen", Gauge, "Those of them that are heard, this one included. Only the leader hears all.", []string{"role"}},
	{core, "ployz_nats_stream_leader", Gauge, "1 when this server leads the stream, else 0.", []string{"role", "stream"}},
}
