// Package metrics is what the programs of a machine tell Prometheus: which figures there are, and where they
// are to be had.
//
// Each program answers for itself, on the machine's overlay address and a port of its own (Program.Port), so
// that a machine whose ployzd is dead is still seen serving. The figures are looked up when somebody asks;
// nothing here runs otherwise. The table of all of them is in catalogue.go, and a program that tells one that is
// not in it, or in another shape, fails its scrape.
//
// A page is for the cluster's machines alone: not for workloads, which the packet filter keeps out, and not for
// the underlay, whose senders are turned away by their address. It needs an overlay address; a machine that is in
// no cluster has none, and then there are no metrics and no error.
//
// The package must never import node or datapath, and never hold up or end the program that it tells of.
package metrics
