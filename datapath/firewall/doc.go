// Package firewall owns one nftables table, "inet ployz": masquerading, published ports, and
// what workloads may reach on the machine itself.
//
// It is the only importer of google/nftables. The table is replaced in one atomic batch, and
// only when the kernel's differs from the wanted one: both are rendered to the same text and
// compared whole. Other tables are never touched; note that an accept here does not overrule
// a drop of theirs.
//
// It needs CAP_NET_ADMIN. Everything it does works with br_netfilter on and off.
package firewall
