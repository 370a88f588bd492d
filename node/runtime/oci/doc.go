// Package oci keeps a machine's images: it pulls them from registries, takes them in as archives,
// unpacks their layers once, and hands out the folders that an instance's root file system is
// stacked from.
//
// It needs root (layers carry owners, devices and trusted attributes), Linux's openat2, and a
// folder on a file system that can hold overlayfs layers. It stores no credentials: they come with
// the request. It removes nothing by itself; Prune removes what a plan showed and nothing else.
//
// On disk, below Options.Root:
//
//	index.json            which image has which names, since when, from where; readable
//	blobs/sha256/HEX      manifests, configs and layers as they came, named by content
//	layers/SHORT/fs       a layer unpacked on top of the layers below it, in overlayfs form
//	layers/SHORT/layer.json  what it is; SHORT is the start of its chain id in base32
//	tmp/SESSION/          work in progress of one open store; cleared once its owner is gone
//	locks/                flock files, so that several programs may share the store
//
// Everything appears by rename after fsync: what has its final name is complete.
package oci
