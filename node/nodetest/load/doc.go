// Package load asks a cluster for things at a steady rate and counts every single answer, so that
// "nothing failed" is a number: requests on fresh and on kept connections, queries to a resolver, and
// connections that stay open for the whole run.
//
// The load is open: a request leaves at its time, whether or not the one before was answered, so
// that a pause of the server shows up as latency of many requests and not as one slow one. A
// request that was not answered as wanted within Patience is a failure, with its time and its reason.
//
// node/nodetest/agent and node/nodetest/probe play it inside of labs; node/nodetest/labtest starts it there.
package load
