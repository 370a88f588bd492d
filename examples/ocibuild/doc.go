// Command ocibuild turns tar files into an OCI image layout, the same bytes every time.
//
// It has two verbs. "diff" compares a root file system with the one it was built upon and writes
// the difference as a layer, with whiteouts for what is gone; so two images share their base
// layer although each tree was made in one go. "image" packs layers and a configuration into a
// layout of one image.
//
// It needs nothing but the files it is given: no root, no container engine, no registry. It must
// never put a time of its own into what it writes; times come from the tar files and from
// SOURCE_DATE_EPOCH.
package main
