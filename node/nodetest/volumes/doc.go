// Package volumes holds what an operator was promised of volumes as tests, on machines that were installed from the
// real package, with a pool in a file of their own: data that goes back with its code, and comes back again.
//
// The tests read from the outside only, as those of node/nodetest/first do.
package volumes
