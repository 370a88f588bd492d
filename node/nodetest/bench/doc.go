// Package bench measures what the first issue sets bounds for, each on a machine installed from the
// package and with ratios taken in one run. A figure beyond its bound, and a request that failed,
// fail the benchmark. So does a machine that joins too slowly, alone or among five at once, in a lab of ten.
// What grows with the cluster is measured without packages: a store's core and many edges, each a real process
// on loopback, and 200 consumers of the routing events spread over them. How fast a workload starts through its
// unit is measured by node/nodetest/inside, next to the runtime's own tests.
package bench
