// Package machine knows the cluster's machines: what a membership is, and the operations that
// found the cluster and change who belongs to it.
package machine
